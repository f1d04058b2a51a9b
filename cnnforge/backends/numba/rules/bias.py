"""Numbers per channel, and sums per channel: biases, slopes of prelu."""

from __future__ import annotations

from math import lcm
from typing import Any

from cnnforge.backends.numba.rules.base import LANES, THREADS, Rule
from cnnforge.ir.op import Scratch

#: Parts that a sum over the batch is cut into at most, whatever the threads: the results are then the same to the bit.
SUM_SHARDS = 32
#: Vectors that are summed side by side, each in its own register.
GROUP = 4 * LANES


def sum_width(channels: int) -> int:
    """Elements of a row for sums per channel: of few channels as many copies as make up whole groups."""
    return channels if channels >= GROUP else lcm(channels, GROUP)


def band(x: Any) -> tuple[Scratch, ...]:
    """A band of numbers per channel for each thread."""
    return (Scratch((THREADS, x.shape[-1] + LANES), x.dtype, False),)


def sums(x: Any) -> tuple[Scratch, ...]:
    """A row to sum in for each thread; the sums of each shard."""
    c = x.shape[-1]
    groups = -(-sum_width(c) // GROUP)
    return Scratch((THREADS, groups, GROUP), x.dtype, False), Scratch((SUM_SHARDS, c), x.dtype, False)


RULES = {
    **dict.fromkeys(("bias", "bias+relu", "bias+relu6", "prelu", "prelu_dx"), Rule(scratch=lambda i, o, a: band(i[0]))),
    **dict.fromkeys(
        ("bias_db", "relu_dx+bias_db", "relu6_dx+bias_db", "prelu_dalpha"), Rule(scratch=lambda i, o, a: sums(i[0]))
    ),
}
