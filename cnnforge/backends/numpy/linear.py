"""Matrix products, bias, sums, and the reshape that moves nothing.

Shapes: x (N, in), w (in, units), y (N, units), b (units,) or (F,) over any leading axes.
"""

from __future__ import annotations

import numpy as np

from cnnforge.backends.base import Kernel, Step
from cnnforge.backends.numpy.types import Array, Arrays


def matmul(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """x, w -> y = x w."""
    (x, w), (y,) = ins, outs

    def step() -> None:
        np.matmul(x, w, out=y)

    return step


def matmul_dx(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """dy, w -> dx = dy w^T."""
    (dy, w), (dx,) = ins, outs

    def step() -> None:
        np.matmul(dy, w.T, out=dx)

    return step


def matmul_dw(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """x, dy -> dw = x^T dy, summed over the batch."""
    (x, dy), (dw,) = ins, outs

    def step() -> None:
        np.matmul(x.T, dy, out=dw)

    return step


def bias(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """x, b -> y = x + b over the last axis.

    Workspace: the biases of one picture row, side by side, because a loop over six channels at a time is ten times
    slower than one over a row.
    """
    (x, b), (y,), (row,) = ins, outs, scratch
    tiled = row.reshape(-1, b.shape[0])
    by_row, result = x.reshape(-1, row.size), y.reshape(-1, row.size)

    def step() -> None:
        np.copyto(tiled, b)
        np.add(by_row, row, out=result)

    return step


def column_sums(matrix: Array, ones: Array, out: Array) -> Step:
    """Sum over rows as a product with ones: BLAS reads rows of few channels far faster than ``np.sum(axis=0)`` does.

    matrix: (R, C), ones: R elements of workspace, out: C elements.
    """
    row, result = ones.reshape(1, -1), out.reshape(1, -1)

    def step() -> None:
        row.fill(1)
        np.matmul(row, matrix, out=result)

    return step


def bias_db(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """dy -> db, summed over every axis but the last."""
    (dy,), (db,), (ones,) = ins, outs, scratch
    return column_sums(dy.reshape(-1, dy.shape[-1]), ones, db)


def add(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """a, b -> a + b."""
    (a, b), (y,) = ins, outs

    def step() -> None:
        np.add(a, b, out=y)

    return step


def reshape(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """The same memory under another shape; the planner has placed both at one address."""
    (x,), (y,) = ins, outs
    assert x.ctypes.data == y.ctypes.data, "a reshape was planned as a copy"
    return lambda: None


KERNELS: dict[str, Kernel] = {
    "matmul": matmul, "matmul_dx": matmul_dx, "matmul_dw": matmul_dw, "bias": bias, "bias_db": bias_db, "add": add,
    "reshape": reshape,
}  # fmt: skip
