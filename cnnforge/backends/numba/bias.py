"""Bias, with the ReLU behind it, and its gradient, with the ReLU's before it.

Shapes: x, y, dy, g (…, C), seen as flat arrays of whole rows of C; b, db (C,).
Memory limits them: each array is read or written once.
"""

from __future__ import annotations

from math import inf, nan
from typing import Any

from cnnforge.backends.numba.channels import clear, fill_band, fold, gather, row_of, shard_of, summed
from cnnforge.backends.numba.driver import Call
from cnnforge.backends.numba.elementwise import streamed
from cnnforge.backends.numba.rules.base import Parts
from cnnforge.backends.numba.rules.bias import GROUP
from cnnforge.backends.numba.rules.elementwise import PIECE
from cnnforge.backends.numba.signature import Kernel, doubles, longs, part
from cnnforge.backends.numba.vectors import LANES, WIDTH, lanes, larger, put_upto, smaller, splat, upto, where
from cnnforge.backends.numpy.types import Arrays


@Kernel
def _bias(block: int, lo: int, hi: int, thread: int) -> None:
    """x, b -> y = min(max(x + b, low), top). Range: pieces. Each thread has a band of its own."""
    a = longs(block)
    x, y, c, n = a[0], a[2], a[4], a[7]
    low, top = splat(doubles(a[5])[0]), splat(doubles(a[6])[0])
    band = a[3] + 4 * (c + LANES) * thread
    fill_band(band, a[1], c)
    at, step = lo * PIECE % c, LANES % c
    turn, back = c - step, step - c
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        v = larger(low, upto(x + 4 * i, n - i) + lanes(band + 4 * at))
        put_upto(y + 4 * i, smaller(top, v), n - i)
        at += back if at >= turn else step


@Kernel
def _bias_db(block: int, lo: int, hi: int, thread: int) -> None:
    """dy -> each shard's sum per channel. Range: shards."""
    a = longs(block)
    dy, rows, c, width, shards = a[0], a[3], a[4], a[5], a[6]
    total = row_of(a[1], width, thread)
    size = max(1, PIECE // width) * width
    for shard in range(lo, hi):
        begin, end = shard_of(shard, rows, c, shards)
        clear(total, width)
        for first in range(begin, end, size):
            last = min(first + size, end)
            for j in range(0, width, GROUP):
                s0 = s1 = s2 = s3 = splat(0)
                for i in range(first + j, last, width):
                    at, left = dy + 4 * i, min(width - j, last - i)
                    s0 += upto(at, left)
                    s1 += upto(at + WIDTH, left - LANES)
                    s2 += upto(at + 2 * WIDTH, left - 2 * LANES)
                    s3 += upto(at + 3 * WIDTH, left - 3 * LANES)
                gather(total + 4 * j, s0, s1, s2, s3)
        fold(total, width, a[2] + 4 * c * shard, c)


@part
def _masked(y: int, dy: int, g: int, left: int, top: Any) -> Any:
    """Write g; give what was written."""
    kept, v, zero = upto(y, left), upto(dy, left), splat(0)
    v = where(kept >= top, zero, where(kept > zero, v, zero))
    put_upto(g, v, left)
    return v


@Kernel
def _ramp_dx_db(block: int, lo: int, hi: int, thread: int) -> None:
    """y, dy -> g = dy where 0 < y and not y >= top, else 0, and each shard's sum of g per channel. Range: shards."""
    a = longs(block)
    y, dy, g, rows, c, width, shards = a[0], a[1], a[2], a[6], a[7], a[8], a[9]
    top = splat(doubles(a[3])[0])
    total = row_of(a[4], width, thread)
    size = max(1, PIECE // width) * width
    for shard in range(lo, hi):
        begin, end = shard_of(shard, rows, c, shards)
        clear(total, width)
        for first in range(begin, end, size):
            last = min(first + size, end)
            for j in range(0, width, GROUP):
                s0 = s1 = s2 = s3 = splat(0)
                for i in range(first + j, last, width):
                    at, left = 4 * i, min(width - j, last - i)
                    s0 += _masked(y + at, dy + at, g + at, left, top)
                    at += WIDTH
                    s1 += _masked(y + at, dy + at, g + at, left - LANES, top)
                    at += WIDTH
                    s2 += _masked(y + at, dy + at, g + at, left - 2 * LANES, top)
                    at += WIDTH
                    s3 += _masked(y + at, dy + at, g + at, left - 3 * LANES, top)
                gather(total + 4 * j, s0, s1, s2, s3)
        fold(total, width, a[5] + 4 * c * shard, c)


def _bias_bound(low: float, top: float) -> Any:
    def bind(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, parts: Parts = ()) -> Call:
        (x, b), (y,), (band,) = ins, outs, scratch
        return streamed(_bias, threads, x, b, y, band, b.size, low, top, n=y.size)

    return bind


def bias_db(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int) -> tuple[Call, ...]:
    """dy -> db, summed over every axis but the last."""
    (dy,), (db,), (space, sums) = ins, outs, scratch
    return summed(_bias_db, threads, dy, of=dy, space=space, sums=sums, out=db)


def _ramp_dx_db_bound(top: float) -> Any:
    def bind(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, parts: Parts = ()) -> tuple[Call, ...]:
        (y, dy), (g, db), (space, sums) = ins, outs, scratch
        return summed(_ramp_dx_db, threads, y, dy, g, top, of=dy, space=space, sums=sums, out=db)

    return bind


NATIVE: dict[str, Any] = {
    "bias": _bias_bound(-inf, inf), "bias+relu": _bias_bound(0.0, inf), "bias+relu6": _bias_bound(0.0, 6.0),
    "bias_db": bias_db, "relu_dx+bias_db": _ramp_dx_db_bound(nan), "relu6_dx+bias_db": _ramp_dx_db_bound(6.0),
}  # fmt: skip
