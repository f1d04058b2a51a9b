"""Element by element: the range is the array cut into pieces of ``PIECE`` elements.

Shapes: any; kernels see flat arrays.
"""

from __future__ import annotations

from typing import Any

from cnnforge.backends.numba.driver import Call, bound
from cnnforge.backends.numba.language import carray, float32
from cnnforge.backends.numba.signature import Kernel, floats, longs
from cnnforge.backends.numpy.types import Arrays

#: Elements of one part of the range: 16 KiB, so that a part's arrays stay in the first cache.
PIECE = 4096


@Kernel
def _relu(block: int, lo: int, hi: int, thread: int) -> None:
    a = carray(longs(block), (3,))
    n = a[2]
    x, y = carray(floats(a[0]), (n,)), carray(floats(a[1]), (n,))
    for i in range(lo * PIECE, min(hi * PIECE, n)):
        v = x[i]
        y[i] = v if v > float32(0) else float32(0)


@Kernel
def _relu_dx(block: int, lo: int, hi: int, thread: int) -> None:
    a = carray(longs(block), (4,))
    n = a[3]
    y, dy, dx = carray(floats(a[0]), (n,)), carray(floats(a[1]), (n,)), carray(floats(a[2]), (n,))
    for i in range(lo * PIECE, min(hi * PIECE, n)):
        dx[i] = dy[i] if y[i] > float32(0) else float32(0)


@Kernel
def _add(block: int, lo: int, hi: int, thread: int) -> None:
    a = carray(longs(block), (4,))
    n = a[3]
    p, q, y = carray(floats(a[0]), (n,)), carray(floats(a[1]), (n,)), carray(floats(a[2]), (n,))
    for i in range(lo * PIECE, min(hi * PIECE, n)):
        y[i] = p[i] + q[i]


def _flat(kernel: Kernel) -> Any:
    def bind(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int) -> Call:
        n = outs[0].size
        return bound(kernel, -(-n // PIECE), threads, *ins, outs[0], n)

    return bind


def _reshape(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int) -> tuple[Call, ...]:
    """The same memory under another shape: nothing to do, and no reason to leave compiled code."""
    assert ins[0].ctypes.data == outs[0].ctypes.data, "a reshape was planned as a copy"
    return ()


NATIVE = {"reshape": _reshape, "relu": _flat(_relu), "relu_dx": _flat(_relu_dx), "add": _flat(_add)}
