"""Workspace of loops over channels."""

from __future__ import annotations

from math import lcm
from typing import Any

from cnnforge.backends.numba.rules.base import THREADS
from cnnforge.ir.op import Scratch

#: Parts, at most, that sums over the batch are cut into. How many depends on the shape, not on the threads: the results
#: are then the same to the bit.
SHARDS = 32


def row_width(channels: int) -> int:
    """Floats of a row for loops over channels: all of them, as often as makes whole vectors, at least four."""
    whole = lcm(channels, 16)
    return whole * -(-64 // whole)


def shard_sums(count: int, x: Any) -> Scratch:
    """``count`` rows per shard; the first C of each row are the sums, the rest is room for the loops."""
    return Scratch((SHARDS, count, row_width(x.shape[-1])), x.dtype, False)


def rows(count: int, x: Any) -> Scratch:
    """``count`` rows of each thread."""
    return Scratch((THREADS, count, row_width(x.shape[-1])), x.dtype, False)
