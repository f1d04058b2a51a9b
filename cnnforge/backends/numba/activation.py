"""Activation functions, element by element, in one pass. The formulas are the numpy backend's, and its sources.

Shapes: any; kernels see flat arrays, their range is pieces. Forward x -> y; backward y (or x), dy -> dx.
Those of straight pieces are limited by memory, each array being read or written once; the others by their arithmetic
where the arrays are in the cache. Arguments: the arrays, then numbers, then the size.
"""

from __future__ import annotations

from math import inf, nan, pi, sqrt
from typing import Any

from cnnforge.backends.constants import SELU_ALPHA, SELU_SCALE
from cnnforge.backends.numba.driver import Call
from cnnforge.backends.numba.elementwise import streamed
from cnnforge.backends.numba.functions import expm1_below, normal_share, sigmoid, softplus, tanh
from cnnforge.backends.numba.rules.elementwise import PIECE
from cnnforge.backends.numba.signature import Kernel, doubles, longs
from cnnforge.backends.numba.vectors import LANES, larger, put_upto, smaller, splat, upto, where
from cnnforge.backends.numpy.types import Arrays

#: Of the standard normal's density at 0.
_DENSITY = 1 / sqrt(2 * pi)
#: gelu by tanh: x (1 + tanh u) / 2 = x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3).
_GELU_LINE, _GELU_CUBE = 2 * sqrt(2 / pi), 2 * sqrt(2 / pi) * 0.044715


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


@Kernel
def _hard_swish(block: int, lo: int, hi: int, thread: int) -> None:
    """y = x min(max(x + 3, 0), 6) / 6."""
    a = longs(block)
    x, y, n = a[0], a[1], a[2]
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        v = upto(x + 4 * i, n - i)
        gate = smaller(splat(6), larger(splat(0), v + splat(3)))
        put_upto(y + 4 * i, gate * v * splat(1 / 6), n - i)


@Kernel
def _hard_swish_dx(block: int, lo: int, hi: int, thread: int) -> None:
    """dx = dy times 0 where x <= -3, 1 where x >= 3, else x / 3 + 1/2."""
    a = longs(block)
    x, dy, dx, n = a[0], a[1], a[2], a[3]
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        v = upto(x + 4 * i, n - i)
        slope = where(v >= splat(3), splat(1), where(v <= splat(-3), splat(0), v * splat(1 / 3) + splat(0.5)))
        put_upto(dx + 4 * i, upto(dy + 4 * i, n - i) * slope, n - i)


@Kernel
def _leaky(block: int, lo: int, hi: int, thread: int) -> None:
    """p, q -> q where p > 0, else alpha q: leaky_relu with x twice, its gradient with y and dy."""
    a = longs(block)
    p, q, out, alpha, n = a[0], a[1], a[2], splat(doubles(a[3])[0]), a[4]
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        v = upto(q + 4 * i, n - i)
        put_upto(out + 4 * i, where(upto(p + 4 * i, n - i) > splat(0), v, v * alpha), n - i)


@Kernel
def _exponential(block: int, lo: int, hi: int, thread: int) -> None:
    """y = scale x where x > 0, else depth (e^x - 1). elu, selu."""
    a = longs(block)
    x, y, scale, depth, n = a[0], a[1], splat(doubles(a[2])[0]), splat(doubles(a[3])[0]), a[4]
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        v = upto(x + 4 * i, n - i)
        put_upto(y + 4 * i, where(v > splat(0), v * scale, expm1_below(smaller(splat(0), v)) * depth), n - i)


@Kernel
def _exponential_dx(block: int, lo: int, hi: int, thread: int) -> None:
    """dx = dy times scale where y > 0, else y + depth."""
    a = longs(block)
    y, dy, dx, scale, depth, n = a[0], a[1], a[2], splat(doubles(a[3])[0]), splat(doubles(a[4])[0]), a[5]
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        kept = upto(y + 4 * i, n - i)
        put_upto(dx + 4 * i, upto(dy + 4 * i, n - i) * where(kept > splat(0), scale, kept + depth), n - i)


@Kernel
def _softplus(block: int, lo: int, hi: int, thread: int) -> None:
    """y = log(1 + e^x)."""
    a = longs(block)
    x, y, n = a[0], a[1], a[2]
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        put_upto(y + 4 * i, softplus(upto(x + 4 * i, n - i)), n - i)


@Kernel
def _softplus_dx(block: int, lo: int, hi: int, thread: int) -> None:
    """dx = dy (1 - e^-y)."""
    a = longs(block)
    y, dy, dx, n = a[0], a[1], a[2], a[3]
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        put_upto(dx + 4 * i, -upto(dy + 4 * i, n - i) * expm1_below(-upto(y + 4 * i, n - i)), n - i)


@Kernel
def _sigmoid(block: int, lo: int, hi: int, thread: int) -> None:
    """y = 1 / (1 + e^-x)."""
    a = longs(block)
    x, y, n = a[0], a[1], a[2]
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        put_upto(y + 4 * i, sigmoid(upto(x + 4 * i, n - i)), n - i)


@Kernel
def _tanh(block: int, lo: int, hi: int, thread: int) -> None:
    """y = tanh x."""
    a = longs(block)
    x, y, n = a[0], a[1], a[2]
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        put_upto(y + 4 * i, tanh(upto(x + 4 * i, n - i)), n - i)


@Kernel
def _bounded_dx(block: int, lo: int, hi: int, thread: int) -> None:
    """dx = dy (1 - y) (y + low): sigmoid with low 0, tanh with 1."""
    a = longs(block)
    y, dy, dx, low, n = a[0], a[1], a[2], splat(doubles(a[3])[0]), a[4]
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        kept = upto(y + 4 * i, n - i)
        put_upto(dx + 4 * i, upto(dy + 4 * i, n - i) * ((splat(1) - kept) * (kept + low)), n - i)


@Kernel
def _gate(block: int, lo: int, hi: int, thread: int) -> None:
    """y = x sigmoid(line x + cube x^3). silu, gelu by tanh. Squares are kept finite: 0 times inf is nan."""
    a = longs(block)
    x, y, line, cube, n = a[0], a[1], splat(doubles(a[2])[0]), splat(doubles(a[3])[0]), a[4]
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        v = upto(x + 4 * i, n - i)
        square = smaller(splat(1e30), v * v)
        put_upto(y + 4 * i, v * sigmoid(v * (line + cube * square)), n - i)


@Kernel
def _gate_dx(block: int, lo: int, hi: int, thread: int) -> None:
    """dx = dy (s + x s (1 - s) (line + 3 cube x^2)), s = sigmoid(line x + cube x^3)."""
    a = longs(block)
    x, dy, dx, line, cube, n = a[0], a[1], a[2], splat(doubles(a[3])[0]), splat(doubles(a[4])[0]), a[5]
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        v = upto(x + 4 * i, n - i)
        curve = cube * smaller(splat(1e30), v * v)
        s = sigmoid(v * (line + curve))
        slope = s + v * s * (splat(1) - s) * (line + splat(3) * curve)
        put_upto(dx + 4 * i, upto(dy + 4 * i, n - i) * slope, n - i)


@Kernel
def _gelu(block: int, lo: int, hi: int, thread: int) -> None:
    """y = x times the share of a standard normal below x."""
    a = longs(block)
    x, y, n = a[0], a[1], a[2]
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        v = upto(x + 4 * i, n - i)
        put_upto(y + 4 * i, v * normal_share(v)[0], n - i)


@Kernel
def _gelu_dx(block: int, lo: int, hi: int, thread: int) -> None:
    """dx = dy (that share + x times the density at x)."""
    a = longs(block)
    x, dy, dx, n = a[0], a[1], a[2], a[3]
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        v = upto(x + 4 * i, n - i)
        share, density = normal_share(v)
        put_upto(dx + 4 * i, upto(dy + 4 * i, n - i) * (share + v * density * splat(_DENSITY)), n - i)


def _bound(kernel: Kernel, *numbers: float) -> Any:
    def bind(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int) -> Call:
        return streamed(kernel, threads, *ins, outs[0], *numbers, n=outs[0].size)

    return bind


def _leaky_relu(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, alpha: float) -> Call:
    return streamed(_leaky, threads, ins[0], ins[-1], outs[0], float(alpha), n=outs[0].size)


def _elu(kernel: Kernel) -> Any:
    def bind(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, alpha: float) -> Call:
        return streamed(kernel, threads, *ins, outs[0], 1.0, float(alpha), n=outs[0].size)

    return bind


def _gelu_bound(exact: Kernel, by_tanh: Kernel) -> Any:
    def bind(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, approximate: str) -> Call:
        if approximate == "tanh":
            return streamed(by_tanh, threads, *ins, outs[0], _GELU_LINE, _GELU_CUBE, n=outs[0].size)
        return streamed(exact, threads, *ins, outs[0], n=outs[0].size)

    return bind


NATIVE: dict[str, Any] = {
    "relu": _bound(_ramp, 0.0, inf, 1.0), "relu_dx": _bound(_ramp_dx, nan, 1.0),
    "relu6": _bound(_ramp, 0.0, 6.0, 1.0), "relu6_dx": _bound(_ramp_dx, 6.0, 1.0),
    "hard_sigmoid": _bound(_ramp, 3.0, 6.0, 1 / 6), "hard_sigmoid_dx": _bound(_ramp_dx, 1.0, 1 / 6),
    "hard_swish": _bound(_hard_swish), "hard_swish_dx": _bound(_hard_swish_dx),
    "leaky_relu": _leaky_relu, "leaky_relu_dx": _leaky_relu,
    "elu": _elu(_exponential), "elu_dx": _elu(_exponential_dx),
    "selu": _bound(_exponential, SELU_SCALE, SELU_SCALE * SELU_ALPHA),
    "selu_dx": _bound(_exponential_dx, SELU_SCALE, SELU_SCALE * SELU_ALPHA),
    "softplus": _bound(_softplus), "softplus_dx": _bound(_softplus_dx),
    "sigmoid": _bound(_sigmoid), "sigmoid_dx": _bound(_bounded_dx, 0.0),
    "tanh": _bound(_tanh), "tanh_dx": _bound(_bounded_dx, 1.0),
    "silu": _bound(_gate, 1.0, 0.0), "silu_dx": _bound(_gate_dx, 1.0, 0.0),
    "gelu": _gelu_bound(_gelu, _gate), "gelu_dx": _gelu_bound(_gelu_dx, _gate_dx),
}  # fmt: skip
