"""Batch normalisation and 2x2 max pooling behind it in one pass over the picture, both ways.

Shapes: x, dx (N, H, W, C); y, dy and winner (N, OH, OW, C) with windows of stride 2 that lie in the picture. An
activation that never falls may stand before or behind the pooling: the largest stays the largest. Neither what is
normalised nor the gradient that is spread over the windows is ever in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cnnforge.backends.numba import norm, norm_dx
from cnnforge.backends.numba.driver import Call, bound
from cnnforge.backends.numba.formulas import Vector, clamped
from cnnforge.backends.numba.norm import OWN, known_moments, merged_moments
from cnnforge.backends.numba.norm_dx import DX_OWN, factors, merge_dparams
from cnnforge.backends.numba.signature import Kernel, doubles, floats, longs
from cnnforge.backends.numba.sweeps import at_winner, clear, largest, of_winner, repeat, sweep, windows
from cnnforge.backends.numpy.types import Array, Arrays


def _pooled(
    x: Sequence[Vector], mean: Vector, scale: Vector, shift: Vector, floor: Vector, ceiling: Vector
) -> tuple[Vector, Vector]:
    best, number = largest([(v - mean) * scale + shift for v in x])
    return clamped(best, floor, ceiling), number


_normalise_and_pool = windows(_pooled, pictures=1, rows=3, outs=2, scalars=2)


@Kernel
def _forward(block: int, lo: int, hi: int, thread: int) -> None:
    """y, winner = the largest of clamped((x - mean) scale + shift) in each window. Range: rows of y in the batch."""
    a = longs(block)
    x, y, winner, height, line, oh, ow = a[OWN], a[OWN + 1], a[OWN + 2], a[OWN + 3], a[OWN + 4], a[OWN + 5], a[OWN + 6]
    c, floor, ceiling = a[norm.C], doubles(a[norm.FLOOR])[0], doubles(a[norm.CEILING])[0]
    mean = a[norm.ROWS] + thread * 12 * a[norm.ROW]
    scale, shift = mean + 4 * a[norm.ROW], mean + 8 * a[norm.ROW]
    if a[norm.MOMENTS]:
        merged_moments(block, lo, mean)
    else:
        known_moments(block, lo, mean)
    for row in range(lo, hi):
        picture = x + 4 * line * (row // oh * height + row % oh * 2)
        at = row * ow * c
        _normalise_and_pool(picture, mean, scale, shift, y + 4 * at, winner + at, floor, ceiling, line, ow, c)


def _product(x: Sequence[Vector], dy: Vector, winner: Vector, mean: Vector) -> tuple[Vector, Vector]:
    return dy * (of_winner(winner, x) - mean), dy


_products = windows(_product, pictures=1, pooled=1, winners=1, rows=1, sums=2)


@Kernel
def _shard_dparams(block: int, lo: int, hi: int, thread: int) -> None:
    """x, dy, winner, mean -> each shard's sum(dy (x at the winner - mean)) and sum(dy). Range: shards.

    sums: (shards, 3, width), the third row to work in.
    """
    a = longs(block)
    x, dy, winner, of, c, width, rows, shards = a[0], a[1], a[2], floats(a[3]), a[5], a[6], a[7], a[8]
    height, line, oh, ow = a[9], a[10], a[11], a[12]
    for shard in range(lo, hi):
        product = a[4] + shard * 12 * width
        total, mean = product + 4 * width, product + 8 * width
        clear(product, 3 * width)
        to = floats(mean)
        for j in range(c):
            to[j] = of[j]
        for row in range(shard * rows // shards, (shard + 1) * rows // shards):
            picture = x + 4 * line * (row // oh * height + row % oh * 2)
            at = row * ow * c
            _products(picture, dy + 4 * at, winner + at, mean, product, total, line, ow, c)


def _affine(
    x: Sequence[Vector], dy: Vector, winner: Vector, mean: Vector, p: Vector, q: Vector, r: Vector
) -> tuple[list[Vector]]:
    return ([p * d + (q * (v - mean) + r) for v, d in zip(x, at_winner(winner, dy), strict=True)],)


def _affine_outside(x: Vector, mean: Vector, q: Vector, r: Vector) -> tuple[Vector]:
    return (q * (x - mean) + r,)


_dx = windows(_affine, pictures=1, pooled=1, winners=1, rows=4, painted=1)
_dx_outside = sweep(_affine_outside, streams=1, rows=3, outs=1)


@Kernel
def _backward(block: int, lo: int, hi: int, thread: int) -> None:
    """dx = p (dy where x won) + q (x - mean) + r. Range: rows of dy in the whole batch.

    The last row or column of an odd picture lies outside all windows.
    """
    a = longs(block)
    x, dy, winner, dx = a[DX_OWN], a[DX_OWN + 1], a[DX_OWN + 2], a[DX_OWN + 3]
    height, line, oh, ow = a[DX_OWN + 4], a[DX_OWN + 5], a[DX_OWN + 6], a[DX_OWN + 7]
    c, width = a[norm_dx.DX_C], a[norm_dx.DX_ROW]
    mean = a[norm_dx.DX_ROWS] + thread * 16 * width
    p, q, r = mean + 4 * width, mean + 8 * width, mean + 12 * width
    factors(block, mean)
    for row in range(mean, mean + 16 * width, 4 * width):
        repeat(row, c, width)
    for row in range(lo, hi):
        at = row * ow * c
        picture = 4 * line * (row // oh * height + row % oh * 2)
        _dx(x + picture, dy + 4 * at, winner + at, mean, p, q, r, dx + picture, line, ow, c)
        seen, last = 2 * ow * c, row % oh == oh - 1
        if seen < line:
            for i in range(2):
                edge = picture + 4 * (i * line + seen)
                _dx_outside(x + edge, mean, q, r, dx + edge, line - seen, width)
        if last and 2 * oh < height:
            edge = picture + 8 * line
            _dx_outside(x + edge, mean, q, r, dx + edge, line * (height - 2 * oh), width)


def _places(x: Any, y: Any) -> tuple[int, int, int, int]:
    """H, floats of a picture row, OH, OW."""
    return x.shape[1], x.shape[2] * x.shape[3], y.shape[1], y.shape[2]


def _function(parts: Any) -> str:
    """What stands behind the pooling."""
    return str(parts[2][0]) if len(parts) > 2 else ""


def batch_norm(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, parts: Any, shards: Array | None = None
) -> tuple[Call, ...]:
    """``shards``: ``work`` has their moments already, and so many rows are in each."""
    (x, gamma, beta), (y, mean, var, unbiased, winner), (work, rows) = ins, outs, scratch
    epsilon = parts[0][2]["epsilon"]
    words = norm.statistics(x, gamma, beta, mean, var, unbiased, work, rows, epsilon, _function(parts), shards)
    last = bound(_forward, y.shape[0] * y.shape[1], threads, *words, x, y, winner, *_places(x, y))
    return (last,) if shards is not None else (norm.shards_of(x, work, threads), last)


def batch_norm_inference(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, parts: Any) -> Call:
    (x, gamma, beta, mean, var), (y, winner), (rows,) = ins, outs, scratch
    words = norm.statistics(x, gamma, beta, mean, var, 0, 0, rows, parts[0][2]["epsilon"], _function(parts))
    return bound(_forward, y.shape[0] * y.shape[1], threads, *words, x, y, winner, *_places(x, y))


def batch_norm_dparams(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, parts: Any) -> tuple[Call, ...]:
    (winner, dy, x, mean, var), (sums,) = ins, scratch
    _, _, c, width, _ = norm.sizes(x)
    shards, rows = norm.shards_for(x), dy.shape[0] * dy.shape[1]
    places = _places(x, dy)
    return (
        bound(_shard_dparams, shards, threads, x, dy, winner, mean, sums, c, width, rows, shards, *places),
        bound(merge_dparams, 1, threads, sums, var, *outs, shards, c, width, parts[1][2]["epsilon"]),
    )


def batch_norm_dx(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, parts: Any) -> Call:
    (winner, dy, x, gamma, mean, var, dgamma, dbeta), (dx,), (rows,) = ins, outs, scratch
    words = norm_dx.factor_words(x, gamma, mean, var, dgamma, dbeta, rows, parts[1][2]["epsilon"])
    return bound(_backward, dy.shape[0] * dy.shape[1], threads, *words, x, dy, winner, dx, *_places(x, dy))


NATIVE: dict[str, Any] = {
    **{
        f"{bind.__name__}+max_pool2d{tail}": bind
        for bind in (batch_norm, batch_norm_inference)
        for tail in ("", "+relu", "+relu6")
    },
    **{f"max_pool2d_dx+{bind.__name__}": bind for bind in (batch_norm_dparams, batch_norm_dx)},
}
