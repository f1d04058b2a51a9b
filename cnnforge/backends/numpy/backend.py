"""The NumPy backend itself: its memory, its kernels by op, its way of running them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from importlib import import_module
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from cnnforge import optim
from cnnforge.backends.base import Distort, Distortion, Gather, Kernel, Report, Step, Stock
from cnnforge.backends.numpy import (
    activation,
    conv,
    hard_activation,
    linear,
    loss,
    lrn,
    merge,
    norm,
    optimizer,
    pool,
    precision,
    random,
    ranks,
    sample_norm,
    tally,
    tensorwise,
)
from cnnforge.backends.numpy.capabilities import GATHER, capabilities
from cnnforge.backends.numpy.fused import fused
from cnnforge.backends.together import SINGLE, Together
from cnnforge.errors import BackendError
from cnnforge.ir.op import added_ops
from cnnforge.plan.arena import ALIGN

KERNELS: dict[str, Kernel] = {
    **conv.KERNELS, **linear.KERNELS, **pool.KERNELS, **activation.KERNELS, **hard_activation.KERNELS,
    **norm.KERNELS, **sample_norm.KERNELS, **lrn.KERNELS, **random.KERNELS, **merge.KERNELS, **loss.KERNELS,
    **optimizer.KERNELS, **tensorwise.KERNELS, **ranks.KERNELS, **precision.KERNELS, **tally.KERNELS,
}  # fmt: skip


def _added(op: str) -> Kernel:
    """The kernel of an installed package's op. Raises BackendError where it cannot be imported."""
    place = added_ops()[op].numpy
    module, _, function = place.partition(":")
    try:
        kernel: Kernel = getattr(import_module(module), function)
    except Exception as error:  # whatever a stranger's module does when it is imported
        raise BackendError(
            f"the kernel of op {op} cannot be used",
            where=f"{place}, named by an entry point in [cnnforge.ops]",
            why=f"{type(error).__name__}: {error}",
            fix="another version of the package that adds the op",
        ) from None
    if any(p.name == "rate" or p.kind == p.VAR_KEYWORD for p in signature(kernel).parameters.values()):
        return kernel

    def bind(*arrays: Any, **attrs: Any) -> Step:
        """``optimizer.groups`` gives a rate to kernels that may have been written before there were any."""
        if "rate" in attrs and op in optim.OPTIMIZERS:
            raise BackendError(
                f"optimizer {op} has one learning rate for all parameters",
                path=("optimizer", "groups"),
                why=f"a group sets lr, and the optimizer's kernel, {place}, takes no 'rate'",
                fix=f"no lr in optimizer.groups, or a package whose kernel of {op} takes rate: float = 1.0",
            )
        return kernel(*arrays, **attrs)

    return bind


class NumpyBackend:
    """NumPy on the host. Buffers are plain bytes, arrays are views of them."""

    name = "numpy"
    capabilities = capabilities()

    def __init__(self, threads: int | None = None, together: Together = SINGLE) -> None:
        """``threads``: of BLAS while steps run; 1 where not given.  ``together``: see ``cnnforge.backends.create``

        The products of one layer are many and small. On two cores LeNet's step took 2 to 6 times as long with two
        threads as with one, most of it waiting, and one thread always adds in the same order.
        """
        self.threads, self._together = threads or 1, together
        self._blas = ThreadpoolController()

    def buffer(self, nbytes: int) -> NDArray[np.uint8]:
        """Zeroed bytes that begin on a cache line."""
        raw = np.zeros(nbytes + ALIGN, np.uint8)
        start = -raw.ctypes.data % ALIGN
        return raw[start : start + nbytes]

    def view(self, buffer: NDArray[np.uint8], offset: int, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """An array at ``offset`` bytes into ``buffer``. Raises IndexError where it would reach past the end."""
        end = offset + int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if not 0 <= offset <= end <= len(buffer):
            raise IndexError(f"{shape} {dtype} at {offset} does not fit {len(buffer)} bytes")
        return buffer[offset:end].view(dtype).reshape(shape)

    def kernel(self, op: str) -> Kernel:
        """The kernel of ``op``; a fused op runs its parts one after another in the same memory."""
        if "+" in op:
            return fused(KERNELS)
        if op == GATHER:
            return partial(ranks.gather_ranks, collect=self._together.collect)
        return KERNELS[op] if op in KERNELS else _added(op)

    def prepare(self, steps: Iterable[Step], report: Report) -> None:
        """Nothing is missing."""

    def gather(self, x: Any, mean: Any, factor: Any, channels: int, down: Any, across: Any) -> Gather | None:
        """What the data's own NumPy does."""
        return None

    def distort(
        self, x: Any, mean: Any, factor: Any, channels: int, down: Any, across: Any, how: Distortion
    ) -> Distort | None:
        """What the data's own NumPy does."""
        return None

    def stock(self, x: Any, batch: int, stays: bool) -> Stock | None:
        """The host makes all batches."""
        return None

    def link(self, steps: Iterable[Step]) -> list[Step]:
        """Every step by itself."""
        return list(steps)

    def run(self, steps: Iterable[Step]) -> None:
        """One after another. BLAS gets its threads back at the end."""
        with np.errstate(all="ignore"), self._blas.limit(limits=self.threads, user_api="blas"):
            for step in steps:
                step()

    def instead(self, step: Step) -> bool:
        """Every way is to be had."""
        return False

    def free(self) -> int | None:
        """The system swaps before it refuses."""
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

    def put(self, host: Any, into: NDArray[Any]) -> None:
        """Copy."""
        into[...] = host

    def get(self, array: NDArray[Any]) -> NDArray[Any]:
        """A copy."""
        return array.copy()

    def sync(self) -> None:
        """Nothing runs in the background here."""

    def join(self) -> None:
        """They are met where the training began."""

    def sum(self, array: NDArray[Any]) -> None:
        """Through the host, whose memory it is."""
        self._together.sum(array)

    def align(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Through the host."""
        self._together.align(arrays)
