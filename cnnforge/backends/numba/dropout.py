"""Dropout, with the numbers of ``cnnforge.rng``, so that every backend drops the same.

Shapes: x, y, dy, dx (N, …), seen as (N, R, E); mask (N, E) bool, where R is 1 for dropout of single values.
The draws are bound by multiplication, about 40 products of 64 bits for four elements; the rest by memory.
"""

from __future__ import annotations

from math import ceil, prod
from typing import Any

from cnnforge.backends.numba.channels import extend_band
from cnnforge.backends.numba.driver import Call, bound
from cnnforge.backends.numba.elementwise import streamed
from cnnforge.backends.numba.rules.elementwise import PIECE
from cnnforge.backends.numba.signature import Kernel, bytes_at, doubles, longs, part
from cnnforge.backends.numba.vectors import (
    LANES,
    WIDTH,
    high,
    lane_numbers,
    lanes,
    octets,
    put_ints,
    put_upto,
    real,
    some_octets,
    splat,
    splat_int,
    upto,
    where,
)
from cnnforge.backends.numpy.types import Array, Arrays
from cnnforge.ir.graph import STEP_FIELDS
from cnnforge.rng import M0, M1, ROUNDS, W0, W1

_DRAW, _FIRST = STEP_FIELDS.index("draw"), STEP_FIELDS.index("first")


@part
def _kept(word: Any, least: Any, byte: int) -> Any:
    """1 in a byte of the lanes whose word's upper 24 bits are at least ``least``."""
    upper = (word >> splat_int(8)) & splat_int(0xFFFFFF)
    return where(upper >= least, splat_int(1 << 8 * byte), splat_int(0))


@Kernel
def _draw(block: int, lo: int, hi: int, thread: int) -> None:
    """step block, key -> mask (N, E): is an element's number at least the rate? Range: pieces of samples.

    Sixteen counters side by side: the words of each are four neighbouring elements, and so four bytes of the mask.
    """
    a = longs(block)
    mask, values, elements = a[0], doubles(a[1]), a[2]
    least, room, pieces = splat_int(a[5]), a[6] + WIDTH * thread, (a[2] + PIECE - 1) // PIECE
    draw, begin = int(values[_DRAW]), int(values[_FIRST])
    for p in range(lo, hi):
        sample, first = p // pieces, p % pieces * PIECE
        for e in range(first, min(first + PIECE, elements), 4 * LANES):
            c0, c1 = lane_numbers() + splat_int(e // 4), splat_int(begin + sample)
            c2, c3 = splat_int(draw), splat_int(draw >> 32)
            k0, k1 = a[3], a[4]
            for _ in range(ROUNDS):
                m0, m1 = splat_int(M0), splat_int(M1)
                c0, c1, c2, c3 = high(m1, c2) ^ c1 ^ splat_int(k0), m1 * c2, high(m0, c0) ^ c3 ^ splat_int(k1), m0 * c0
                k0 += W0
                k1 += W1
            kept = _kept(c0, least, 0) | _kept(c1, least, 1) | _kept(c2, least, 2) | _kept(c3, least, 3)
            at = mask + sample * elements + e
            if elements - e >= 4 * LANES:
                put_ints(at, kept)
            else:
                put_ints(room, kept)
                source, into = bytes_at(room), bytes_at(at)
                for k in range(elements - e):
                    into[k] = source[k]


@part
def _factors(mask: int, left: int, factor: Any) -> Any:
    """The first ``left`` of a mask as 0 and ``factor``."""
    return real(octets(mask) if left >= LANES else some_octets(mask, left)) * factor


@Kernel
def _masked(block: int, lo: int, hi: int, thread: int) -> None:
    """x, mask -> y = x mask factor, of equal shapes. Range: pieces."""
    a = longs(block)
    x, mask, y, factor, n = a[0], a[1], a[2], splat(doubles(a[3])[0]), a[4]
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        put_upto(y + 4 * i, upto(x + 4 * i, n - i) * _factors(mask + i, n - i, factor), n - i)


@Kernel
def _masked_rows(block: int, lo: int, hi: int, thread: int) -> None:
    """x (N, size), mask (N, E) -> y: E neighbours by E factors, over and over. Range: pieces of samples.

    Each thread has a band of factors of its own.
    """
    a = longs(block)
    factor, c, size = splat(doubles(a[3])[0]), a[5], a[6]
    pieces = (size + PIECE - 1) // PIECE
    band = a[4] + 4 * (c + LANES) * thread
    step = LANES % c
    turn, back = c - step, step - c
    for p in range(lo, hi):
        sample, first = p // pieces, p % pieces * PIECE
        for k in range(0, c, LANES):
            put_upto(band + 4 * k, _factors(a[1] + sample * c + k, c - k, factor), c - k)
        extend_band(band, c)
        x, y, at = a[0] + 4 * sample * size, a[2] + 4 * sample * size, first % c
        for i in range(first, min(first + PIECE, size), LANES):
            put_upto(y + 4 * i, upto(x + 4 * i, size - i) * lanes(band + 4 * at), size - i)
            at += back if at >= turn else step


def _applied(x: Array, mask: Array, y: Array, band: Arrays, rate: float, threads: int) -> Call:
    """y = x mask / (1 - rate)."""
    factor, size = 1.0 / (1.0 - rate), prod(x.shape[1:])
    if not band:
        return streamed(_masked, threads, x, mask, y, factor, n=x.size)
    return bound(
        _masked_rows, len(x) * -(-size // PIECE), threads, x, mask, y, factor, band[0], prod(mask.shape[1:]), size
    )


def dropout(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, rate: float, key: tuple[int, int]
) -> tuple[Call, ...]:
    """x, step -> y, mask."""
    (x, block), (y, mask), (room, *band) = ins, outs, scratch
    elements = prod(mask.shape[1:])
    least = ceil(rate * 2**24)  # of (word >> 8) * 2**-24 >= rate
    count = len(x) * -(-elements // PIECE)
    return (
        bound(_draw, count, threads, mask, block, elements, *key, least, room),
        _applied(x, mask, y, tuple(band), rate, threads),
    )


def dropout_dx(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, rate: float) -> Call:
    """mask, dy -> dx."""
    mask, dy = ins
    return _applied(dy, mask, outs[0], scratch, rate, threads)


NATIVE: dict[str, Any] = {"dropout": dropout, "dropout_dx": dropout_dx}
