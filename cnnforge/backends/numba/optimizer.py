"""Updates of the flat parameter buffer in one pass. Range: pieces.

params, grads, slots: (P,); grads are sums over the batch, scaled here by ``inv_n`` of the step block, which is read
when the kernel runs; ``rate`` is the range's own factor on its learning rate. The order of operations is the numpy
backend's; products and sums may be rounded once.
Memory limits them: each array is read once and, but for the gradients, written once.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

from cnnforge.backends.constants import CLIP_EPSILON
from cnnforge.backends.numba.driver import Call
from cnnforge.backends.numba.elementwise import streamed
from cnnforge.backends.numba.language import float32
from cnnforge.backends.numba.rules.elementwise import PIECE
from cnnforge.backends.numba.signature import Kernel, doubles, floats, longs
from cnnforge.backends.numba.vectors import LANES, put_upto, root, splat, upto, where
from cnnforge.backends.numpy.types import Arrays
from cnnforge.ir.graph import STEP_FIELDS

_LR, _INV_N, _C1, _C2, _KEEP = (STEP_FIELDS.index(name) for name in ("lr", "inv_n", "c1", "c2", "keep"))


@Kernel
def _sgd(block: int, lo: int, hi: int, thread: int) -> None:
    """v = momentum v + g; p -= lr (v, or with Nesterov g + momentum v); without momentum p -= lr g, and no v."""
    a = longs(block)
    params, grads, values, velocity, n = a[0], a[1], doubles(a[2]), a[3], a[8]
    momentum, nesterov, decay = splat(doubles(a[4])[0]), a[5], splat(doubles(a[6])[0])
    lr, inv_n = splat(values[_LR] * doubles(a[7])[0]), splat(values[_INV_N])
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        p = upto(params + 4 * i, n - i)
        g = upto(grads + 4 * i, n - i) * inv_n + p * decay
        if velocity:
            v = upto(velocity + 4 * i, n - i) * momentum + g
            put_upto(velocity + 4 * i, v, n - i)
            g = g + v * momentum if nesterov else v
        put_upto(params + 4 * i, p - g * lr, n - i)


@Kernel
def _rmsprop(block: int, lo: int, hi: int, thread: int) -> None:
    """s = alpha s + (1 - alpha) g^2; p -= lr g / (sqrt s + epsilon), or by a velocity that gathers the quotients."""
    a = longs(block)
    params, grads, values, squares, velocity, n = a[0], a[1], doubles(a[2]), a[3], a[4], a[10]
    alpha, epsilon = doubles(a[5])[0], splat(doubles(a[6])[0])
    momentum, decay = splat(doubles(a[7])[0]), splat(doubles(a[8])[0])
    kept, new = splat(alpha), splat(1 - alpha)
    lr, inv_n = splat(values[_LR] * doubles(a[9])[0]), splat(values[_INV_N])
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        p = upto(params + 4 * i, n - i)
        g = upto(grads + 4 * i, n - i) * inv_n + p * decay
        square = upto(squares + 4 * i, n - i) * kept + g * g * new
        put_upto(squares + 4 * i, square, n - i)
        g = g / (root(square) + epsilon)
        if velocity:
            g += upto(velocity + 4 * i, n - i) * momentum
            put_upto(velocity + 4 * i, g, n - i)
        put_upto(params + 4 * i, p - g * lr, n - i)


@Kernel
def _adam(block: int, lo: int, hi: int, thread: int) -> None:
    """m += (1 - beta1) (g - m); s = beta2 s + (1 - beta2) g^2; p -= lr / c1 m / (sqrt s / sqrt c2 + epsilon).

    ``decay`` is added to the gradient; ``decoupled`` shrinks p first, by 1 - lr decoupled.
    """
    a = longs(block)
    params, grads, values, means, squares, n = a[0], a[1], doubles(a[2]), a[3], a[4], a[11]
    beta1, beta2, epsilon = doubles(a[5])[0], doubles(a[6])[0], splat(doubles(a[7])[0])
    decay, lr = splat(doubles(a[8])[0]), values[_LR] * doubles(a[10])[0]
    shrink, rate, inv_n = splat(1 - lr * doubles(a[9])[0]), splat(lr / values[_C1]), splat(values[_INV_N])
    kept, new, moved, correction = splat(beta2), splat(1 - beta2), splat(1 - beta1), splat(sqrt(values[_C2]))
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        p = upto(params + 4 * i, n - i)
        g = upto(grads + 4 * i, n - i) * inv_n + p * decay
        mean = upto(means + 4 * i, n - i)
        mean += (g - mean) * moved
        put_upto(means + 4 * i, mean, n - i)
        square = upto(squares + 4 * i, n - i) * kept + g * g * new
        put_upto(squares + 4 * i, square, n - i)
        step = mean / (root(square) / correction + epsilon) * rate
        put_upto(params + 4 * i, p * shrink - step, n - i)


@Kernel
def _gather(block: int, lo: int, hi: int, thread: int) -> None:
    """gathered += grads. Range: pieces."""
    a = longs(block)
    grads, gathered, n = a[0], a[1], a[2]
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        put_upto(gathered + 4 * i, upto(gathered + 4 * i, n - i) + upto(grads + 4 * i, n - i), n - i)


@Kernel
def _take(block: int, lo: int, hi: int, thread: int) -> None:
    """grads = gathered; gathered = 0. Range: pieces."""
    a = longs(block)
    gathered, grads, n = a[0], a[1], a[2]
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        put_upto(grads + 4 * i, upto(gathered + 4 * i, n - i), n - i)
        put_upto(gathered + 4 * i, splat(0), n - i)


@Kernel
def _average(block: int, lo: int, hi: int, thread: int) -> None:
    """mean += (1 - keep) (params - mean), to the bit params where nothing is kept. Range: pieces."""
    a = longs(block)
    mean, params, kept, n = a[0], a[1], doubles(a[2])[_KEEP], a[3]
    new = splat(1 - kept)
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        m, p = upto(mean + 4 * i, n - i), upto(params + 4 * i, n - i)
        put_upto(mean + 4 * i, m + (p - m) * new if kept else p, n - i)


@Kernel
def _squares(block: int, lo: int, hi: int, thread: int) -> None:
    """grads -> a vector of sums of squares for each piece. Range: pieces. Memory limits it."""
    a = longs(block)
    grads, sums, n = a[0], a[1], a[2]
    for piece in range(lo, hi):
        total = splat(0)
        for i in range(piece * PIECE, min((piece + 1) * PIECE, n), LANES):
            g = upto(grads + 4 * i, n - i)
            total += g * g
        put_upto(sums + 4 * piece * LANES, total, LANES)


@Kernel
def _clip_norm(block: int, lo: int, hi: int, thread: int) -> None:
    """grads times most / (length + epsilon) where that is below 1. Range: pieces.

    Everybody adds the sums up, in the same order; the first part of the range writes the length down.
    """
    a = longs(block)
    grads, sums, length, values, count, n = a[0], floats(a[1]), floats(a[2]), doubles(a[3]), a[6], a[7]
    total = 0.0
    for i in range(count):
        total += float(sums[i])
    found = sqrt(total) * values[_INV_N]
    if lo == 0:
        length[0] = float32(found)
    factor = doubles(a[4])[0] / (found + doubles(a[5])[0])
    if factor < 1:
        by = splat(factor)
        for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
            put_upto(grads + 4 * i, upto(grads + 4 * i, n - i) * by, n - i)


@Kernel
def _clip_value(block: int, lo: int, hi: int, thread: int) -> None:
    """Each gradient between plus and minus most / inv_n; nan stays. Range: pieces."""
    a = longs(block)
    grads, values, n = a[0], doubles(a[1]), a[3]
    most = doubles(a[2])[0] / values[_INV_N]
    high, low = splat(most), splat(-most)
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        g = upto(grads + 4 * i, n - i)
        put_upto(grads + 4 * i, where(g > high, high, where(low > g, low, g)), n - i)


def gather(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int) -> Call:
    """grads, gathered -> gathered."""
    return streamed(_gather, threads, *ins, n=ins[0].size)


def take(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int) -> Call:
    """gathered -> grads, gathered."""
    return streamed(_take, threads, ins[0], outs[0], n=ins[0].size)


def average(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int) -> Call:
    """mean, params, step -> mean."""
    return streamed(_average, threads, *ins, n=ins[0].size)


def clip_norm(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, most: float) -> tuple[Call, Call]:
    """grads, step -> grads, length."""
    (grads, block), (_, length), (sums,) = ins, outs, scratch
    rest = (float(most), CLIP_EPSILON, sums.size)
    return (
        streamed(_squares, threads, grads, sums, n=grads.size),
        streamed(_clip_norm, threads, grads, sums, length, block, *rest, n=grads.size),
    )


def clip_value(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, most: float) -> Call:
    """grads, step -> grads."""
    grads, block = ins
    return streamed(_clip_value, threads, grads, block, float(most), n=grads.size)


def sgd(
    ins: Arrays,
    outs: Arrays,
    scratch: Arrays,
    threads: int,
    *,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
    rate: float = 1.0,
) -> Call:
    """params, grads, step[, velocity] -> params[, velocity]."""
    params, grads, block, *slots = ins
    velocity = slots[0] if momentum else 0
    rest = (float(momentum), int(nesterov), float(weight_decay), float(rate))
    return streamed(_sgd, threads, params, grads, block, velocity, *rest, n=params.size)


def rmsprop(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int,
    *, alpha: float, epsilon: float, momentum: float, weight_decay: float, rate: float = 1.0,
) -> Call:  # fmt: skip
    """params, grads, step, squares[, velocity] -> params, squares[, velocity]."""
    params, grads, block, squares, *slots = ins
    velocity = slots[0] if momentum else 0
    rest = (float(alpha), float(epsilon), float(momentum), float(weight_decay), float(rate))
    return streamed(_rmsprop, threads, params, grads, block, squares, velocity, *rest, n=params.size)


def _adam_bound(decoupled: bool) -> Any:
    def bind(
        ins: Arrays, outs: Arrays, scratch: Arrays, threads: int,
        *, beta1: float, beta2: float, epsilon: float, weight_decay: float, rate: float = 1.0,
    ) -> Call:  # fmt: skip
        params = ins[0]
        decay = (0.0, float(weight_decay)) if decoupled else (float(weight_decay), 0.0)
        rest = (float(beta1), float(beta2), float(epsilon), *decay, float(rate))
        return streamed(_adam, threads, *ins, *rest, n=params.size)

    return bind


NATIVE: dict[str, Any] = {
    "gather": gather, "take": take, "average": average, "clip_norm": clip_norm, "clip_value": clip_value,
    "sgd": sgd, "rmsprop": rmsprop, "adam": _adam_bound(False),
    "adamw": _adam_bound(True),
}  # fmt: skip
