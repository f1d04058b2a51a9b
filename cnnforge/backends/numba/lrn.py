"""Local response normalisation across channels (Krizhevsky et al., NeurIPS 2012), with PyTorch's window and scale.

Shapes: x, y, base (N, H, W, C). base = k + alpha/size * sum of x^2 over the channels from c - size//2 to
c + (size - 1)//2; y = x base^-beta. A position's terms lie between zeros in a row of each thread's, so that the sums
over windows are whole vectors, each read ``size`` times from the first cache.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from llvmlite import ir

from cnnforge.backends.numba.driver import Call, bound
from cnnforge.backends.numba.formulas import Code, Vector, passage
from cnnforge.backends.numba.signature import Kernel, longs
from cnnforge.backends.numba.sweeps import clear
from cnnforge.backends.numba.vectors import LANES, VECTOR, called
from cnnforge.backends.numpy.types import Arrays

#: The exponent of the paper and of every published net, for which roots will do.
USUAL = 0.75

# Words of both argument blocks, behind three arrays and the rows of terms.
ROWS, LENGTH, C, SIZE, BEFORE, FACTOR, K, BETA, IS_USUAL = range(4, 13)


def _power(code: Code, base: Vector, beta: ir.Value, usual: bool) -> Vector:
    """base^-beta."""
    if usual:
        root = base.root()
        return (root * root.root()).inverse()
    exponent = code.constant(beta) * -1.0
    return Vector(code.builder, called(code.builder, f"llvm.pow.v{LANES}f32", VECTOR, [base.value, exponent.value]))


def _terms_and_sums(code: Code, block: ir.Value, row: ir.Value, terms: ir.Value, usual: bool, back: bool) -> None:
    """One position. Forward x -> y, base.

    Back x, base, dy -> dx = dy base^-beta - factor x sum(dy x base^-(beta + 1)).
    """
    c, size, before, factor = (code.at(block, i) for i in (C, SIZE, BEFORE, FACTOR))
    beta, start = code.at(block, BETA), code.times(row, c, 4)
    arrays = [code.sum(code.at(block, i), start) for i in range(4)]
    middle = code.sum(terms, code.times(before, 4))

    def fill(k: ir.Value, vectors: int, left: ir.Value | None) -> None:
        for i in range(vectors):
            at = code.times(code.sum(k, LANES * i), 4)
            x = code.load(code.sum(arrays[0], at), left)
            if not back:
                term = x * x
            else:
                base, dy = (code.load(code.sum(arrays[j], at), left) for j in (1, 2))
                share = dy * _power(code, base, beta, usual)
                code.store(code.sum(arrays[3], at), share, left)
                term = share * x / base
            code.store(code.sum(middle, at), term, left)

    def finish(k: ir.Value, vectors: int, left: ir.Value | None) -> None:
        for i in range(vectors):
            at = code.times(code.sum(k, LANES * i), 4)
            near = code.sum(terms, at)
            (total,) = code.folded(
                0, size, [code.zero()], lambda j, v, near=near: (v + code.load(code.sum(near, code.times(j, 4))),)
            )
            x = code.load(code.sum(arrays[0], at), left)
            if back:
                dx = code.sum(arrays[3], at)
                code.store(dx, code.load(dx, left) - x * total * code.constant(factor), left)
            else:
                base = total * code.constant(factor) + code.constant(code.at(block, K))
                code.store(code.sum(arrays[2], at), base, left)
                code.store(code.sum(arrays[1], at), x * _power(code, base, beta, usual), left)

    code.channels(c, fill)
    code.channels(c, finish)


_forward, _forward_usual = (passage(3, partial(_terms_and_sums, usual=usual, back=False)) for usual in (False, True))
_back, _back_usual = (passage(3, partial(_terms_and_sums, usual=usual, back=True)) for usual in (False, True))


@Kernel
def _lrn(block: int, lo: int, hi: int, thread: int) -> None:
    """x -> y, base. Range: positions."""
    a = longs(block)
    terms = a[ROWS] + 4 * thread * a[LENGTH]
    clear(terms, a[LENGTH])
    for row in range(lo, hi):
        if a[IS_USUAL]:
            _forward_usual(block, row, terms)
        else:
            _forward(block, row, terms)


@Kernel
def _lrn_dx(block: int, lo: int, hi: int, thread: int) -> None:
    """x, base, dy -> dx. Range: positions."""
    a = longs(block)
    terms = a[ROWS] + 4 * thread * a[LENGTH]
    clear(terms, a[LENGTH])
    for row in range(lo, hi):
        if a[IS_USUAL]:
            _back_usual(block, row, terms)
        else:
            _back(block, row, terms)


def lrn(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, size: int, alpha: float, beta: float, k: float
) -> Call:
    (x,), (y, base), (rows,) = ins, outs, scratch
    c = x.shape[-1]
    own = (rows.shape[1], c, size, size // 2, alpha / size, float(k), float(beta), beta == USUAL)
    return bound(_lrn, x.size // c, threads, x, y, base, 0, rows, *own)


def lrn_dx(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, size: int, alpha: float, beta: float) -> Call:
    """The window turned round: the channels in whose window this one lies."""
    (x, base, dy), (dx,), (rows,) = ins, outs, scratch
    c = x.shape[-1]
    own = (rows.shape[1], c, size, (size - 1) // 2, 2 * alpha * beta / size, 0.0, float(beta), beta == USUAL)
    return bound(_lrn_dx, x.size // c, threads, x, base, dy, dx, rows, *own)


NATIVE: dict[str, Any] = {"lrn": lrn, "lrn_dx": lrn_dx}
