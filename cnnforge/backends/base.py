"""The whole contract between a plan and a device."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from cnnforge.plan.capabilities import Capabilities

#: A device array: whatever the backend's ``view`` gives.
Array = Any
#: One bound kernel call: no arguments, no shape logic, no allocation.
Step = Callable[[], None]
#: ``kernel(ins, outs, scratch, **attrs) -> step``: called once per binding; ``attrs`` are the node's own.
Kernel = Callable[..., Step]
#: ``gather(rows, picks, out)``: what ``Backend.gather`` gives.
Gather = Callable[[Any, Any, Any], None]
#: ``report(done, total)``: told how far something that takes long has come.
Report = Callable[[int, int], None]


class Backend(Protocol):
    """A device that can run plans."""

    name: str
    capabilities: Capabilities

    def buffer(self, nbytes: int) -> Any:
        """Zeroed device memory, aligned to at least 64 bytes."""

    def view(self, buffer: Any, offset: int, shape: tuple[int, ...], dtype: str) -> Array:
        """An array of ``shape`` at ``offset`` bytes into ``buffer``, sharing its memory."""

    def kernel(self, op: str) -> Kernel:
        """The kernel that runs ``op``, a fused one included."""

    def prepare(self, steps: Iterable[Step], report: Report) -> None:
        """Have ready what running ``steps`` would first have to wait for; linking does it too, without a word.

        ``report`` is called before and while something is done, and not at all where nothing is missing.
        """

    def gather(self, x: Any, mean: Any, factor: Any, channels: int, down: Any, across: Any) -> Gather | None:
        """A compiled way from stored pictures to a batch of input in host memory; None: NumPy's will do.

        x: (n, H, W, c), NumPy;  mean, factor: (c,) float32
        down: (R, H), across: (K, W) int32: lists of source rows and columns, negative for black (``data.augment``)
        gather(rows (N,), picks (N, 2) of these lists or None, out (N, H, W, channels) float32): out[i] is
        (x[rows[i]] - mean) * factor, moved first, a single channel repeated. Equal to NumPy's to the bit; it leaves
        Python's lock free, and one thread at a time may call it.
        """

    def link(self, steps: Iterable[Step]) -> list[Step]:
        """Steps that always run in this order, with neighbours joined into one where the device can."""

    def run(self, steps: Iterable[Step]) -> None:
        """Run bound steps in order. Overflow gives inf or nan without a word: the loop looks at the loss."""

    def put(self, host: Any, into: Array) -> None:
        """Copy a NumPy array (or number) to the device."""

    def get(self, array: Array) -> Any:
        """A NumPy copy."""

    def sync(self) -> None:
        """Wait until everything asked for has happened."""
