"""One native call for a row of kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnforge.backends.numba.signature import Kernel
from cnnforge.backends.numba.team import team


@dataclass(frozen=True)
class Call:
    """A kernel bound to its arrays: a step by itself, and a line in the driver's table.

    count: parts that its range may be cut into;  kept: what the addresses in ``block`` point into
    called: kernels that the kernel calls, and where in ``block`` it looks for them
    """

    kernel: Kernel
    block: NDArray[np.int64]
    count: int
    threads: int
    kept: tuple[Any, ...] = field(repr=False)
    called: tuple[tuple[int, Kernel], ...]

    def kernels(self) -> tuple[Kernel, ...]:
        """All that it needs compiled."""
        return self.kernel, *(kernel for _, kernel in self.called)

    def keeping(self, *more: Any) -> Call:
        """The same, with more that addresses point into."""
        return replace(self, kept=(*self.kept, *more))

    def row(self) -> tuple[int, int, int]:
        for at, kernel in self.called:
            self.block[at] = kernel.address
        return self.kernel.address, self.block.ctypes.data, self.count

    def __call__(self) -> None:
        Run([self])()


#: Bytes that a run must touch before it is spread over threads. Below, threads meet more than they work: one sample of
#: LeNet, 0.28 MB, takes 17 us on one thread and 18 on two, and 40 where another program's threads keep the core busy.
SPREAD = 300_000


class Run:
    """Neighbouring calls as one step: between two kernels all threads meet, because the planner lets later arrays lie
    where earlier ones were. A run that touches little stays on one thread; the results are the same."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self.calls = tuple(calls)
        self._table = np.array([c.row() for c in calls], np.int64)
        touched = {a.ctypes.data: a.nbytes for c in calls for a in c.kept if isinstance(a, np.ndarray)}
        self._threads = max(c.threads for c in calls) if sum(touched.values()) > SPREAD else 1

    def __call__(self) -> None:
        team(self._threads).walk(self._table)


def bound(kernel: Kernel, count: int, threads: int, *arguments: Any) -> Call:
    """A call of ``kernel`` over ``range(count)``.

    arguments: arrays (their addresses are passed), integers, floats (passed as the address of one float64), and kernels
    that it calls
    """
    block = np.empty(len(arguments), np.int64)
    kept: list[Any] = []
    called: list[tuple[int, Kernel]] = []
    for i, argument in enumerate(arguments):
        if isinstance(argument, Kernel):
            called.append((i, argument))
            continue
        if isinstance(argument, float):
            argument = np.array([argument])
        if isinstance(argument, np.ndarray):
            assert argument.flags.c_contiguous, "kernels take arrays as they lie"
            kept.append(argument)
            block[i] = argument.ctypes.data
        else:
            block[i] = argument
    return Call(kernel, block, count, threads, tuple(kept), tuple(called))
