"""One native call for a row of kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numba
import numpy as np
from numba import prange
from numpy.typing import NDArray

from cnnforge.backends.numba.cache import compiled
from cnnforge.backends.numba.signature import Kernel, call

#: Columns of the table: address of the kernel, address of its arguments, how many parts its range has.
COLUMNS = 3


def _drive(table: NDArray[np.int64], threads: int) -> None:
    for k in range(table.shape[0]):
        n = table[k, 2]
        parts = min(threads, n)
        if parts == 1:
            call(table[k, 0], table[k, 1], 0, n, 0)
        else:
            for t in prange(parts):
                call(table[k, 0], table[k, 1], t * n // parts, (t + 1) * n // parts, t)


@cache
def _compiled() -> Any:
    signature = "void(int64[:, ::1], intp)"
    return compiled(lambda cached: numba.njit(signature, parallel=True, nogil=True, cache=cached)(_drive))


def drive(table: NDArray[np.int64], threads: int) -> None:
    """Run every kernel of ``table``, one after another, each spread over ``threads``.

    Between two kernels all threads meet: the planner lets later arrays lie where earlier ones were. Measured with two
    threads: 1.3 microseconds.
    """
    _compiled()(table, threads)


@dataclass(frozen=True)
class Call:
    """A kernel bound to its arrays: a step by itself, and a line in the driver's table.

    count: parts that its range may be cut into;  kept: what the addresses in ``block`` point into
    """

    kernel: Kernel
    block: NDArray[np.int64]
    count: int
    threads: int
    kept: tuple[Any, ...] = field(repr=False)

    def keeping(self, *more: Any) -> Call:
        """The same, with more that addresses point into."""
        return replace(self, kept=(*self.kept, *more))

    def row(self) -> tuple[int, int, int]:
        return self.kernel.address, self.block.ctypes.data, self.count

    def __call__(self) -> None:
        drive(np.array([self.row()], np.int64), self.threads)


class Run:
    """Neighbouring calls as one step."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self.calls = tuple(calls)
        self._table = np.array([c.row() for c in calls], np.int64)
        self._threads = max(c.threads for c in calls)

    def __call__(self) -> None:
        drive(self._table, self._threads)


def bound(kernel: Kernel, count: int, threads: int, *arguments: Any) -> Call:
    """A call of ``kernel`` over ``range(count)``.

    arguments: arrays (their addresses are passed), integers, and floats (passed as the address of one float64)
    """
    block = np.empty(len(arguments), np.int64)
    kept: list[Any] = []
    for i, argument in enumerate(arguments):
        if isinstance(argument, float):
            argument = np.array([argument])
        if isinstance(argument, np.ndarray):
            assert argument.flags.c_contiguous, "kernels take arrays as they lie"
            kept.append(argument)
            block[i] = argument.ctypes.data
        else:
            block[i] = argument
    return Call(kernel, block, count, threads, tuple(kept))
