"""Weights that norm as well, for inference."""

from __future__ import annotations

from cnnforge.backends.numba.driver import Call, bound
from cnnforge.backends.numba.signature import Kernel, doubles, longs
from cnnforge.backends.numba.vectors import LANES, put_some, root, some, splat
from cnnforge.backends.numpy.types import Arrays


@Kernel
def _fold(block: int, lo: int, hi: int, thread: int) -> None:
    """w (rows, F), gamma, beta, mean, var, b or 0 -> folded (rows, F), shift (F,). Range: rows. Bound by memory."""
    a = longs(block)
    f, epsilon = a[8], splat(doubles(a[9])[0])
    for j in range(0, f, LANES):
        at, n = 4 * j, f - j
        scale = some(a[1] + at, n) / root(some(a[4] + at, n) + epsilon)
        for row in range(lo, hi):
            place = 4 * row * f + at
            put_some(a[6] + place, some(a[0] + place, n) * scale, n)
        if lo == 0:
            before = some(a[5] + at, n) if a[5] else splat(0)
            put_some(a[7] + at, (before - some(a[3] + at, n)) * scale + some(a[2] + at, n), n)


def fold_batch_norm(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, epsilon: float) -> Call:
    """w (…, F), gamma, beta, running mean, running var[, b] -> weights and bias that norm as well."""
    w, *of_norm = ins
    b = of_norm[4] if len(of_norm) > 4 else 0
    f = w.shape[-1]
    return bound(_fold, w.size // f, threads, w, *of_norm[:4], b, *outs, f, epsilon)


NATIVE = {"fold_batch_norm": fold_batch_norm}
