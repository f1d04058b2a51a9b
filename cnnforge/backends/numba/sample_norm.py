"""Group normalisation (Wu and He, ECCV 2018) and layer normalisation (Ba, Kiros and Hinton, 2016).

Shapes: x, y (N, …, C); gamma, beta (C,); mean and inverse, which is 1 / sqrt(biased variance + epsilon), are (N, G) for
G groups of channels, (N, …) for layer normalisation, which is over the channels of one position.
With h = (x - mean) inverse, d = gamma dy, and means over what was normalised together:
dx = inverse (d - mean(d) - h mean(d h)). A sample, or a position, is looked at again while it is in the cache.
"""

from __future__ import annotations

from math import inf, sqrt
from typing import Any

from llvmlite import ir

from cnnforge.backends.numba.driver import Call, bound
from cnnforge.backends.numba.formulas import Code, Vector, passage
from cnnforge.backends.numba.language import float32
from cnnforge.backends.numba.norm import moments, normalise, shards_for, sizes
from cnnforge.backends.numba.norm_dx import affine, products
from cnnforge.backends.numba.rules.channels import row_width
from cnnforge.backends.numba.signature import Kernel, call, doubles, floats, longs
from cnnforge.backends.numba.sweeps import clear, fold, repeat, sweep
from cnnforge.backends.numba.vectors import LANES, WIDTH
from cnnforge.backends.numpy.types import Array, Arrays

# Groups of channels.


@Kernel
def _group_norm(block: int, lo: int, hi: int, thread: int) -> None:
    """x, gamma, beta -> y, mean, inverse. Range: samples.

    The moments of every channel, merged over each group; then y = (x - mean) scale + shift. Words 11 and 12: the kernel
    that gives a sample's moments, and its argument block.
    """
    a = longs(block)
    gamma, beta, means, inverses = floats(a[1]), floats(a[2]), floats(a[4]), floats(a[5])
    c, width, groups, size, epsilon = a[8], a[9], a[10], a[13], float32(doubles(a[14])[0])
    channels, positions = c // groups, float32(size // c)
    mean = a[7] + thread * 12 * width
    scale, shift = mean + 4 * width, mean + 8 * width
    centres, scales, shifts = floats(mean), floats(scale), floats(shift)
    for n in range(lo, hi):
        call(a[11], a[12], n, n + 1, thread)
        of_mean, of_m2 = floats(a[6] + n * 16 * width), floats(a[6] + (n * 4 + 1) * 4 * width)
        for g in range(groups):
            first, last = g * channels, (g + 1) * channels
            m = v = float32(0)
            for k in range(first, last):
                m += of_mean[k]
            m /= float32(channels)
            for k in range(first, last):
                d = of_mean[k] - m
                v += of_m2[k] + positions * d * d
            inverse = float32(1) / sqrt(v / (positions * float32(channels)) + epsilon)
            means[n * groups + g], inverses[n * groups + g] = m, inverse
            for k in range(first, last):
                centres[k], scales[k], shifts[k] = m, inverse * gamma[k], beta[k]
        repeat(mean, c, width)
        repeat(scale, c, width)
        repeat(shift, c, width)
        at = 4 * n * size
        normalise(a[0] + at, mean, scale, shift, a[3] + at, -inf, inf, size, width)


@Kernel
def _group_norm_dx(block: int, lo: int, hi: int, thread: int) -> None:
    """x, gamma, mean, inverse, dy -> dx = p dy + q (x - mean) + r. Range: samples."""
    a = longs(block)
    gamma, means, inverses = floats(a[1]), floats(a[2]), floats(a[3])
    c, width, groups, size = a[7], a[8], a[9], a[10]
    channels, share = c // groups, float32(groups) / float32(size)
    mean = a[6] + thread * 16 * width
    product, total, rest = mean + 4 * width, mean + 8 * width, mean + 12 * width
    centres, ps, qs, rs = floats(mean), floats(product), floats(total), floats(rest)
    for n in range(lo, hi):
        for k in range(c):
            centres[k] = means[n * groups + k // channels]
        repeat(mean, c, width)
        clear(product, 2 * width)
        at = 4 * n * size
        products(a[0] + at, a[4] + at, mean, product, total, size, width)
        fold(product, c, width)
        fold(total, c, width)
        for g in range(groups):
            first, last, inverse = g * channels, (g + 1) * channels, inverses[n * groups + g]
            of_d = of_dh = float32(0)
            for k in range(first, last):
                of_dh += gamma[k] * ps[k]
                of_d += gamma[k] * qs[k]
            for k in range(first, last):
                ps[k] = inverse * gamma[k]
                qs[k] = -inverse * inverse * inverse * of_dh * share
                rs[k] = -inverse * of_d * share
        repeat(product, c, width)
        repeat(total, c, width)
        repeat(rest, c, width)
        affine(a[0] + at, a[4] + at, mean, product, total, rest, a[5] + at, size, width)


_normalised_products = sweep(
    lambda x, dy, mean, inverse: (dy * ((x - mean) * inverse),), streams=2, rows=2, sums=1, group=8
)


@Kernel
def _group_norm_dgamma(block: int, lo: int, hi: int, thread: int) -> None:
    """x, mean, inverse, dy -> each shard's sum(dy h). Range: shards of the positions of the batch.

    sums: (shards, 3, width), two rows to work in.
    """
    a = longs(block)
    means, inverses = floats(a[1]), floats(a[2])
    rows, c, width, groups, shards, positions = a[5], a[6], a[7], a[8], a[9], a[10]
    channels = c // groups
    for shard in range(lo, hi):
        total = a[4] + shard * 12 * width
        mean, inverse = total + 4 * width, total + 8 * width
        centres, factors = floats(mean), floats(inverse)
        clear(total, width)
        row, end = shard * rows // shards, (shard + 1) * rows // shards
        while row < end:
            n = row // positions
            stop = (n + 1) * positions
            stop = stop if stop < end else end
            for k in range(c):
                centres[k], factors[k] = means[n * groups + k // channels], inverses[n * groups + k // channels]
            repeat(mean, c, width)
            repeat(inverse, c, width)
            at = 4 * row * c
            _normalised_products(a[0] + at, a[3] + at, mean, inverse, total, (stop - row) * c, width)
            row = stop
        fold(total, c, width)


def _merge(code: Code, block: ir.Value) -> None:
    sums, dgamma, shards, c, width = (code.at(block, i) for i in range(5))
    with code.loop(0, c, LANES) as k:

        def add(i: ir.Value, total: Vector, k: ir.Value = k) -> tuple[Vector]:
            return (total + code.load(code.sum(sums, code.times(code.sum(k, code.times(width, 3, i)), 4))),)

        (total,) = code.folded(0, shards, [code.zero()], add)
        code.store(code.sum(dgamma, code.times(k, 4)), total, code.less(c, k))


_merge_shards = passage(1, _merge)


@Kernel
def _merge_dgamma(block: int, lo: int, hi: int, thread: int) -> None:
    """Sums of shards -> dgamma. Range: one."""
    _merge_shards(block)


# All channels of a position.


def _layer_norm_row(code: Code, block: ir.Value, row: ir.Value) -> None:
    x, gamma, beta, y, mean_of, inverse_of, c, share, epsilon = (code.at(block, i) for i in range(9))
    start = code.times(row, c, 4)
    x, y, of_c = code.sum(x, start), code.sum(y, start), code.constant(share)

    def load(array: ir.Value, k: ir.Value, left: ir.Value | None) -> Vector:
        return code.load(code.sum(array, code.times(k, 4)), left)

    def squares(k: ir.Value, left: ir.Value | None) -> tuple[Vector]:
        d = load(x, k, left) - mean
        return (d * d,)

    def body(k: ir.Value, vectors: int, left: ir.Value | None) -> None:
        for i in range(vectors):
            at = code.sum(k, LANES * i)
            h = (load(x, at, left) - mean) * inverse
            code.store(code.sum(y, code.times(at, 4)), h * load(gamma, at, left) + load(beta, at, left), left)

    mean = code.row_totals(c, 1, lambda k, left: (load(x, k, left),))[0] * of_c
    inverse = (code.row_totals(c, 1, squares)[0] * of_c + code.constant(epsilon)).root().inverse()
    code.channels(c, body)
    for array, value in ((mean_of, mean), (inverse_of, inverse)):
        code.store(code.sum(array, code.times(row, 4)), value, code.word(1))


def _layer_norm_dx_row(code: Code, block: ir.Value, row: ir.Value) -> None:
    x, gamma, mean_of, inverse_of, dy, dx, c, share = (code.at(block, i) for i in range(8))
    start = code.times(row, c, 4)
    x, dy, dx = (code.sum(array, start) for array in (x, dy, dx))
    mean, inverse = (code.float_at(code.sum(array, code.times(row, 4))) for array in (mean_of, inverse_of))

    def load(array: ir.Value, k: ir.Value, left: ir.Value | None) -> Vector:
        return code.load(code.sum(array, code.times(k, 4)), left)

    def terms(k: ir.Value, left: ir.Value | None) -> tuple[Vector, Vector]:
        """d and d h."""
        d = load(dy, k, left) * load(gamma, k, left)
        return d, d * ((load(x, k, left) - mean) * inverse)

    def body(k: ir.Value, vectors: int, left: ir.Value | None) -> None:
        for i in range(vectors):
            at = code.sum(k, LANES * i)
            h = (load(x, at, left) - mean) * inverse
            d = load(dy, at, left) * load(gamma, at, left)
            code.store(code.sum(dx, code.times(at, 4)), (d - of_d - h * of_dh) * inverse, left)

    of_d, of_dh = (total * code.constant(share) for total in code.row_totals(c, 2, terms))
    code.channels(c, body)


def _layer_norm_dgamma_row(code: Code, block: ir.Value, row: ir.Value, total: ir.Value) -> None:
    x, mean_of, inverse_of, dy, _, _, c = (code.at(block, i) for i in range(7))
    start = code.times(row, c, 4)
    x, dy = code.sum(x, start), code.sum(dy, start)
    mean, inverse = (code.float_at(code.sum(array, code.times(row, 4))) for array in (mean_of, inverse_of))

    def body(k: ir.Value, vectors: int, left: ir.Value | None) -> None:
        for i in range(vectors):
            at = code.sum(code.times(k, 4), WIDTH * i)
            product = code.load(code.sum(dy, at), left) * (code.load(code.sum(x, at), left) - mean) * inverse
            place = code.sum(total, at)
            code.store(place, code.load(place) + code.masked(product, left))

    code.channels(c, body)


_row, _dx_row, _dgamma_row = (
    passage(2, _layer_norm_row),
    passage(2, _layer_norm_dx_row),
    passage(3, _layer_norm_dgamma_row),
)


@Kernel
def _layer_norm(block: int, lo: int, hi: int, thread: int) -> None:
    """x, gamma, beta -> y, mean, inverse. Range: positions."""
    for row in range(lo, hi):
        _row(block, row)


@Kernel
def _layer_norm_dx(block: int, lo: int, hi: int, thread: int) -> None:
    """x, gamma, mean, inverse, dy -> dx. Range: positions."""
    for row in range(lo, hi):
        _dx_row(block, row)


@Kernel
def _layer_norm_dgamma(block: int, lo: int, hi: int, thread: int) -> None:
    """x, mean, inverse, dy -> each shard's sum(dy h). Range: shards of the positions.  sums: (shards, 3, width)"""
    a = longs(block)
    rows, width, shards = a[5], a[7], a[8]
    for shard in range(lo, hi):
        total = a[4] + shard * 12 * width
        clear(total, width)
        for row in range(shard * rows // shards, (shard + 1) * rows // shards):
            _dgamma_row(block, row, total)


# Binding.


def group_norm(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, groups: int, epsilon: float) -> Call:
    (x, *_), (work, rows) = ins, scratch
    _, r, c, width, size = sizes(x)
    of_sample = bound(moments, len(x), 1, x, work, r, c, width, len(x), size)
    words = (*ins, *outs, work, rows, c, width, groups, moments, of_sample.block, x[0].size, epsilon)
    return bound(_group_norm, len(x), threads, *words).keeping(of_sample)


def group_norm_dx(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, groups: int) -> Call:
    x = ins[0]
    c = x.shape[-1]
    return bound(_group_norm_dx, len(x), threads, *ins, *outs, *scratch, c, row_width(c), groups, x[0].size)


def _summed(kernel: Kernel, ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *own: Any) -> tuple[Call, Call]:
    (x, *_), (dgamma,), (sums,) = ins, outs, scratch
    _, r, c, width, _ = sizes(x)
    shards = shards_for(x)
    return (
        bound(kernel, shards, threads, *ins, sums, r, c, width, *own[:1], shards, *own[1:]),
        bound(_merge_dgamma, 1, threads, sums, dgamma, shards, c, width),
    )


def group_norm_dgamma(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, groups: int) -> tuple[Call, Call]:
    x = ins[0]
    return _summed(_group_norm_dgamma, ins, outs, scratch, threads, groups, x[0].size // x.shape[-1])


def _positions(x: Array) -> int:
    return int(x.size) // int(x.shape[-1])


def layer_norm(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, epsilon: float) -> Call:
    c = ins[0].shape[-1]
    return bound(_layer_norm, _positions(ins[0]), threads, *ins, *outs, c, 1.0 / c, epsilon)


def layer_norm_dx(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int) -> Call:
    c = ins[0].shape[-1]
    return bound(_layer_norm_dx, _positions(ins[0]), threads, *ins, *outs, c, 1.0 / c)


def layer_norm_dgamma(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int) -> tuple[Call, Call]:
    return _summed(_layer_norm_dgamma, ins, outs, scratch, threads)


NATIVE: dict[str, Any] = {
    "group_norm": group_norm, "group_norm_dx": group_norm_dx, "group_norm_dgamma": group_norm_dgamma,
    "layer_norm": layer_norm, "layer_norm_dx": layer_norm_dx, "layer_norm_dgamma": layer_norm_dgamma,
}  # fmt: skip
