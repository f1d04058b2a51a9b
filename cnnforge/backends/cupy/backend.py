"""The CuPy backend itself: memory on the device, kernels bound to it, and whole steps captured into one graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from cnnforge.backends.base import Array, Distort, Distortion, Gather, Kernel, Report, Step, Stock
from cnnforge.backends.cupy.capabilities import capabilities
from cnnforge.backends.cupy.chains import Part, tail
from cnnforge.backends.cupy.device import Arrays, Device, Instead, Queued
from cnnforge.backends.cupy.library import fused
from cnnforge.backends.cupy.ops import KERNELS
from cnnforge.backends.cupy.pictures import DeviceCanvas, DeviceStock
from cnnforge.backends.numpy.capabilities import GATHER
from cnnforge.backends.together import SINGLE, Together


def _chained(device: Device) -> Kernel:
    """The kernel of ``a+b+c``: ``a`` does the others' work on each number before it stores it.

    The way is that of ``a``; a library may have one kernel for all.
    """

    def bind(ins: Arrays, outs: Arrays, scratch: Arrays, *, parts: Sequence[Part], way: str = "") -> Step:
        if (whole := fused(device, ins, outs, scratch, parts, way)) is not None:
            return whole
        (head, own, attrs), *rest = parts
        chosen = {"way": way} if way else {}
        return KERNELS[head](device, ins[:own], outs, scratch, then=tail(rest, ins[own:]), **attrs, **chosen)

    return bind


class CupyBackend:
    """A GPU. Steps are queued on one stream, batches on another; only what the host asks for is waited for."""

    name = "cupy"
    capabilities = capabilities()

    def __init__(self, device: Device, graphs: bool = True, together: Together = SINGLE) -> None:
        """``graphs``: capture what always runs in one order; without, every kernel is queued by itself (to debug).

        together: see ``cnnforge.backends.create``
        """
        self.device, self._graphs, self._together = device, graphs, together

    def buffer(self, nbytes: int) -> Any:
        """Zeroed device memory."""
        return self.device.zeros(nbytes)

    def view(self, buffer: Any, offset: int, shape: tuple[int, ...], dtype: str) -> Array:
        """An array at ``offset`` bytes into ``buffer``. Raises IndexError where it would reach past the end."""
        return self.device.view(buffer, offset, shape, dtype)

    def kernel(self, op: str) -> Kernel:
        """The kernel of ``op``; of a chain, its head's."""
        if "+" in op:
            return _chained(self.device)
        if op == GATHER:
            return partial(KERNELS[op], self.device, together=self._together)
        return partial(KERNELS[op], self.device)

    def prepare(self, steps: Iterable[Step], report: Report) -> None:
        """Kernels are compiled when they are bound."""

    def gather(self, x: Any, mean: Any, factor: Any, channels: int, down: Any, across: Any) -> Gather | None:
        """What the data's own NumPy does, in host memory: see ``stock``."""
        return None

    def distort(
        self, x: Any, mean: Any, factor: Any, channels: int, down: Any, across: Any, how: Distortion
    ) -> Distort | None:
        """What the data's own NumPy does."""
        return None

    def stock(self, x: Any, batch: int, stays: bool) -> Stock | None:
        """For bytes; other pictures are the host's."""
        if str(x.dtype) != "uint8" or not x.size:
            return None
        return DeviceStock(self.device, x, batch, stays)

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

    def canvas(self, array: Array) -> Any:
        """Pinned memory for orders, or for pixels."""
        return DeviceCanvas(self.device, array.shape, str(array.dtype), self.link)

    def send(self, room: Any, into: Array) -> None:
        """Without waiting for it, beside the steps that run."""
        if isinstance(room, DeviceCanvas):
            room.send(into)
        else:
            self.device.send(room, into)

    def release(self, into: Array) -> None:
        """What is sent there next need not wait for steps that are asked for from now on."""
        self.device.release(into)

    def sent(self, room: Any) -> None:
        """Wait for the last copy from this memory."""
        if isinstance(room, DeviceCanvas):
            room.sent()
        else:
            self.device.sent(room)

    def put(self, host: Any, into: Array) -> None:
        """Copy to the device, in order with the steps."""
        self.device.put(host, into)

    def get(self, array: Array) -> Any:
        """A NumPy copy, once the steps before it are done."""
        return self.device.get(array)

    def sync(self) -> None:
        """Wait for everything that is queued."""
        self.device.sync()

    def join(self) -> None:
        """Meet the other processes' devices, where there are any."""
        if self._together.size > 1:
            self.device.join()

    def sum(self, array: Array) -> None:
        """Queued; alone, nothing."""
        if self._together.size > 1:
            self.device.sum(array)

    def align(self, arrays: Mapping[str, Array]) -> None:
        """Queued; alone, nothing."""
        if self._together.size > 1:
            self.device.align([arrays[name] for name in sorted(arrays)])
