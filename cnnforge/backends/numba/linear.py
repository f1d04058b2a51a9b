"""Matrix products of fully connected layers.

Shapes: x (N, in), w (in, units), y (N, units). Weights are large and used for few rows, so each thread packs a block
of them where it is needed, and uses it while the cache still holds it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnforge.backends.numba.driver import Call, bound
from cnnforge.backends.numba.language import carray
from cnnforge.backends.numba.pack import pack, pack_turned
from cnnforge.backends.numba.rules.base import Parts
from cnnforge.backends.numba.rules.linear import BOUNDS, DEPTH
from cnnforge.backends.numba.signature import Kernel, longs
from cnnforge.backends.numba.tiles import ACROSS, ALONG, COLUMNS, ROWS, UNBOUNDED, across, along
from cnnforge.backends.numba.vectors import LANES
from cnnforge.backends.numpy.types import Array, Arrays

#: Rows of a product that meet a packed block before the next is packed.
BLOCK = 192


@Kernel
def _product(block: int, lo: int, hi: int, thread: int) -> None:
    """a (n, k), b (k, m) or turned (m, k) -> c (n, m). Range: blocks of columns x blocks of rows.

    Bound by multiplication; for few rows by reading b once.
    """
    q = carray(longs(block), (18,))
    a, b, c, own, product, rows, places, tap, start, bounds, free = (
        q[0], q[1], q[2], q[3] + 4 * thread * DEPTH * COLUMNS, q[4], q[5], q[6], q[7], q[8], q[9], q[10],
    )  # fmt: skip
    n, k, m, size, turned, as_it_lies, step = q[11], q[12], q[13], q[14], q[15], q[16], q[17]
    pieces = (n + size - 1) // size
    for depth in range(0, k, DEPTH):
        run, held = min(DEPTH, k - depth), -1
        for unit in range(lo, hi):
            first, row = unit // pieces * COLUMNS, unit % pieces * size
            columns = min(COLUMNS, m - first)
            whole = (columns + LANES - 1) // LANES * LANES
            at, down = own, 4 * whole
            if as_it_lies and columns == whole:
                at, down = b + 4 * (depth * m + first), step
            elif held != first:
                held = first
                if turned:
                    pack_turned(b + 4 * (first * k + depth), step, run, columns, own, down)
                else:
                    pack(b + 4 * (depth * m + first), step, run, columns, own, down)
            along(
                product, min(size, n - row), columns, a + 4 * (row * k + depth), rows, tap, 1, run, at, down,
                c + 4 * (row * m + first), places, start + 4 * first if start and not depth else 0, depth,
                bounds if depth + run == k else free,
            )  # fmt: skip


@Kernel
def _outer(block: int, lo: int, hi: int, thread: int) -> None:
    """x (n, k), dy (n, m) -> dw (k, m). Range: blocks of columns x blocks of rows.

    Bound by multiplication; for small batches by writing dw.
    """
    q = carray(longs(block), (12,))
    x, dy, dw, own, product, segment = q[0], q[1], q[2], q[3] + 4 * thread * DEPTH * COLUMNS, q[4], q[5]
    n, k, m, size, as_it_lies = q[6], q[7], q[8], q[9], q[10]
    pieces = (k + size - 1) // size
    for unit in range(lo, hi):
        first, row = unit // pieces * COLUMNS, unit % pieces * size
        columns = min(COLUMNS, m - first)
        whole = (columns + LANES - 1) // LANES * LANES
        for depth in range(0, n, DEPTH):
            run = min(DEPTH, n - depth)
            at, down = dy + 4 * (depth * m + first), 4 * m
            if not as_it_lies:
                pack(at, down, run, columns, own, 4 * whole)
                at, down = own, 4 * whole
            across(
                product, min(size, k - row), columns, x + 4 * (depth * k + row), at, segment, 1, run, 4 * k, down,
                dw + 4 * (row * m + first), 4 * m, depth,
            )  # fmt: skip


def _rows(n: int, blocks: int, threads: int) -> int:
    """Rows of a unit, for ``blocks`` blocks of columns: enough units for all threads, and about the same in each."""
    pieces = -(-n // BLOCK)
    while blocks * pieces < 4 * threads and n > 4 * ROWS * pieces:
        pieces += 1
    rows = -(-n // pieces)
    return -(-rows // ROWS) * ROWS


def product(
    a: Array, b: Array, c: Array, space: Arrays, threads: int, turned: bool,
    added: Array | None = None, bounds: tuple[float, float] = UNBOUNDED,
) -> Call:  # fmt: skip
    """a (n, k), b (k, m), or (m, k) where ``turned``, -> c (n, m)."""
    (n, k), m = a.shape, c.shape[1]
    blocks = -(-m // COLUMNS)
    size = _rows(n, blocks, threads)
    rows, places = (np.arange(size) * 4 * step for step in (k, m))
    limits, free = (np.array(b, np.float32) for b in (bounds, UNBOUNDED))
    return bound(
        _product, blocks * -(-n // size), threads, a, b, c, space[0], ALONG, rows, places,
        np.zeros(1, np.int64), 0 if added is None else added, limits, free, n, k, m, size, int(turned),
        int(not turned and n <= ROWS), 4 * b.shape[1],
    )  # fmt: skip


def matmul(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int) -> Call:
    """x, w -> y = x w."""
    (x, w), (y,) = ins, outs
    return product(x, w, y, scratch, threads, False)


def matmul_dx(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int) -> Call:
    """dy, w -> dx = dy w^T."""
    (dy, w), (dx,) = ins, outs
    return product(dy, w, dx, scratch, threads, True)


def matmul_dw(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int) -> Call:
    """x, dy -> dw = x^T dy, summed over the batch."""
    (x, dy), (dw,) = ins, outs
    (n, k), m = x.shape, dy.shape[1]
    blocks = -(-m // COLUMNS)
    size = _rows(k, blocks, threads)
    as_it_lies = m % LANES == 0 and m <= 2 * LANES
    return bound(
        _outer, blocks * -(-k // size), threads, x, dy, dw, scratch[0], ACROSS, np.zeros(2, np.int64),
        n, k, m, size, int(as_it_lies), 0,
    )  # fmt: skip


def _biased(tail: str) -> Any:
    """x, w, b -> y, with the bias and the activation function while y is in registers."""

    def bind(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, parts: Parts) -> Call:
        x, w, b = ins
        return product(x, w, outs[0], scratch, threads, False, b, BOUNDS[tail])

    return bind


NATIVE: dict[str, Any] = {
    "matmul": matmul, "matmul_dx": matmul_dx, "matmul_dw": matmul_dw,
    **{f"matmul{tail}": _biased(tail) for tail in BOUNDS},
}  # fmt: skip
