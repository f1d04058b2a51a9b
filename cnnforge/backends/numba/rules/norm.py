"""Norms."""

from __future__ import annotations

from math import gcd
from typing import Any

from cnnforge.backends.numba.rules.base import Rule
from cnnforge.ir.op import Scratch

#: Parts that a norm's sums over the batch are cut into, whatever the threads: the results are then the same to the bit.
NORM_SHARDS = 32


def row_width(channels: int) -> int:
    """Elements of a row for loops over channels: of few channels as many copies as make up whole vectors."""
    return channels if channels >= 64 else channels * 32 // gcd(channels, 32)


def _shard_sums(count: int, x: Any) -> Scratch:
    """``count`` rows per shard; the first C of each row are the sums, the rest is room for the loops."""
    return Scratch((NORM_SHARDS, count, row_width(x.shape[-1])), x.dtype, False)


def _rows(count: int, x: Any) -> Scratch:
    return Scratch((count, row_width(x.shape[-1])), x.dtype, False)


RULES = {
    "batch_norm": Rule(scratch=lambda i, o, a: (_shard_sums(4, i[0]), _rows(3, i[0]))),
    "batch_norm_inference": Rule(scratch=lambda i, o, a: (_rows(3, i[0]),)),
    "batch_norm_dparams": Rule(scratch=lambda i, o, a: (_shard_sums(3, i[0]),)),
    "batch_norm_dx": Rule(scratch=lambda i, o, a: (_rows(4, i[0]),)),
    "batch_norm_running": Rule(),
}
