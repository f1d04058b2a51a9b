"""Element-wise functions and softmax.

Forward: x -> y. Backward: (y, dy) -> dx where the derivative is written in terms of the output, else (x, dy) -> dx.
"""

from __future__ import annotations

from math import pi, sqrt

import numpy as np

from cnnforge.backends.base import Kernel, Step
from cnnforge.backends.constants import GELU_CUBE
from cnnforge.backends.numpy.types import Array, Arrays

_GELU_SCALE = sqrt(2.0 / pi)


def relu(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """max(x, 0)."""
    (x,), (y,) = ins, outs

    def step() -> None:
        np.maximum(x, 0, out=y)

    return step


def relu_dx(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """dy where y > 0, else 0: the derivative at 0 is 0, as in PyTorch."""
    (y, dy), (dx,), (positive,) = ins, outs, scratch

    def step() -> None:
        np.greater(y, 0, out=positive)
        np.multiply(dy, positive, out=dx)

    return step


def leaky_relu(ins: Arrays, outs: Arrays, scratch: Arrays, *, alpha: float) -> Step:
    """x where x > 0, else alpha x (Maas et al., 2013)."""
    (x,), (y,), (low,) = ins, outs, scratch

    def step() -> None:
        np.minimum(x, 0, out=low)
        np.multiply(low, alpha, out=low)
        np.maximum(x, 0, out=y)
        np.add(y, low, out=y)

    return step


def leaky_relu_dx(ins: Arrays, outs: Arrays, scratch: Arrays, *, alpha: float) -> Step:
    """dy times 1 where y > 0, else alpha."""
    (y, dy), (dx,), (slope,) = ins, outs, scratch

    def step() -> None:
        np.greater(y, 0, out=slope)
        np.multiply(slope, 1 - alpha, out=slope)
        np.add(slope, alpha, out=slope)
        np.multiply(dy, slope, out=dx)

    return step


def elu(ins: Arrays, outs: Arrays, scratch: Arrays, *, alpha: float) -> Step:
    """x where x > 0, else alpha (e^x - 1) (Clevert et al., ICLR 2016)."""
    (x,), (y,), (low,) = ins, outs, scratch

    def step() -> None:
        np.minimum(x, 0, out=low)
        np.expm1(low, out=low)
        np.multiply(low, alpha, out=low)
        np.maximum(x, 0, out=y)
        np.add(y, low, out=y)

    return step


def elu_dx(ins: Arrays, outs: Arrays, scratch: Arrays, *, alpha: float) -> Step:
    """dy times 1 where y > 0, else y + alpha."""
    (y, dy), (dx,), (slope, positive) = ins, outs, scratch

    def step() -> None:
        np.greater(y, 0, out=positive)
        np.add(y, alpha, out=slope)
        np.copyto(slope, 1, where=positive)
        np.multiply(dy, slope, out=dx)

    return step


def sigmoid(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """1 / (1 + e^-x), without overflow at either end."""
    from scipy.special import expit

    (x,), (y,) = ins, outs

    def step() -> None:
        expit(x, out=y)

    return step


def sigmoid_dx(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """dy y (1 - y)."""
    (y, dy), (dx,), (slope,) = ins, outs, scratch

    def step() -> None:
        np.subtract(1, y, out=slope)
        np.multiply(slope, y, out=slope)
        np.multiply(dy, slope, out=dx)

    return step


def tanh(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """tanh x."""
    (x,), (y,) = ins, outs

    def step() -> None:
        np.tanh(x, out=y)

    return step


def tanh_dx(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """dy (1 - y^2)."""
    (y, dy), (dx,), (slope,) = ins, outs, scratch

    def step() -> None:
        np.multiply(y, y, out=slope)
        np.subtract(1, slope, out=slope)
        np.multiply(dy, slope, out=dx)

    return step


def softmax_into(x: Array, y: Array, per_row: Array) -> None:
    """e^x / sum e^x over the last axis, after subtracting the largest so that nothing overflows."""
    np.max(x, axis=-1, keepdims=True, out=per_row)
    np.subtract(x, per_row, out=y)
    np.exp(y, out=y)
    np.sum(y, axis=-1, keepdims=True, out=per_row)
    np.divide(y, per_row, out=y)


def softmax(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """Softmax over the last axis."""
    (x,), (y,), (per_row,) = ins, outs, scratch
    return lambda: softmax_into(x, y, per_row)


def softmax_dx(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """y (dy - sum(dy y))."""
    (y, dy), (dx,), (product, per_row) = ins, outs, scratch

    def step() -> None:
        np.multiply(dy, y, out=product)
        np.sum(product, axis=-1, keepdims=True, out=per_row)
        np.subtract(dy, per_row, out=dx)
        np.multiply(dx, y, out=dx)

    return step


def _normal_cdf(x: Array, out: Array) -> None:
    """The share of a standard normal below x: (1 + erf(x / sqrt 2)) / 2."""
    from scipy.special import erf

    np.multiply(x, sqrt(0.5), out=out)
    erf(out, out=out)
    np.add(out, 1, out=out)
    np.multiply(out, 0.5, out=out)


def _gelu_tanh(x: Array, out: Array) -> None:
    """tanh(sqrt(2/pi) (x + 0.044715 x^3))."""
    np.multiply(x, x, out=out)
    np.multiply(out, GELU_CUBE, out=out)
    np.add(out, 1, out=out)
    np.multiply(out, x, out=out)
    np.multiply(out, _GELU_SCALE, out=out)
    np.tanh(out, out=out)


def gelu(ins: Arrays, outs: Arrays, scratch: Arrays, *, approximate: str) -> Step:
    """x times the share of a standard normal below x (Hendrycks and Gimpel, 2016)."""
    (x,), (y,), (share,) = ins, outs, scratch

    def step() -> None:
        if approximate == "tanh":
            _gelu_tanh(x, share)
            np.add(share, 1, out=share)
            np.multiply(share, 0.5, out=share)
        else:
            _normal_cdf(x, share)
        np.multiply(x, share, out=y)

    return step


def gelu_dx(ins: Arrays, outs: Arrays, scratch: Arrays, *, approximate: str) -> Step:
    """dy (cdf(x) + x pdf(x)), or the derivative of the tanh form."""
    (x, dy), (dx,), (slope, t) = ins, outs, scratch

    def exact() -> None:
        np.multiply(x, x, out=t)
        np.multiply(t, -0.5, out=t)
        np.exp(t, out=t)
        np.multiply(t, 1.0 / sqrt(2.0 * pi), out=t)
        np.multiply(t, x, out=t)
        _normal_cdf(x, slope)
        np.add(slope, t, out=slope)
        np.multiply(dy, slope, out=dx)

    def by_tanh() -> None:
        # With h = tanh(u): (1 + h)/2 + x (1 - h^2)/2 u', u' = sqrt(2/pi) (1 + 3*0.044715 x^2).
        _gelu_tanh(x, slope)
        np.multiply(slope, slope, out=t)
        np.subtract(1, t, out=t)
        np.multiply(t, x, out=t)
        np.add(slope, 1, out=slope)
        np.multiply(t, _GELU_SCALE, out=t)
        np.add(slope, t, out=slope)
        np.multiply(t, x, out=t)
        np.multiply(t, x, out=t)
        np.multiply(t, 3.0 * GELU_CUBE, out=t)
        np.add(slope, t, out=slope)
        np.multiply(slope, 0.5, out=slope)
        np.multiply(dy, slope, out=dx)

    return by_tanh if approximate == "tanh" else exact


def silu(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """x / (1 + e^-x), also called swish (Elfwing et al., 2018)."""
    from scipy.special import expit

    (x,), (y,) = ins, outs

    def step() -> None:
        expit(x, out=y)
        np.multiply(y, x, out=y)

    return step


def silu_dx(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """dy s (1 + x (1 - s)), s = 1 / (1 + e^-x)."""
    from scipy.special import expit

    (x, dy), (dx,), (s, t) = ins, outs, scratch

    def step() -> None:
        expit(x, out=s)
        np.subtract(1, s, out=t)
        np.multiply(t, x, out=t)
        np.add(t, 1, out=t)
        np.multiply(t, s, out=t)
        np.multiply(dy, t, out=dx)

    return step


KERNELS: dict[str, Kernel] = {
    "relu": relu, "relu_dx": relu_dx, "leaky_relu": leaky_relu, "leaky_relu_dx": leaky_relu_dx,
    "elu": elu, "elu_dx": elu_dx, "sigmoid": sigmoid, "sigmoid_dx": sigmoid_dx, "tanh": tanh, "tanh_dx": tanh_dx,
    "softmax": softmax, "softmax_dx": softmax_dx, "gelu": gelu, "gelu_dx": gelu_dx, "silu": silu, "silu_dx": silu_dx,
}  # fmt: skip
