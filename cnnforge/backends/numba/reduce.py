"""Sums over the batch, made in a fixed number of shards, added up."""

from __future__ import annotations

from cnnforge.backends.numba.driver import Call, bound
from cnnforge.backends.numba.signature import Kernel, longs
from cnnforge.backends.numba.vectors import LANES, put_upto, upto
from cnnforge.backends.numpy.types import Array

#: Elements of a weight gradient that one part of the reduction adds up.
REDUCED = 1024


@Kernel
def _reduce(block: int, lo: int, hi: int, thread: int) -> None:
    """sums (shards, n) -> their sum (n,), always in the same order; range: pieces of ``REDUCED``. Bound by reading."""
    a = longs(block)
    sums, out, n, shards = a[0], a[1], a[2], a[3]
    for i in range(lo * REDUCED, min(hi * REDUCED, n), LANES):
        total = upto(sums + 4 * i, n - i)
        for s in range(1, shards):
            total += upto(sums + 4 * (s * n + i), n - i)
        put_upto(out + 4 * i, total, n - i)


def reduced(sums: Array, out: Array, threads: int) -> Call:
    """``sums`` (shards, …) added up over the shards."""
    return bound(_reduce, -(-out.size // REDUCED), threads, sums, out, out.size, len(sums))
