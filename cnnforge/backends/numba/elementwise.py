"""Element by element: the range is the array cut into pieces of ``PIECE`` elements.

Shapes: any; kernels see flat arrays. Memory limits them: each array is read or written once.
"""

from __future__ import annotations

from typing import Any

from cnnforge.backends.numba.driver import Call, bound
from cnnforge.backends.numba.rules.elementwise import PIECE
from cnnforge.backends.numba.signature import Kernel, doubles, longs
from cnnforge.backends.numba.vectors import LANES, put_upto, splat, upto
from cnnforge.backends.numpy.types import Arrays


@Kernel
def _add(block: int, lo: int, hi: int, thread: int) -> None:
    """y = p + q."""
    a = longs(block)
    p, q, y, n = a[0], a[1], a[2], a[3]
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        put_upto(y + 4 * i, upto(p + 4 * i, n - i) + upto(q + 4 * i, n - i), n - i)


@Kernel
def _multiply(block: int, lo: int, hi: int, thread: int) -> None:
    """y = p q."""
    a = longs(block)
    p, q, y, n = a[0], a[1], a[2], a[3]
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        put_upto(y + 4 * i, upto(p + 4 * i, n - i) * upto(q + 4 * i, n - i), n - i)


@Kernel
def _scale(block: int, lo: int, hi: int, thread: int) -> None:
    """y = factor x."""
    a = longs(block)
    x, y, factor, n = a[0], a[1], splat(doubles(a[2])[0]), a[3]
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        put_upto(y + 4 * i, upto(x + 4 * i, n - i) * factor, n - i)


def streamed(kernel: Kernel, threads: int, *arguments: Any, n: int) -> Call:
    """A kernel of arrays of ``n`` elements, of which its arguments are ``arguments`` with ``n`` behind them."""
    return bound(kernel, -(-n // PIECE), threads, *arguments, n)


def _add_bound(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int) -> Call:
    return streamed(_add, threads, *ins, outs[0], n=outs[0].size)


def _multiply_bound(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int) -> Call:
    return streamed(_multiply, threads, *ins, outs[0], n=outs[0].size)


def _scale_bound(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, factor: float) -> Call:
    return streamed(_scale, threads, ins[0], outs[0], float(factor), n=outs[0].size)


def _reshape(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int) -> tuple[Call, ...]:
    """The same memory under another shape: nothing to do, and no reason to leave compiled code."""
    assert ins[0].ctypes.data == outs[0].ctypes.data, "a reshape was planned as a copy"
    return ()


NATIVE: dict[str, Any] = {"reshape": _reshape, "add": _add_bound, "multiply": _multiply_bound, "scale": _scale_bound}
