"""Batch normalisation (Ioffe and Szegedy, ICML 2015).

Shapes: x, y (N, …, C), seen as R = N H W rows; everything else (C,). Loops run over rows of ``row_width(C)`` elements:
of few channels several positions at once, for which numbers per channel are copied side by side.
What limits all of them is reading memory: each pass reads its arrays once.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

from cnnforge.backends.numba.driver import Call, bound
from cnnforge.backends.numba.language import float32, float64
from cnnforge.backends.numba.rules.norm import NORM_SHARDS, row_width
from cnnforge.backends.numba.signature import Kernel, doubles, floats, longs
from cnnforge.backends.numpy.types import Arrays

#: Elements (about) that a kernel works on at a time: they stay in the first cache for a second look.
PIECE = 4096


@Kernel
def _moments(block: int, lo: int, hi: int, thread: int) -> None:
    """x -> each shard's mean and M2, the sum of squared distances from it. Range: shards.

    A piece's mean, then its M2 while it is in the cache, then both into the shard's by the rule of Chan, Golub and
    LeVeque (1983). moments: (NORM_SHARDS, 4, width): mean, M2, and two rows to work in.
    """
    a = longs(block)
    rows, c, width = a[2], a[3], a[4]
    for shard in range(lo, hi):
        begin, end = shard * rows // NORM_SHARDS * c, (shard + 1) * rows // NORM_SHARDS * c
        mean = floats(a[1] + shard * 16 * width)
        m2 = floats(a[1] + (shard * 4 + 1) * 4 * width)
        centre = floats(a[1] + (shard * 4 + 2) * 4 * width)
        square = floats(a[1] + (shard * 4 + 3) * 4 * width)
        for j in range(c):
            mean[j] = m2[j] = float32(0)
        size = max(1, PIECE // width) * width
        for at in range(begin, end, size):
            n = min(size, end - at)
            for j in range(width):
                centre[j] = square[j] = float32(0)
            for row in range(0, n, width):
                x = floats(a[0] + (at + row) * 4)
                for j in range(min(width, n - row)):
                    centre[j] += x[j]
            for k in range(c, width):
                centre[k % c] += centre[k]
            share = float32(c) / float32(n)
            for j in range(c):
                centre[j] *= share
            for k in range(c, width):
                centre[k] = centre[k % c]
            for row in range(0, n, width):
                x = floats(a[0] + (at + row) * 4)
                for j in range(min(width, n - row)):
                    d = x[j] - centre[j]
                    square[j] += d * d
            for k in range(c, width):
                square[k % c] += square[k]
            before = float32(at - begin) / float32(c)
            new = float32(n) / float32(at - begin + n)
            for j in range(c):
                d = centre[j] - mean[j]
                mean[j] += d * new
                m2[j] += square[j] + d * d * (before * new)


@Kernel
def _merge_moments(block: int, lo: int, hi: int, thread: int) -> None:
    """Moments of shards, gamma, beta -> mean, var, unbiased var, and the rows mean, scale, shift. Range: one.

    Shards in order: the mean of means by their sizes, then M2 = sum(M2 of a shard + size (its mean - mean)^2).
    """
    a = longs(block)
    moments, gamma, beta, mean, var, unbiased = (
        floats(a[0]), floats(a[1]), floats(a[2]), floats(a[3]), floats(a[4]), floats(a[5])
    )  # fmt: skip
    rows, c, width, epsilon = a[7], a[8], a[9], float32(doubles(a[10])[0])
    centre, scale, shift = floats(a[6]), floats(a[6] + 4 * width), floats(a[6] + 8 * width)
    last = (NORM_SHARDS - 1) * 4 * width  # a shard that is never empty
    for j in range(c):
        mean[j] = var[j] = float32(0)
    for s in range(NORM_SHARDS):
        of = floats(a[0] + s * 16 * width)
        share = float32((s + 1) * rows // NORM_SHARDS - s * rows // NORM_SHARDS) / float32(rows)
        if share > 0:
            for j in range(c):
                mean[j] += share * (of[j] - moments[last + j])
    for j in range(c):
        mean[j] += moments[last + j]
    for s in range(NORM_SHARDS):
        of, m2 = floats(a[0] + s * 16 * width), floats(a[0] + (s * 4 + 1) * 4 * width)
        size = float32((s + 1) * rows // NORM_SHARDS - s * rows // NORM_SHARDS)
        if size > 0:
            for j in range(c):
                d = of[j] - mean[j]
                var[j] += m2[j] + size * d * d
    share = float32(1) / float32(rows)
    factor = float32(rows) / float32(rows - 1) if rows > 1 else float32(1)
    for j in range(c):
        v = var[j] * share
        var[j], unbiased[j] = v, v * factor
        centre[j], scale[j], shift[j] = mean[j], gamma[j] / sqrt(v + epsilon), beta[j]
    for k in range(c, width):
        centre[k], scale[k], shift[k] = centre[k % c], scale[k % c], shift[k % c]


@Kernel
def _known_moments(block: int, lo: int, hi: int, thread: int) -> None:
    """gamma, beta, mean, var -> the rows mean, scale, shift. Range: one."""
    a = longs(block)
    gamma, beta, mean, var = floats(a[0]), floats(a[1]), floats(a[2]), floats(a[3])
    c, width, epsilon = a[5], a[6], float32(doubles(a[7])[0])
    centre, scale, shift = floats(a[4]), floats(a[4] + 4 * width), floats(a[4] + 8 * width)
    for j in range(c):
        centre[j], scale[j], shift[j] = mean[j], gamma[j] / sqrt(var[j] + epsilon), beta[j]
    for k in range(c, width):
        centre[k], scale[k], shift[k] = centre[k % c], scale[k % c], shift[k % c]


@Kernel
def _normalise(block: int, lo: int, hi: int, thread: int) -> None:
    """y = (x - mean) scale + shift. Range: pieces."""
    a = longs(block)
    n, width, size = a[3], a[4], a[5]
    centre, scale, shift = floats(a[1]), floats(a[1] + 4 * width), floats(a[1] + 8 * width)
    end = min(hi * size, n)
    for at in range(lo * size, end, width):
        x, y = floats(a[0] + at * 4), floats(a[2] + at * 4)
        for j in range(min(width, end - at)):
            y[j] = (x[j] - centre[j]) * scale[j] + shift[j]


@Kernel
def _shard_dparams(block: int, lo: int, hi: int, thread: int) -> None:
    """x, mean, dy -> each shard's sum(dy (x - mean)) and sum(dy). Range: shards.

    sums: (NORM_SHARDS, 3, width), the third row to work in.
    """
    a = longs(block)
    mean, rows, c, width = floats(a[1]), a[4], a[5], a[6]
    for shard in range(lo, hi):
        begin, end = shard * rows // NORM_SHARDS * c, (shard + 1) * rows // NORM_SHARDS * c
        product = floats(a[3] + shard * 12 * width)
        total = floats(a[3] + (shard * 3 + 1) * 4 * width)
        centre = floats(a[3] + (shard * 3 + 2) * 4 * width)
        for j in range(width):
            product[j] = total[j] = float32(0)
            centre[j] = mean[j % c]
        for at in range(begin, end, width):
            x, dy = floats(a[0] + at * 4), floats(a[2] + at * 4)
            for j in range(min(width, end - at)):
                d = dy[j]
                product[j] += d * (x[j] - centre[j])
                total[j] += d
        for k in range(c, width):
            product[k % c] += product[k]
            total[k % c] += total[k]


@Kernel
def _merge_dparams(block: int, lo: int, hi: int, thread: int) -> None:
    """Sums of shards, var -> dgamma, dbeta. Range: one."""
    a = longs(block)
    var, dgamma, dbeta, c, width = floats(a[1]), floats(a[2]), floats(a[3]), a[4], a[5]
    epsilon = float32(doubles(a[6])[0])
    for j in range(c):
        dgamma[j] = dbeta[j] = float32(0)
    for s in range(NORM_SHARDS):
        product, total = floats(a[0] + s * 12 * width), floats(a[0] + (s * 3 + 1) * 4 * width)
        for j in range(c):
            dgamma[j] += product[j]
            dbeta[j] += total[j]
    for j in range(c):
        dgamma[j] /= sqrt(var[j] + epsilon)


@Kernel
def _factors(block: int, lo: int, hi: int, thread: int) -> None:
    """gamma, mean, var, dgamma, dbeta -> the rows mean, p, q, r of dx = p dy + q (x - mean) + r. Range: one."""
    a = longs(block)
    gamma, mean, var, dgamma, dbeta = floats(a[0]), floats(a[1]), floats(a[2]), floats(a[3]), floats(a[4])
    c, width, share, epsilon = a[6], a[7], float32(1) / float32(a[8]), float32(doubles(a[9])[0])
    centre, p = floats(a[5]), floats(a[5] + 4 * width)
    q, r = floats(a[5] + 8 * width), floats(a[5] + 12 * width)
    for j in range(c):
        inverse = float32(1) / sqrt(var[j] + epsilon)
        slope = gamma[j] * inverse
        centre[j], p[j], q[j], r[j] = mean[j], slope, -slope * inverse * dgamma[j] * share, -slope * dbeta[j] * share
    for k in range(c, width):
        centre[k], p[k], q[k], r[k] = centre[k % c], p[k % c], q[k % c], r[k % c]


@Kernel
def _normalise_dx(block: int, lo: int, hi: int, thread: int) -> None:
    """dx = p dy + q (x - mean) + r, one affine pass. Range: pieces."""
    a = longs(block)
    n, width, size = a[4], a[5], a[6]
    centre, p = floats(a[2]), floats(a[2] + 4 * width)
    q, r = floats(a[2] + 8 * width), floats(a[2] + 12 * width)
    end = min(hi * size, n)
    for at in range(lo * size, end, width):
        x, dy, dx = floats(a[0] + at * 4), floats(a[1] + at * 4), floats(a[3] + at * 4)
        for j in range(min(width, end - at)):
            dx[j] = p[j] * dy[j] + (q[j] * (x[j] - centre[j]) + r[j])


@Kernel
def _running(block: int, lo: int, hi: int, thread: int) -> None:
    """new, running -> running = momentum running + (1 - momentum) new. Range: one."""
    a = longs(block)
    new, running, c, momentum = floats(a[0]), floats(a[1]), a[2], doubles(a[3])[0]
    kept, share = float32(momentum), float32(float64(1) - momentum)
    for j in range(c):
        running[j] = kept * running[j] + share * new[j]


def _sizes(x: Arrays) -> tuple[int, int, int, int, int]:
    """(elements, R, C, row width, elements of a piece)."""
    n, c = x[0].size, x[0].shape[-1]
    width = row_width(c)
    return n, n // c, c, width, max(1, PIECE // width) * width


def batch_norm(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, epsilon: float) -> tuple[Call, ...]:
    (x, gamma, beta), (y, mean, var, unbiased), (moments, rows) = ins, outs, scratch
    n, r, c, width, size = _sizes(ins)
    return (
        bound(_moments, NORM_SHARDS, threads, x, moments, r, c, width),
        bound(_merge_moments, 1, threads, moments, gamma, beta, mean, var, unbiased, rows, r, c, width, epsilon),
        bound(_normalise, -(-n // size), threads, x, rows, y, n, width, size),
    )


def batch_norm_inference(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, epsilon: float
) -> tuple[Call, ...]:
    (x, gamma, beta, mean, var), (y,), (rows,) = ins, outs, scratch
    n, _, c, width, size = _sizes(ins)
    return (
        bound(_known_moments, 1, threads, gamma, beta, mean, var, rows, c, width, epsilon),
        bound(_normalise, -(-n // size), threads, x, rows, y, n, width, size),
    )


def batch_norm_dparams(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, epsilon: float) -> tuple[Call, ...]:
    (x, mean, var, dy), (dgamma, dbeta), (sums,) = ins, outs, scratch
    _, r, c, width, _ = _sizes(ins)
    return (
        bound(_shard_dparams, NORM_SHARDS, threads, x, mean, dy, sums, r, c, width),
        bound(_merge_dparams, 1, threads, sums, var, dgamma, dbeta, c, width, epsilon),
    )


def batch_norm_dx(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, epsilon: float) -> tuple[Call, ...]:
    (x, gamma, mean, var, dgamma, dbeta, dy), (dx,), (rows,) = ins, outs, scratch
    n, r, c, width, size = _sizes(ins)
    return (
        bound(_factors, 1, threads, gamma, mean, var, dgamma, dbeta, rows, c, width, r, epsilon),
        bound(_normalise_dx, -(-n // size), threads, x, dy, rows, dx, n, width, size),
    )


def batch_norm_running(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, momentum: float
) -> tuple[Call, ...]:
    """The batch's mean and unbiased var, each into its running one."""
    return tuple(
        bound(_running, 1, threads, new, running, new.size, momentum) for new, running in zip(ins, outs, strict=True)
    )


NATIVE: dict[str, Any] = {
    "batch_norm": batch_norm, "batch_norm_inference": batch_norm_inference, "batch_norm_dparams": batch_norm_dparams,
    "batch_norm_dx": batch_norm_dx, "batch_norm_running": batch_norm_running,
}  # fmt: skip
