"""Sums over the batch, made in a fixed number of shards, added up."""

from __future__ import annotations

from numba import carray

from cnnforge.backends.numba.driver import Call, bound
from cnnforge.backends.numba.signature import Kernel, floats, longs
from cnnforge.backends.numpy.types import Array

#: Elements of a weight gradient that one part of the reduction adds up.
REDUCED = 1024


@Kernel
def _reduce(block: int, lo: int, hi: int, thread: int) -> None:
    """sums (shards, n) -> their sum (n,), always in the same order; range: pieces of ``REDUCED``. Bound by reading."""
    a = carray(longs(block), (4,))
    n, shards = a[2], a[3]
    sums, out = carray(floats(a[0]), (shards, n)), carray(floats(a[1]), (n,))
    for piece in range(lo, hi):
        start, stop = piece * REDUCED, min((piece + 1) * REDUCED, n)
        for i in range(start, stop):
            out[i] = sums[0, i]
        for s in range(1, shards):
            for i in range(start, stop):
                out[i] += sums[s, i]


def reduced(sums: Array, out: Array, threads: int) -> Call:
    """``sums`` (shards, …) added up over the shards."""
    return bound(_reduce, -(-out.size // REDUCED), threads, sums, out, out.size, len(sums))
