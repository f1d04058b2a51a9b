"""The way back of batch normalisation, and the running statistics.

Shapes: x, dy, dx (N, …, C); everything else (C,). As in ``norm``, loops run over rows of ``row_width(C)`` floats.
"""

from __future__ import annotations

from math import nan
from typing import Any

from llvmlite import ir

from cnnforge.backends.numba.driver import Call, bound
from cnnforge.backends.numba.formulas import Code, Vector, passage
from cnnforge.backends.numba.language import float32, float64
from cnnforge.backends.numba.norm import shards_for, sizes
from cnnforge.backends.numba.signature import Kernel, doubles, floats, longs
from cnnforge.backends.numba.sweeps import clear, fold, repeat, sweep
from cnnforge.backends.numba.vectors import LANES
from cnnforge.backends.numpy.types import Array, Arrays


def _product(x: Vector, dy: Vector, mean: Vector) -> tuple[Vector, Vector]:
    return dy * (x - mean), dy


def _masked_product(x: Vector, y: Vector, dy: Vector, mean: Vector, ceiling: Vector) -> tuple[Vector, Vector, Vector]:
    """Of dy only what ``y`` let through, which is also written down."""
    g = (y >= ceiling).where(0.0, (y > 0.0).where(dy, 0.0))
    return g * (x - mean), g, g


products = sweep(_product, streams=2, rows=1, sums=2, group=8)
_masked_products = sweep(_masked_product, streams=3, rows=1, sums=2, outs=1, scalars=1)


@Kernel
def _shard_dparams(block: int, lo: int, hi: int, thread: int) -> None:
    """x, dy, mean [, y] -> each shard's sum(dy (x - mean)) and sum(dy) [, g: dy where y lets it through].

    Range: shards.  sums: (shards, 3, width), the third row to work in.
    """
    a = longs(block)
    x, dy, y, g, rows, c, width, ceiling = a[0], a[1], a[4], a[5], a[6], a[7], a[8], doubles(a[9])[0]
    shards = a[10]
    for shard in range(lo, hi):
        begin, end = shard * rows // shards * c, (shard + 1) * rows // shards * c
        product = a[3] + shard * 12 * width
        total, mean = product + 4 * width, product + 8 * width
        clear(product, 2 * width)
        of, to = floats(a[2]), floats(mean)
        for j in range(c):
            to[j] = of[j]
        repeat(mean, c, width)
        p, q, n = x + 4 * begin, dy + 4 * begin, end - begin
        if y:
            _masked_products(p, y + 4 * begin, q, mean, product, total, g + 4 * begin, ceiling, n, width)
        else:
            products(p, q, mean, product, total, n, width)
        fold(product, c, width)
        fold(total, c, width)


def _merge(code: Code, block: ir.Value) -> None:
    sums, var, dgamma, dbeta, shards, c, width, epsilon = (code.at(block, i) for i in range(8))
    width = code.times(width, 4)
    with code.loop(0, c, LANES) as k:
        left, v = code.less(c, k), code.times(k, 4)

        def add(i: ir.Value, product: Vector, total: Vector, v: ir.Value = v) -> tuple[Vector, Vector]:
            at = code.sum(sums, v, code.times(width, 3, i))
            return product + code.load(at), total + code.load(code.sum(at, width))

        products, totals = code.folded(0, shards, [code.zero()] * 2, add)
        deviation = (code.load(code.sum(var, v), left) + code.constant(epsilon)).root()
        code.store(code.sum(dgamma, v), products / deviation, left)
        code.store(code.sum(dbeta, v), totals, left)


_merge_shards = passage(1, _merge)


@Kernel
def merge_dparams(block: int, lo: int, hi: int, thread: int) -> None:
    """Sums of shards, var -> dgamma, dbeta. Range: one."""
    _merge_shards(block)


#: Words of the argument block of every pass that gives dx.
DX_GAMMA, DX_MEAN, DX_VAR, DX_DGAMMA, DX_DBETA, DX_ROWS, DX_C, DX_ROW, DX_SHARE, DX_EPSILON = range(10)
DX_OWN = 10


def _factors(code: Code, block: ir.Value, rows: ir.Value) -> None:
    """gamma, mean, var, dgamma, dbeta -> the rows mean, p, q, r of dx = p dy + q (x - mean) + r."""
    width, c = code.times(code.at(block, DX_ROW), 4), code.at(block, DX_C)
    share, epsilon = code.constant(code.at(block, DX_SHARE)), code.constant(code.at(block, DX_EPSILON))
    with code.loop(0, c, LANES) as k:
        left, v = code.less(c, k), code.times(k, 4)
        gamma, mean, var, dgamma, dbeta = (
            code.load(code.sum(code.at(block, i), v), left) for i in (DX_GAMMA, DX_MEAN, DX_VAR, DX_DGAMMA, DX_DBETA)
        )
        deviation = (var + epsilon).root()
        p = gamma / deviation
        shares = p * share * -1.0
        for i, value in enumerate((mean, p, shares * dgamma / deviation, shares * dbeta)):
            code.store(code.sum(rows, v, code.times(width, i)), value)


factors = passage(2, _factors)


def _affine_dx(x: Vector, dy: Vector, mean: Vector, p: Vector, q: Vector, r: Vector) -> tuple[Vector]:
    return (p * dy + (q * (x - mean) + r),)


affine = sweep(_affine_dx, streams=2, rows=4, outs=1)


@Kernel
def _backward(block: int, lo: int, hi: int, thread: int) -> None:
    """dx = p dy + q (x - mean) + r, one affine pass. Range: pieces."""
    a = longs(block)
    x, dy, dx, n, size = a[DX_OWN], a[DX_OWN + 1], a[DX_OWN + 2], a[DX_OWN + 3], a[DX_OWN + 4]
    c, width = a[DX_C], a[DX_ROW]
    mean = a[DX_ROWS] + thread * 16 * width
    factors(block, mean)
    for row in range(mean, mean + 16 * width, 4 * width):
        repeat(row, c, width)
    at, end = lo * size, hi * size
    end = end if end < n else n
    p, q, r = mean + 4 * width, mean + 8 * width, mean + 12 * width
    affine(x + 4 * at, dy + 4 * at, mean, p, q, r, dx + 4 * at, end - at, width)


@Kernel
def _running(block: int, lo: int, hi: int, thread: int) -> None:
    """new, running of each statistic -> running = momentum running + (1 - momentum) new. Range: one."""
    a = longs(block)
    c, momentum = a[4], doubles(a[5])[0]
    kept, share = float32(momentum), float32(float64(1) - momentum)
    for i in range(0, 4, 2):
        new, running = floats(a[i]), floats(a[i + 1])
        for j in range(c):
            running[j] = kept * running[j] + share * new[j]


# Binding.


def _dparams(
    x: Array, dy: Array, mean: Array, var: Array, y: Array | int, g: Array | int, ceiling: float,
    outs: Arrays, sums: Array, threads: int, epsilon: float,
) -> tuple[Call, ...]:  # fmt: skip
    _, r, c, width, _ = sizes(x)
    shards = shards_for(x)
    return (
        bound(_shard_dparams, shards, threads, x, dy, mean, sums, y, g, r, c, width, ceiling, shards),
        bound(merge_dparams, 1, threads, sums, var, *outs, shards, c, width, epsilon),
    )


def batch_norm_dparams(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, epsilon: float) -> tuple[Call, ...]:
    x, mean, var, dy = ins
    return _dparams(x, dy, mean, var, 0, 0, nan, outs, scratch[0], threads, epsilon)


def _masked_dparams(ceiling: float) -> Any:
    """``ceiling``: at which an activation stops; nan where it does not, because inf must not stop there."""

    def bind(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, parts: Any) -> tuple[Call, ...]:
        (y, dy, x, mean, var), (g, *sums) = ins, outs
        epsilon = parts[1][2]["epsilon"]
        return _dparams(x, dy, mean, var, y, g, ceiling, tuple(sums), scratch[0], threads, epsilon)

    return bind


def factor_words(
    x: Array, gamma: Array, mean: Array, var: Array, dgamma: Array, dbeta: Array, rows: Array, epsilon: float
) -> tuple[Any, ...]:
    """The first DX_OWN words of a pass that gives dx."""
    _, r, c, width, _ = sizes(x)
    return gamma, mean, var, dgamma, dbeta, rows, c, width, 1.0 / r, epsilon


def batch_norm_dx(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, epsilon: float) -> Call:
    (x, gamma, mean, var, dgamma, dbeta, dy), (dx,), (rows,) = ins, outs, scratch
    n, _, _, _, size = sizes(x)
    words = factor_words(x, gamma, mean, var, dgamma, dbeta, rows, epsilon)
    return bound(_backward, -(-n // size), threads, *words, x, dy, dx, n, size)


def batch_norm_running(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, momentum: float) -> Call:
    """The batch's mean and unbiased var, each into its running one."""
    (mean, var), (running_mean, running_var) = ins, outs
    return bound(_running, 1, threads, mean, running_mean, var, running_var, mean.size, momentum)


NATIVE: dict[str, Any] = {
    "batch_norm_dparams": batch_norm_dparams, "batch_norm_dx": batch_norm_dx, "batch_norm_running": batch_norm_running,
    "relu_dx+batch_norm_dparams": _masked_dparams(nan), "relu6_dx+batch_norm_dparams": _masked_dparams(6.0),
}  # fmt: skip
