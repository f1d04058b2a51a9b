"""Pieces of kernels that work by channel, compiled into them.

So that vectors are full whatever C is, numbers per channel are laid out as a *band*, (C + LANES,) with the beginning
repeated at the end: those of element i and its neighbours begin at i mod C. Sums per channel go by rows of
``sum_width(C)`` elements, several positions at once where channels are few, and are folded at the end.
"""

from __future__ import annotations

from typing import Any

from cnnforge.backends.numba.driver import Call, bound
from cnnforge.backends.numba.reduce import reduced
from cnnforge.backends.numba.rules.bias import GROUP, SUM_SHARDS, sum_width
from cnnforge.backends.numba.signature import Kernel, floats, part
from cnnforge.backends.numba.vectors import LANES, WIDTH, lanes, put, put_upto, splat, upto
from cnnforge.backends.numpy.types import Array

#: Elements of a shard at least: of less, another costs more than it gains.
SMALLEST = 8192


@part
def extend_band(band: int, c: int) -> None:
    """Repeat the beginning of a band behind its first C numbers, one by one: of few, what was just written."""
    numbers = floats(band)
    for k in range(LANES):
        numbers[c + k] = numbers[k]


@part
def fill_band(band: int, numbers: int, c: int) -> None:
    """numbers (C,) -> band (C + LANES,)."""
    for k in range(0, c, LANES):
        put_upto(band + 4 * k, upto(numbers + 4 * k, c - k), c - k)
    extend_band(band, c)


@part
def shard_of(shard: int, rows: int, c: int, shards: int) -> tuple[int, int]:
    """The elements that a shard begins and ends with: whole rows of C."""
    return shard * rows // shards * c, (shard + 1) * rows // shards * c


@part
def row_of(space: int, width: int, thread: int) -> Any:
    """The row that a thread sums in, of whole groups."""
    return space + 4 * ((width + GROUP - 1) // GROUP * GROUP) * thread


@part
def clear(total: int, width: int) -> None:
    """total = 0."""
    for k in range(0, width, LANES):
        put(total + 4 * k, splat(0))


@part
def gather(total: int, s0: Any, s1: Any, s2: Any, s3: Any) -> None:
    """Add a group's sums to total."""
    put(total, lanes(total) + s0)
    put(total + WIDTH, lanes(total + WIDTH) + s1)
    put(total + 2 * WIDTH, lanes(total + 2 * WIDTH) + s2)
    put(total + 3 * WIDTH, lanes(total + 3 * WIDTH) + s3)


@part
def fold(total: int, width: int, sums: int, c: int) -> None:
    """total (width,) -> sums (C,): what belongs to one channel added up."""
    for k in range(0, c, LANES):
        v = splat(0)
        for j in range(k, width, c):
            v += upto(total + 4 * j, c - k)
        put_upto(sums + 4 * k, v, c - k)


def summed(
    kernel: Kernel, threads: int, *arguments: Any, of: Array, space: Array, sums: Array, out: Array
) -> tuple[Call, ...]:
    """Calls of a kernel that sums shards of ``of`` per channel, and of what adds the shards up into ``out``.

    The kernel's arguments: ``arguments``, total (a row for each thread), sums (shards, C), rows, C, width, shards.
    How many shards there are depends on the size alone.
    """
    c = of.shape[-1]
    rows = of.size // c
    shards = max(1, min(SUM_SHARDS, of.size // SMALLEST, rows))
    into = out if shards == 1 else sums
    first = bound(kernel, shards, threads, *arguments, space, into, rows, c, sum_width(c), shards)
    return (first,) if shards == 1 else (first, reduced(sums[:shards], out, threads))
