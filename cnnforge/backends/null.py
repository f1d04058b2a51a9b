"""A backend without a device: plans and binds everything, computes nothing. For tests of the planner anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cnnforge.backends.base import Distort, Distortion, Gather, Kernel, Report, Step, Stock
from cnnforge.backends.numpy.capabilities import CAPABILITIES
from cnnforge.plan.capabilities import Capabilities


class NullBackend:
    """Arrays are their shapes; every kernel does nothing."""

    name = "null"

    def __init__(self, capabilities: Capabilities = CAPABILITIES) -> None:
        self.capabilities = capabilities

    def buffer(self, nbytes: int) -> int:
        return nbytes

    def view(self, buffer: int, offset: int, shape: tuple[int, ...], dtype: str) -> tuple[int, ...]:
        return shape

    def kernel(self, op: str) -> Kernel:
        def bind(ins: Any, outs: Any, scratch: Any, **attrs: Any) -> Step:
            return lambda: None

        return bind

    def prepare(self, steps: Iterable[Step], report: Report) -> None:
        """Nothing is missing."""

    def gather(self, x: Any, mean: Any, factor: Any, channels: int, down: Any, across: Any) -> Gather | None:
        return None

    def distort(
        self, x: Any, mean: Any, factor: Any, channels: int, down: Any, across: Any, how: Distortion
    ) -> Distort | None:
        return None

    def stock(self, x: Any, batch: int, stays: bool) -> Stock | None:
        """The host makes all batches."""
        return None

    def link(self, steps: Iterable[Step]) -> list[Step]:
        return list(steps)

    def run(self, steps: Iterable[Step]) -> None:
        for step in steps:
            step()

    def instead(self, step: Step) -> bool:
        """Nothing computes anything."""
        return False

    def free(self) -> int | None:
        """Nothing takes any."""
        return None

    def room(self, array: Any) -> Any:
        """The same memory."""
        return array

    def canvas(self, array: Any) -> Any:
        """The same memory."""
        return array

    def send(self, room: Any, into: Any) -> None:
        """It is there."""

    def release(self, into: Any) -> None:
        """Nothing waits for it."""

    def sent(self, room: Any) -> None:
        """Nothing has to leave it: steps are done when they have been asked for."""

    def put(self, host: Any, into: Any) -> None:
        """Nothing is kept."""

    def get(self, array: Any) -> Any:
        return array

    def sync(self) -> None:
        """Nothing runs."""

    def join(self) -> None:
        """Nobody is there."""

    def sum(self, array: Any) -> None:
        """Nothing is kept."""

    def align(self, arrays: Mapping[str, Any]) -> None:
        """Nothing is kept."""
