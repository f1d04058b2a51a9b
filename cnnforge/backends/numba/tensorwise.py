"""Updates of the flat parameter buffer that see each tensor by itself: LAMB needs lengths, Muon matrix products.

params, grads, slots: (P,), the tensors of one range side by side; grads are sums over the batch, scaled here by
``inv_n`` of the step block, which is read when the kernel runs; ``rate`` is the range's own factor on its learning
rate. Lengths are sums over pieces, always added up in the same order, so that the number of threads changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from typing import Any

import numpy as np

from cnnforge.backends.numba.driver import Call, bound
from cnnforge.backends.numba.elementwise import streamed
from cnnforge.backends.numba.language import float32
from cnnforge.backends.numba.linear import matmul_dw, product
from cnnforge.backends.numba.rules.elementwise import PIECE
from cnnforge.backends.numba.rules.optimizer import pieces
from cnnforge.backends.numba.signature import Kernel, doubles, floats, longs
from cnnforge.backends.numba.vectors import LANES, put_upto, root, splat, upto
from cnnforge.backends.numpy.tensorwise import check_sizes, tensors_of
from cnnforge.backends.numpy.types import Array, Arrays
from cnnforge.ir.graph import STEP_FIELDS

_LR, _INV_N, _C1, _C2 = (STEP_FIELDS.index(name) for name in ("lr", "inv_n", "c1", "c2"))
#: Words of a piece in LAMB's table: its first element and one past its last, its tensor's first piece and one past its
#: last.
_ROW = 4


@Kernel
def _lamb_moments(block: int, lo: int, hi: int, thread: int) -> None:
    """Adam's moments, and sums of squares of weights and of their steps. Range: pieces. Memory limits it."""
    a = longs(block)
    params, grads, values, means, squares, sums, rows = a[0], a[1], doubles(a[2]), a[3], a[4], a[5], longs(a[6])
    kept, new, moved = splat(doubles(a[8])[0]), splat(1 - doubles(a[8])[0]), splat(1 - doubles(a[7])[0])
    epsilon, decay, inv_n = splat(doubles(a[9])[0]), splat(doubles(a[10])[0]), splat(values[_INV_N])
    c1, correction = splat(values[_C1]), splat(sqrt(values[_C2]))
    for piece in range(lo, hi):
        weights, steps, stop = splat(0), splat(0), rows[_ROW * piece + 1]
        for i in range(rows[_ROW * piece], stop, LANES):
            p, g = upto(params + 4 * i, stop - i), upto(grads + 4 * i, stop - i) * inv_n
            mean = upto(means + 4 * i, stop - i)
            mean += (g - mean) * moved
            put_upto(means + 4 * i, mean, stop - i)
            square = upto(squares + 4 * i, stop - i) * kept + g * g * new
            put_upto(squares + 4 * i, square, stop - i)
            u = mean / (root(square) / correction + epsilon) / c1 + p * decay
            weights += p * p
            steps += u * u
        put_upto(sums + 8 * piece * LANES, weights, LANES)
        put_upto(sums + 8 * piece * LANES + 4 * LANES, steps, LANES)


@Kernel
def _lamb_step(block: int, lo: int, hi: int, thread: int) -> None:
    """The steps, as long as their tensors say. Range: pieces. Memory limits it.

    Everybody adds up the sums of the tensors that its part of the range meets.
    """
    a = longs(block)
    params, values, means, squares, sums, rows = a[0], doubles(a[1]), a[2], a[3], floats(a[4]), longs(a[5])
    epsilon, decay, lr = splat(doubles(a[6])[0]), splat(doubles(a[7])[0]), values[_LR] * doubles(a[8])[0]
    c1, correction = splat(values[_C1]), splat(sqrt(values[_C2]))
    held, trust = -1, 1.0
    for piece in range(lo, hi):
        first, last = rows[_ROW * piece + 2], rows[_ROW * piece + 3]
        if held != first:
            held, weights, steps = first, 0.0, 0.0
            for other in range(first, last):
                for lane in range(LANES):
                    weights += float(sums[2 * other * LANES + lane])
                    steps += float(sums[2 * other * LANES + LANES + lane])
            trust = 1.0 if weights == 0 or steps == 0 else sqrt(weights) / sqrt(steps)
        by, stop = splat(lr * trust), rows[_ROW * piece + 1]
        for i in range(rows[_ROW * piece], stop, LANES):
            p, mean = upto(params + 4 * i, stop - i), upto(means + 4 * i, stop - i)
            square = upto(squares + 4 * i, stop - i)
            u = mean / (root(square) / correction + epsilon) / c1 + p * decay
            put_upto(params + 4 * i, p - u * by, stop - i)


@Kernel
def _muon_mean(block: int, lo: int, hi: int, thread: int) -> None:
    """m += (1 - momentum)(g - m); x = m, or with Nesterov g + momentum (m - g); its sums of squares. Range: pieces."""
    a = longs(block)
    grads, values, means, x, sums, nesterov, n = a[0], doubles(a[1]), a[2], a[3], a[4], a[6], a[7]
    moved, inv_n = splat(1 - doubles(a[5])[0]), splat(values[_INV_N])
    for piece in range(lo, hi):
        total = splat(0)
        for i in range(piece * PIECE, min((piece + 1) * PIECE, n), LANES):
            g, mean = upto(grads + 4 * i, n - i) * inv_n, upto(means + 4 * i, n - i)
            mean += (g - mean) * moved
            put_upto(means + 4 * i, mean, n - i)
            u = mean + (g - mean) * moved if nesterov else mean
            put_upto(x + 4 * i, u, n - i)
            total += u * u
        put_upto(sums + 4 * piece * LANES, total, LANES)


@Kernel
def _muon_unit(block: int, lo: int, hi: int, thread: int) -> None:
    """x / max(|x|, epsilon). Range: pieces. Everybody adds the sums up, in the same order."""
    a = longs(block)
    x, sums, epsilon, count, n = a[0], floats(a[1]), doubles(a[2])[0], a[3], a[4]
    total = 0.0
    for i in range(count):
        total += float(sums[i])
    length = sqrt(total)
    by = splat(1 / (epsilon if length < epsilon else length))
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        put_upto(x + 4 * i, upto(x + 4 * i, n - i) * by, n - i)


@Kernel
def _muon_polynomial(block: int, lo: int, hi: int, thread: int) -> None:
    """gram = a + b gram + c square, where a stands for a diagonal matrix. Range: rows."""
    q = longs(block)
    gram, square, a, b, c, n = q[0], q[1], doubles(q[2])[0], splat(doubles(q[3])[0]), splat(doubles(q[4])[0]), q[5]
    for row in range(lo, hi):
        at, to = square + 4 * row * n, gram + 4 * row * n
        for i in range(0, n, LANES):
            put_upto(to + 4 * i, upto(to + 4 * i, n - i) * b + upto(at + 4 * i, n - i) * c, n - i)
        floats(to)[row] += float32(a)


@Kernel
def _muon_step(block: int, lo: int, hi: int, thread: int) -> None:
    """p = (1 - lr decay) p - lr factor x. Range: pieces. Memory limits it."""
    a = longs(block)
    params, x, values, decay, rate, factor, n = (
        a[0], a[1], doubles(a[2]), doubles(a[3])[0], doubles(a[4])[0], doubles(a[5])[0], a[6],
    )  # fmt: skip
    lr = values[_LR] * rate
    shrink, by = splat(1 - lr * decay), splat(lr * factor)
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        put_upto(params + 4 * i, upto(params + 4 * i, n - i) * shrink - upto(x + 4 * i, n - i) * by, n - i)


def lamb(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int,
    *, beta1: float, beta2: float, epsilon: float, weight_decay: float, sizes: tuple[int, ...], rate: float = 1.0,
) -> tuple[Call, Call]:  # fmt: skip
    """params, grads, step, means, squares -> params, means, squares."""
    (params, grads, block, means, squares), (sums,) = ins, scratch
    rows = np.array(_rows(sizes), np.int64)
    check_sizes(sizes, params, grads, means, squares)
    shared = (means, squares, sums, rows)
    rest = float(epsilon), float(weight_decay)
    return (
        bound(_lamb_moments, len(rows), threads, params, grads, block, *shared, float(beta1), float(beta2), *rest),
        bound(_lamb_step, len(rows), threads, params, block, *shared, *rest, float(rate)),
    )


def _rows(sizes: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    """LAMB's table: pieces end where tensors do."""
    rows: list[tuple[int, int, int, int]] = []
    start = 0
    for size in sizes:
        first, last, stop = len(rows), len(rows) + pieces(size), start + size
        rows += [(at, min(at + PIECE, stop), first, last) for at in range(start, stop, PIECE)]
        start = stop
    return rows


def muon(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int,
    *, momentum: float, nesterov: bool, coefficients: tuple[float, float, float], steps: int, epsilon: float,
    weight_decay: float, matrices: tuple[tuple[int, int], ...], factors: tuple[float, ...], rate: float = 1.0,
) -> tuple[Call, ...]:  # fmt: skip
    """params, grads, step, means -> params, means: one tensor after another, each by several kernels."""
    params, grads, block, means = ins
    *spaces, sums, packed = scratch
    calls: list[Call] = []
    cut = tensors_of([m * n for m, n in matrices], params, grads, means)
    for (p, g, mean), (m, n), factor in zip(cut, matrices, factors, strict=True):
        size, side = m * n, min(m, n)
        x, y = (space[:size].reshape(m, n) for space in spaces[:2])
        gram, square = (space[: side * side].reshape(side, side) for space in spaces[2:])
        own = sums[: pieces(size)]
        calls += [
            streamed(_muon_mean, threads, g, block, mean, x, own, float(momentum), int(nesterov), n=size),
            streamed(_muon_unit, threads, x, own, float(epsilon), own.size, n=size),
        ]
        for _ in range(steps):
            calls += _newton_schulz(x, y, gram, square, packed, coefficients, threads)
            x, y = y, x
        rest = float(weight_decay), float(rate), float(factor)
        calls.append(streamed(_muon_step, threads, p, x, block, *rest, n=size))
    return tuple(calls)


def _newton_schulz(
    x: Array, y: Array, gram: Array, square: Array, packed: Array, coefficients: tuple[float, float, float],
    threads: int,
) -> Iterator[Call]:  # fmt: skip
    """y = a x + (b x x^T + c (x x^T)^2) x for a wide x (m, n), and with x^T x behind x for a tall one.

    The squares are of the shorter side; a lies on their diagonal, which saves a pass over x.
    """
    wide = x.shape[0] <= x.shape[1]
    if wide:
        yield product(x, x, gram, (packed,), threads, True)
    else:
        yield matmul_dw((x, x), (gram,), (packed,), threads)
    yield product(gram, gram, square, (packed,), threads, False)
    side = len(gram)
    yield bound(_muon_polynomial, side, threads, gram, square, *map(float, coefficients), side)
    yield product(*((gram, x) if wide else (x, gram)), y, (packed,), threads, False)


NATIVE: dict[str, Any] = {"lamb": lamb, "muon": muon}
