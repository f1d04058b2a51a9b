"""Matrix products, cut into pieces that each thread gives to BLAS.

Shapes: x (N, in), w (in, units), y (N, units).
"""

from __future__ import annotations

from cnnforge.backends.numba.blas import sgemm, sgemm_address
from cnnforge.backends.numba.driver import Call, bound
from cnnforge.backends.numba.language import carray
from cnnforge.backends.numba.signature import Kernel, longs
from cnnforge.backends.numpy.types import Array, Arrays

#: Into how many pieces a product is cut at most, and how many rows or columns a piece has at least. Fixed numbers: the
#: result may not depend on how many threads there are.
PIECES = 32
SMALLEST = 64


@Kernel
def _product(block: int, lo: int, hi: int, thread: int) -> None:
    """C (m, n) = A (m, k) B (k, n), range: pieces of ``rows`` x ``columns`` of C, row by row of pieces.

    Every piece packs its part of A and B again, so pieces are cut along the longer side of C. Bound by multiplication;
    for one sample by reading the weights.
    """
    a = carray(longs(block), (13,))
    m, n, k, lda, ldb, rows, columns = a[6], a[7], a[8], a[9], a[10], a[11], a[12]
    across = (n + columns - 1) // columns
    for piece in range(lo, hi):
        i, j = piece // across * rows, piece % across * columns
        at_a = i if a[4] else i * lda
        at_b = j * ldb if a[5] else j
        sgemm(
            a[3], a[4], a[5], min(rows, m - i), min(columns, n - j), k,
            a[0] + 4 * at_a, lda, a[1] + 4 * at_b, ldb, 0, a[2] + 4 * (i * n + j), n,
        )  # fmt: skip


def product(
    a: Array, b: Array, c: Array, m: int, n: int, k: int, threads: int, *, ta: bool = False, tb: bool = False
) -> Call:
    """C = A B as a call; ``ta``, ``tb``: A, B lie transposed. The arrays' own shapes do not matter."""

    def piece(size: int) -> int:
        return max(SMALLEST, -(-size // (16 * PIECES)) * 16)

    rows, columns = (piece(m), n) if m >= n else (m, piece(n))
    count = -(-m // rows) * -(-n // columns)
    return bound(
        _product, count, threads, a, b, c, sgemm_address(), int(ta), int(tb), m, n, k,
        m if ta else k, k if tb else n, rows, columns,
    )  # fmt: skip


def matmul(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int) -> Call:
    """x, w -> y = x w."""
    (x, w), (y,) = ins, outs
    return product(x, w, y, len(x), w.shape[1], len(w), threads)


def matmul_dx(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int) -> Call:
    """dy, w -> dx = dy w^T."""
    (dy, w), (dx,) = ins, outs
    return product(dy, w, dx, len(dy), len(w), w.shape[1], threads, tb=True)


def matmul_dw(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int) -> Call:
    """x, dy -> dw = x^T dy, summed over the batch."""
    (x, dy), (dw,) = ins, outs
    return product(x, dy, dw, len(dw), dw.shape[1], len(x), threads, ta=True)


NATIVE = {"matmul": matmul, "matmul_dx": matmul_dx, "matmul_dw": matmul_dw}
