"""Sixteen samples as the lanes of vectors, and back."""

from __future__ import annotations

from cnnforge.backends.numba.language import float32
from cnnforge.backends.numba.sample_tiles import turn, turn_kept
from cnnforge.backends.numba.signature import part
from cnnforge.backends.numba.vectors import (
    LANES,
    WIDTH,
    lanes,
    put,
    put_some_octets,
    real,
    some_octets,
    splat,
    whole,
)  # fmt: skip


@part
def fill(at, n):  # type: ignore[no-untyped-def]
    """``n`` vectors of zeros."""
    zero = splat(float32(0))
    for i in range(n):
        put(at + WIDTH * i, zero)


@part
def to_lanes(x, step, n, count, y):  # type: ignore[no-untyped-def]
    """``count`` floats of each of ``n`` samples, which lie ``step`` apart -> (count, 16)."""
    for i in range(0, count, LANES):
        m = min(LANES, count - i)
        turn(x + 4 * i, step, n, m, y + WIDTH * i, WIDTH, m, LANES)


@part
def kept_to_lanes(x, other, step, n, count, y):  # type: ignore[no-untyped-def]
    """The same where ``other``, which lies alike, is above 0; else 0."""
    for i in range(0, count, LANES):
        m = min(LANES, count - i)
        turn_kept(x + 4 * i, step, n, m, y + WIDTH * i, WIDTH, m, LANES, other - x)


@part
def from_lanes(x, count, y, step, n):  # type: ignore[no-untyped-def]
    """(count, 16) -> ``count`` floats of each of ``n`` samples, which lie ``step`` apart."""
    for i in range(0, count, LANES):
        m = min(LANES, count - i)
        turn(x + WIDTH * i, WIDTH, m, LANES, y + 4 * i, step, n, m)


@part
def bytes_to_lanes(x, step, n, count, y, block):  # type: ignore[no-untyped-def]
    """``count`` bytes of each of ``n`` samples -> floats (count, 16). block: room for 16 vectors."""
    for i in range(0, count, LANES):
        m = min(LANES, count - i)
        for s in range(n):
            put(block + WIDTH * s, real(some_octets(x + i + s * step, m)))
        turn(block, WIDTH, n, LANES, y + WIDTH * i, WIDTH, m, LANES)


@part
def bytes_from_lanes(x, count, y, step, n, block):  # type: ignore[no-untyped-def]
    """Floats (count, 16) -> ``count`` bytes of each of ``n`` samples. block: room for 16 vectors."""
    for i in range(0, count, LANES):
        m = min(LANES, count - i)
        turn(x + WIDTH * i, WIDTH, m, LANES, block, WIDTH, n, LANES)
        for s in range(n):
            put_some_octets(y + i + s * step, whole(lanes(block + WIDTH * s)), m)
