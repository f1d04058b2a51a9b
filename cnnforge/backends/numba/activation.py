"""Activation functions, element by element; every numpy kernel's formula, in one pass.

Shapes: any; kernels see flat arrays, their range is pieces. Forward x -> y; backward y (or x), dy -> dx.
Memory limits them: each array is read or written once.
"""

from __future__ import annotations

from math import inf, nan
from typing import Any

from cnnforge.backends.numba.driver import Call
from cnnforge.backends.numba.elementwise import PIECE, streamed
from cnnforge.backends.numba.signature import Kernel, doubles, longs
from cnnforge.backends.numba.vectors import LANES, larger, put_upto, smaller, splat, upto, where
from cnnforge.backends.numpy.types import Arrays


@Kernel
def _ramp(block: int, lo: int, hi: int, thread: int) -> None:
    """y = min(max(x + shift, 0), top) factor; what is nan stays so. relu, relu6, hard_sigmoid."""
    a = longs(block)
    x, y, n = a[0], a[1], a[5]
    zero, shift, top, factor = splat(0), splat(doubles(a[2])[0]), splat(doubles(a[3])[0]), splat(doubles(a[4])[0])
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        v = smaller(top, larger(zero, upto(x + 4 * i, n - i) + shift))
        put_upto(y + 4 * i, v * factor, n - i)


@Kernel
def _ramp_dx(block: int, lo: int, hi: int, thread: int) -> None:
    """dx = dy factor where 0 < y and not y >= top, else 0. Without a top (nan), y may be infinite."""
    a = longs(block)
    y, dy, dx, n = a[0], a[1], a[2], a[5]
    zero, top, factor = splat(0), splat(doubles(a[3])[0]), splat(doubles(a[4])[0])
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        kept = upto(y + 4 * i, n - i)
        v = upto(dy + 4 * i, n - i) * factor
        put_upto(dx + 4 * i, where(kept >= top, zero, where(kept > zero, v, zero)), n - i)


def _ramps(shift: float, top: float, factor: float) -> dict[str, Any]:
    """The two binders of a ramp."""

    def forward(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int) -> Call:
        return streamed(_ramp, threads, ins[0], outs[0], shift, top, factor, n=outs[0].size)

    def backward(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int) -> Call:
        limit = nan if top == inf else top * factor
        return streamed(_ramp_dx, threads, *ins, outs[0], limit, factor, n=outs[0].size)

    return {"": forward, "_dx": backward}


def _pairs(**families: dict[str, Any]) -> dict[str, Any]:
    return {name + end: bind for name, family in families.items() for end, bind in family.items()}


NATIVE: dict[str, Any] = _pairs(
    relu=_ramps(0.0, inf, 1.0),
    relu6=_ramps(0.0, 6.0, 1.0),
    hard_sigmoid=_ramps(3.0, 6.0, 1 / 6),
)
