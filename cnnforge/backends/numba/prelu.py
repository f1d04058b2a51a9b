"""The ReLU with a learned slope per channel (He et al., ICCV 2015).

Shapes: x, y, dy, dx (…, C), seen as flat arrays of whole rows of C; alpha, dalpha (C,).
Memory limits them: each array is read or written once.
"""

from __future__ import annotations

from typing import Any

from cnnforge.backends.numba.channels import clear, fill_band, fold, gather, row_of, shard_of, summed
from cnnforge.backends.numba.driver import Call
from cnnforge.backends.numba.elementwise import streamed
from cnnforge.backends.numba.rules.bias import GROUP
from cnnforge.backends.numba.rules.elementwise import PIECE
from cnnforge.backends.numba.signature import Kernel, longs, part
from cnnforge.backends.numba.vectors import LANES, WIDTH, lanes, put_upto, smaller, splat, upto, where
from cnnforge.backends.numpy.types import Arrays


@Kernel
def _prelu(block: int, lo: int, hi: int, thread: int) -> None:
    """p, alpha, q -> q where p > 0, else alpha q: forward with x twice, the gradient with x and dy. Range: pieces.

    Each thread has a band of its own.
    """
    a = longs(block)
    p, q, out, c, n = a[0], a[2], a[3], a[5], a[6]
    band = a[4] + 4 * (c + LANES) * thread
    fill_band(band, a[1], c)
    at, step = lo * PIECE % c, LANES % c
    turn, back = c - step, step - c
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        v = upto(q + 4 * i, n - i)
        put_upto(out + 4 * i, where(upto(p + 4 * i, n - i) > splat(0), v, v * lanes(band + 4 * at)), n - i)
        at += back if at >= turn else step


@part
def _product(x: int, dy: int, left: int) -> Any:
    return smaller(upto(x, left), splat(0)) * upto(dy, left)


@Kernel
def _prelu_dalpha(block: int, lo: int, hi: int, thread: int) -> None:
    """x, dy -> each shard's sum of dy min(x, 0) per channel. Range: shards."""
    a = longs(block)
    x, dy, rows, c, width, shards = a[0], a[1], a[4], a[5], a[6], a[7]
    total = row_of(a[2], width, thread)
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
                    s0 += _product(x + at, dy + at, left)
                    at += WIDTH
                    s1 += _product(x + at, dy + at, left - LANES)
                    at += WIDTH
                    s2 += _product(x + at, dy + at, left - 2 * LANES)
                    at += WIDTH
                    s3 += _product(x + at, dy + at, left - 3 * LANES)
                gather(total + 4 * j, s0, s1, s2, s3)
        fold(total, width, a[3] + 4 * c * shard, c)


def prelu(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int) -> Call:
    """x, alpha -> y; x, alpha, dy -> dx."""
    x, alpha, *dy = ins
    q = dy[0] if dy else x
    return streamed(_prelu, threads, x, alpha, q, outs[0], scratch[0], alpha.size, n=x.size)


def prelu_dalpha(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int) -> tuple[Call, ...]:
    """x, dy -> dalpha, summed over every axis but the last."""
    (x, dy), (dalpha,), (space, sums) = ins, outs, scratch
    return summed(_prelu_dalpha, threads, x, dy, of=x, space=space, sums=sums, out=dalpha)


NATIVE: dict[str, Any] = {"prelu": prelu, "prelu_dx": prelu, "prelu_dalpha": prelu_dalpha}
