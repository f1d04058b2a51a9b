"""Ranks that are threads of one process: what processes do by MPI, for tests of everything but MPI."""

from __future__ import annotations

from collections.abc import Callable
from threading import Barrier, Thread
from typing import Any

import numpy as np

from cnnforge.train.metrics import Sums
from cnnforge.train.ranks import Alone, shard


class _Table:
    """Where all ranks lay down what they bring."""

    def __init__(self, size: int) -> None:
        self.places: list[Any] = [None] * size
        self.barrier = Barrier(size, timeout=60)


class ThreadRank(Alone):
    """One of several."""

    def __init__(self, rank: int, size: int, table: _Table) -> None:
        self.rank, self.size, self._table, self.idle = rank, size, table, False
        self.host = rank, size

    def every(self, value: Any) -> list[Any]:
        self._table.places[self.rank] = value
        self._table.barrier.wait()
        found = list(self._table.places)
        self._table.barrier.wait()
        return found

    def shard(self, n, unit=1):
        return shard(n, self.rank, self.size, unit)

    def take(self, shard):
        self.idle = not shard
        return max(1, len(shard))

    def sum(self, array):
        array[...] = np.sum(self.every(array.copy()), axis=0)

    def total(self, part):
        every = self.every(part)
        return Sums(sum(p.loss for p in every), sum(p.hits for p in every), sum(p.samples for p in every))

    def collect(self, own, into):
        into[...] = self.every(np.zeros_like(own) if self.idle else own.copy())

    def first(self, value):
        return self.every(value)[0]

    def earliest(self, found, place):
        every = [pair for pair in self.every((place, found)) if pair[1] is not None]
        return min(every, key=lambda pair: pair[0])[1] if every else None

    def differing(self, value):
        every = self.every(value)
        return [rank for rank, theirs in enumerate(every) if theirs != every[0]]

    def align(self, arrays):
        for array in arrays.values():
            array[...] = self.every(array.copy())[0]

    def stopping(self, reason):
        return next((r for r in self.every(reason) if r is not None), None)


def together(size: int, work: Callable[[ThreadRank], Any]) -> list[Any]:
    """What ``work`` gives on each of ``size`` ranks, or the error that it raises there."""
    table, results = _Table(size), [None] * size

    def one(rank: int) -> None:
        try:
            results[rank] = work(ThreadRank(rank, size, table))
        except Exception as error:
            results[rank] = error

    threads = [Thread(target=one, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
