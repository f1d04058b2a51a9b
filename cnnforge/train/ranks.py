"""The processes that train one net together, as the parts of a training see them: each is a rank, from 0.

All ranks run the same loop over the same batches, each on its own shard of every batch. What follows from a whole batch
they add up; what follows from those sums is then the same on all of them. Rank 0 alone writes.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from cnnforge.backends.together import Single, T, Together
from cnnforge.errors import InterruptedRun
from cnnforge.train.metrics import Sums


def shard(n: int, rank: int, size: int, unit: int = 1) -> range:
    """Which of n samples are a rank's: neighbours, one more for the first ranks where they do not divide.

    unit: so many of them stay together, counted from the first
    """
    each, more = divmod(-(-n // unit), size)
    begin = rank * each + min(rank, more)
    end = begin + each + (rank < more)
    return range(min(begin * unit, n), min(end * unit, n))


class Ranks(Together, Protocol):
    """What a training asks of the processes that do it. All ranks make the same calls in the same order.

    Arrays on a device are the backend's to add up and to align: it talks to the others by what ``Together`` says.
    """

    def threads(self, wanted: int | None) -> int | None:
        """Threads for this process: ``wanted`` where given, else its part of the host's cores."""

    def shard(self, n: int, unit: int = 1) -> range:
        """Which of a batch's n samples are this rank's, as ``shard``; none where there are more ranks than units."""

    def take(self, shard: range) -> int:
        """Samples to compute for this shard: one, for company, where it is empty; what it gives then counts nothing.

        A rank without samples takes part in whatever the others do together.
        """

    def total(self, part: Sums) -> Sums:
        """The sums over all ranks."""

    def first(self, value: T) -> T:
        """Rank 0's value."""

    def earliest(self, found: T | None, place: int) -> T | None:
        """Of what ranks have found, that of the smallest ``place``; None where none has found anything."""

    def differing(self, value: str) -> list[int]:
        """The ranks whose value is not rank 0's."""

    def in_order(self, work: Callable[[], T]) -> T:
        """Do ``work`` on rank 0, then on all the others. An error of rank 0's ends all of them."""

    def stopping(self, reason: InterruptedRun | None) -> InterruptedRun | None:
        """The reason to stop that any rank has."""


class Alone(Single):
    """One process, which is all there is."""

    def __enter__(self) -> Alone:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Nobody has to be told."""

    def threads(self, wanted: int | None) -> int | None:
        return wanted

    def shard(self, n: int, unit: int = 1) -> range:
        return range(n)

    def take(self, shard: range) -> int:
        return len(shard)

    def total(self, part: Sums) -> Sums:
        return part

    def first(self, value: T) -> T:
        return value

    def earliest(self, found: T | None, place: int) -> T | None:
        return found

    def differing(self, value: str) -> list[int]:
        return []

    def in_order(self, work: Callable[[], T]) -> T:
        return work()

    def stopping(self, reason: InterruptedRun | None) -> InterruptedRun | None:
        return reason


ALONE = Alone()
