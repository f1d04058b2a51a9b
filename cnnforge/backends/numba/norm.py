"""Batch normalisation (Ioffe and Szegedy, ICML 2015), alone and in one pass with what stands next to it.

Shapes: x, y (N, …, C), seen as R = N H W rows of C; everything else (C,). Rows of ``row_width(C)`` floats hold numbers
per channel for loops over memory as it lies. What limits all of them is memory: each pass reads its arrays once.
Sums over the batch are added up in shards, which every thread then merges for itself in the same order.
"""

from __future__ import annotations

from functools import partial
from math import inf
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

from cnnforge.backends.numba.driver import Call, bound
from cnnforge.backends.numba.formulas import Code, Vector, clamped, passage
from cnnforge.backends.numba.language import float32
from cnnforge.backends.numba.rules.channels import SHARDS, row_width
from cnnforge.backends.numba.signature import Kernel, doubles, longs, part
from cnnforge.backends.numba.sweeps import clear, fold, repeat, sweep
from cnnforge.backends.numba.vectors import LANES, WIDTH, lanes, put, splat
from cnnforge.backends.numpy.types import Array, Arrays

#: Elements (about) that a kernel works on at a time: they stay in the first cache for a second look.
PIECE = 4096
#: Elements of a shard, at least: fewer are added up faster than two threads meet and merge.
SHARD = 1 << 15

# Mean and variance of the batch.


def _square(x: Vector, centre: Vector) -> tuple[Vector]:
    d = x - centre
    return (d * d,)


_totals = sweep(lambda x: (x,), streams=1, sums=1, group=8)
_squares = sweep(_square, streams=1, rows=1, sums=1, group=8)


@part
def add_moments(x: int, n: int, before: int, c: int, width: int, size: int, mean: int) -> None:
    """Merge n floats at x into the mean and M2, the sum of squared distances from it, of the ``before`` floats so far.

    ``size`` floats at a time: a piece's mean, then its M2 while it is in the cache, then both into the whole by the
    rule of Chan, Golub and LeVeque (1983). mean: (4, width): mean, M2, and two rows to work in.
    """
    m2, centre, square = mean + 4 * width, mean + 8 * width, mean + 12 * width
    if not before:
        clear(mean, 2 * width)
    for at in range(0, n, size):
        many = size if at + size < n else n - at
        clear(centre, 2 * width)
        _totals(x + 4 * at, centre, many, width)
        fold(centre, c, width)
        share = splat(float32(c) / float32(many))
        for v in range(centre, centre + 4 * c, WIDTH):
            put(v, lanes(v) * share)
        repeat(centre, c, width)
        _squares(x + 4 * at, centre, square, many, width)
        fold(square, c, width)
        new = float32(many) / float32(before + at + many)
        growth, between = splat(new), splat(float32(before + at) / float32(c) * new)
        for v in range(0, 4 * c, WIDTH):
            d = lanes(centre + v) - lanes(mean + v)
            put(mean + v, lanes(mean + v) + d * growth)
            put(m2 + v, lanes(m2 + v) + (lanes(square + v) + d * d * between))


@Kernel
def moments(block: int, lo: int, hi: int, thread: int) -> None:
    """x -> each shard's mean and M2. Range: shards.  moments: (shards, 4, width)"""
    a = longs(block)
    x, rows, c, width, shards, size = a[0], a[2], a[3], a[4], a[5], a[6]
    for shard in range(lo, hi):
        begin, end = shard * rows // shards * c, (shard + 1) * rows // shards * c
        add_moments(x + 4 * begin, end - begin, 0, c, width, size, a[1] + shard * 16 * width)


@Kernel
def join_moments(block: int, lo: int, hi: int, thread: int) -> None:
    """What was just written of x joins its shard's moments. Range: units of the kernel that writes it.

    A unit's line in the table: where its floats begin and end, how many the shard has already, and where that lies.
    """
    a = longs(block)
    for unit in range(lo, hi):
        table = longs(a[2] + 32 * unit)
        add_moments(a[0] + 4 * table[0], table[1] - table[0], table[2], a[3], a[4], a[5], a[1] + table[3])


# Words of the argument block of every pass that normalises.
GAMMA, BETA, MEAN, VAR, UNBIASED, MOMENTS, COUNT, SIZES, ROWS, C, ROW, SHARE, FACTOR, EPSILON, FLOOR, CEILING = range(
    16
)
#: Where each kernel's own words begin.
OWN = 16


def _per_channel(code: Code, block: ir.Value, lo: ir.Value, rows: ir.Value, merged: bool) -> None:
    """gamma, beta, mean, var -> the rows mean, scale, shift of y = (x - mean) scale + shift.

    merged: mean and var come from the shards' moments: the mean of means by the shards' sizes, then
    M2 = sum(M2 of a shard + size (its mean - mean)^2). The first part of the range writes them down.
    """
    width, c, count = code.times(code.at(block, ROW), 4), code.at(block, C), code.at(block, COUNT)
    moments, sizes, epsilon = code.at(block, MOMENTS), code.at(block, SIZES), code.constant(code.at(block, EPSILON))

    def shard(i: ir.Value, v: ir.Value) -> tuple[Vector, Vector, Vector]:
        """Its mean, M2 and size."""
        at = code.sum(moments, v, code.times(width, 4, i))
        return code.load(at), code.load(code.sum(at, width)), code.float_at(code.sum(sizes, code.times(i, 4)))

    with code.loop(0, c, LANES) as k:
        left, v = code.less(c, k), code.times(k, 4)
        gamma, beta = (code.load(code.sum(code.at(block, i), v), left) for i in (GAMMA, BETA))
        if not merged:
            mean, var = (code.load(code.sum(code.at(block, i), v), left) for i in (MEAN, VAR))
        else:
            share = code.constant(code.at(block, SHARE))
            first = shard(code.word(0), v)[0]

            def far(i: ir.Value, total: Vector, v: ir.Value = v, first: Vector = first) -> tuple[Vector]:
                mean, _, size = shard(i, v)
                return (total + size * (mean - first),)

            def squares(i: ir.Value, total: Vector, v: ir.Value = v) -> tuple[Vector]:
                of_shard, m2, size = shard(i, v)
                d = of_shard - mean
                return (total + (m2 + size * (d * d)),)

            (distance,) = code.folded(0, count, [code.zero()], far)
            mean = first + distance * share
            (square,) = code.folded(0, count, [code.zero()], squares)
            var = square * share
            with code.if_more(code.word(1), lo):
                unbiased = var * code.constant(code.at(block, FACTOR))
                for i, value in ((MEAN, mean), (VAR, var), (UNBIASED, unbiased)):
                    code.store(code.sum(code.at(block, i), v), value, left)
        for i, value in enumerate((mean, gamma / (var + epsilon).root(), beta)):
            code.store(code.sum(rows, v, code.times(width, i)), value)


merged_moments = passage(3, partial(_per_channel, merged=True))
known_moments = passage(3, partial(_per_channel, merged=False))


def _normalised(x: Vector, mean: Vector, scale: Vector, shift: Vector, floor: Vector, ceiling: Vector) -> tuple[Vector]:
    return (clamped((x - mean) * scale + shift, floor, ceiling),)


def _normalised_and_added(
    x: Vector, other: Vector, mean: Vector, scale: Vector, shift: Vector, floor: Vector, ceiling: Vector
) -> tuple[Vector]:
    return (clamped((x - mean) * scale + shift + other, floor, ceiling),)


normalise = sweep(_normalised, streams=1, rows=3, outs=1, scalars=2)
_normalise_and_add = sweep(_normalised_and_added, streams=2, rows=3, outs=1, scalars=2)


@Kernel
def _forward(block: int, lo: int, hi: int, thread: int) -> None:
    """y = clamped((x - mean) scale + shift [+ other]). Range: pieces."""
    a = longs(block)
    x, other, y, n, size = a[OWN], a[OWN + 1], a[OWN + 2], a[OWN + 3], a[OWN + 4]
    c, width, floor, ceiling = a[C], a[ROW], doubles(a[FLOOR])[0], doubles(a[CEILING])[0]
    mean = a[ROWS] + thread * 12 * width
    scale, shift = mean + 4 * width, mean + 8 * width
    if a[MOMENTS]:
        merged_moments(block, lo, mean)
    else:
        known_moments(block, lo, mean)
    for row in range(mean, mean + 12 * width, 4 * width):
        repeat(row, c, width)
    at, end = lo * size, hi * size
    end = end if end < n else n
    if other:
        _normalise_and_add(x + 4 * at, other + 4 * at, mean, scale, shift, y + 4 * at, floor, ceiling, end - at, width)
    else:
        normalise(x + 4 * at, mean, scale, shift, y + 4 * at, floor, ceiling, end - at, width)


# Binding.

#: (at least, at most) of what follows a norm.
RANGES = {"": (-inf, inf), "relu": (0.0, inf), "relu6": (0.0, 6.0)}


def sizes(x: Array) -> tuple[int, int, int, int, int]:
    """(elements, R, C, row width, elements of a piece)."""
    n, c = x.size, x.shape[-1]
    width = row_width(c)
    return n, n // c, c, width, max(PIECE // width // 32, 1) * 32 * width


def shards_for(x: Array) -> int:
    """Into how many shards x is cut: as many as pay, whatever the threads."""
    return max(1, min(SHARDS, int(x.size) // SHARD, int(x.size) // int(x.shape[-1])))


def shards_of(x: Array, work: Array, threads: int) -> Call:
    """Each shard's moments."""
    _, r, c, width, size = sizes(x)
    shards = shards_for(x)
    return bound(moments, shards, threads, x, work, r, c, width, shards, size)


class Joining(NamedTuple):
    """How a kernel that writes x in units adds up its moments: each shard is some neighbouring units.

    shards: the kernel's range, a unit each where nothing is added up
    words:  of its argument block: the kernel to call and its block, shards, units
    kept:   what the block points into
    rows:   of x in each shard
    """

    shards: int
    words: tuple[Any, ...]
    kept: tuple[Any, ...]
    rows: Array


def joining(x: Array, work: Array | None, rows: Array) -> Joining:
    """``rows``: that each unit of the kernel writes, in order. Without ``work`` nothing is added up."""
    units = len(rows)
    if work is None:
        return Joining(units, (0, 0, units, units), (), rows)
    _, _, c, width, size = sizes(x)
    shards = min(SHARDS, units)
    first = np.arange(shards + 1) * units // shards
    edges, shard = np.append(0, np.cumsum(rows)) * c, np.repeat(np.arange(shards), np.diff(first))
    begin, start = edges[:-1], edges[first]
    table = np.stack([begin, edges[1:], begin - start[shard], shard * 16 * width], 1).astype(np.int64)
    call = bound(join_moments, units, 1, x, work, table, c, width, size)
    return Joining(shards, (join_moments, call.block, shards, units), call.kept, np.diff(start) // c)


def statistics(
    x: Array, gamma: Array, beta: Array, mean: Array, var: Array, unbiased: Array | int, work: Array | int,
    rows: Array, epsilon: float, function: str, shards: Array | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    """The first OWN words of a pass that normalises; ``work`` and ``unbiased`` are 0 where mean and var are known.

    shards: rows of x in each shard, where they are not those of ``shards_of``
    """
    _, r, c, width, _ = sizes(x)
    if shards is None:
        shards = np.diff(np.arange(shards_for(x) + 1) * r // shards_for(x))
    return (
        gamma, beta, mean, var, unbiased, work, len(shards), shards.astype(np.float32), rows, c, width,
        1.0 / r, r / (r - 1) if r > 1 else 1.0, epsilon, *RANGES[function],
    )  # fmt: skip


def batch_norm(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, epsilon: float, function: str = "",
    shards: Array | None = None,
) -> tuple[Call, ...]:  # fmt: skip
    """``shards``: ``work`` has their moments already, and so many rows are in each."""
    (x, gamma, beta, *other), (y, mean, var, unbiased), (work, rows) = ins, outs, scratch
    n, _, _, _, size = sizes(x)
    words = statistics(x, gamma, beta, mean, var, unbiased, work, rows, epsilon, function, shards)
    last = bound(_forward, -(-n // size), threads, *words, x, *(other or (0,)), y, n, size)
    return (last,) if shards is not None else (shards_of(x, work, threads), last)


def batch_norm_inference(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, epsilon: float, function: str = ""
) -> Call:
    (x, gamma, beta, mean, var, *other), (y,), (rows,) = ins, outs, scratch
    n, _, _, _, size = sizes(x)
    words = statistics(x, gamma, beta, mean, var, 0, 0, rows, epsilon, function)
    return bound(_forward, -(-n // size), threads, *words, x, *(other or (0,)), y, n, size)


def _followed(norm: Any, function: str) -> Any:
    """A norm, an addition where there is one more input, and ``function`` in one pass."""

    def bind(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, parts: Any, **more: Any) -> Any:
        return norm(ins, outs, scratch, threads, epsilon=parts[0][2]["epsilon"], function=function, **more)

    return bind


NATIVE: dict[str, Any] = {
    "batch_norm": batch_norm, "batch_norm_inference": batch_norm_inference,
    **{
        f"{name}+{tail}": _followed(norm, tail.rpartition("add")[2].strip("+"))
        for name, norm in (("batch_norm", batch_norm), ("batch_norm_inference", batch_norm_inference))
        for tail in ("relu", "relu6", "add", "add+relu")
    },
}  # fmt: skip
