"""The CuPy backend itself: memory on the device, kernels bound to it, and whole steps captured into one graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from cnnforge.backends.base import Array, Collect, Distort, Distortion, Gather, Kernel, Report, Step
from cnnforge.backends.cupy.capabilities import capabilities
from cnnforge.backends.cupy.device import Arrays, Device, Instead, Queued, chain
from cnnforge.backends.cupy.library import fused
from cnnforge.backends.cupy.ops import KERNELS
from cnnforge.backends.numpy.capabilities import GATHER


def _chained(device: Device) -> Kernel:
    """The kernel of ``a+b+c``: ``a`` writes the output, the others overwrite it where it lies.

    The way is that of ``a``; a library may have one kernel for all.
    """

    def bind(
        ins: Arrays, outs: Arrays, scratch: Arrays, *, parts: Sequence[tuple[str, int, Mapping[str, Any]]],
        way: str = "",
    ) -> Step:  # fmt: skip
        if (whole := fused(device, ins, outs, scratch, parts, way)) is not None:
            return whole
        steps: list[Step] = []
        taken = 0
        for op, extra, attrs in parts:
            read = ins[:extra] if not steps else (outs[0], *ins[taken : taken + extra])
            # All workspace of a chain belongs to its first part: the others work element by element.
            chosen = {"way": way} if way and not steps else {}
            steps.append(KERNELS[op](device, read, outs, () if steps else scratch, **attrs, **chosen))
            taken += extra
        return chain(steps)

    return bind


class CupyBackend:
    """A GPU. Steps are queued on one stream; only what the host asks for is waited for."""

    name = "cupy"
    capabilities = capabilities()

    def __init__(self, device: Device, graphs: bool = True, collect: Collect | None = None) -> None:
        """``graphs``: capture what always runs in one order; without, every kernel is queued by itself (to debug).

        collect: see ``cnnforge.backends.create``
        """
        self.device, self._graphs, self._collect = device, graphs, collect

    def buffer(self, nbytes: int) -> Any:
        """Zeroed device memory."""
        return self.device.zeros(nbytes)

    def view(self, buffer: Any, offset: int, shape: tuple[int, ...], dtype: str) -> Array:
        """An array at ``offset`` bytes into ``buffer``. Raises IndexError where it would reach past the end."""
        return self.device.view(buffer, offset, shape, dtype)

    def kernel(self, op: str) -> Kernel:
        """The kernel of ``op``; of a chain, its parts one after another."""
        if "+" in op:
            return _chained(self.device)
        if op == GATHER and self._collect is not None:
            return partial(KERNELS[op], self.device, collect=self._collect)
        return partial(KERNELS[op], self.device)

    def prepare(self, steps: Iterable[Step], report: Report) -> None:
        """Kernels are compiled when they are bound."""

    def gather(self, x: Any, mean: Any, factor: Any, channels: int, down: Any, across: Any) -> Gather | None:
        """What the data's own NumPy does."""
        return None

    def distort(
        self, x: Any, mean: Any, factor: Any, channels: int, down: Any, across: Any, how: Distortion
    ) -> Distort | None:
        """What the data's own NumPy does."""
        return None

    def link(self, steps: Iterable[Step]) -> list[Step]:
        """Neighbours that only queue work as one graph; others by themselves."""
        linked: list[Step] = []
        waiting: list[Queued] = []
        for step in (*steps, None):
            if isinstance(step, Queued) and self._graphs:
                waiting.append(step)
                continue
            if waiting:
                several = sum(one.launches for one in waiting) > 1
                linked.append(self.device.capture(waiting) if several else waiting[0])
                waiting = []
            if step is not None:
                linked.append(step)
        return linked

    def run(self, steps: Iterable[Step]) -> None:
        """Queue them, one after another."""
        self.device.run(steps)

    def instead(self, step: Step) -> bool:
        """Are these kernels of our own, in the place of a library's that it does not have?"""
        return isinstance(step, Instead)

    def free(self) -> int | None:
        """Bytes of the card's memory that are free."""
        return self.device.free()

    def room(self, array: Array) -> Any:
        """Pinned memory of its shape."""
        return self.device.room(array.shape, str(array.dtype))

    def send(self, room: Any, into: Array) -> None:
        """Without waiting for it."""
        self.device.send(room, into)

    def put(self, host: Any, into: Array) -> None:
        """Copy to the device, in order with the steps."""
        self.device.put(host, into)

    def get(self, array: Array) -> Any:
        """A NumPy copy, once the steps before it are done."""
        return self.device.get(array)

    def sync(self) -> None:
        """Wait for everything that is queued."""
        self.device.sync()
