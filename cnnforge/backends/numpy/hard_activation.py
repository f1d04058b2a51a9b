"""Element-wise functions with straight pieces beyond the ReLU, and the scaled and smooth ones of its family.

Forward: x -> y. Backward: (y, dy) -> dx where the derivative is written in terms of the output, else (x, dy) -> dx.
Derivatives at the kinks are PyTorch's.
"""

from __future__ import annotations

import numpy as np

from cnnforge.backends.base import Kernel, Step
from cnnforge.backends.constants import SELU_ALPHA, SELU_SCALE
from cnnforge.backends.numpy.linear import column_sums
from cnnforge.backends.numpy.types import Array, Arrays


def relu6(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """min(max(x, 0), 6) (Sandler et al., CVPR 2018)."""
    (x,), (y,) = ins, outs

    def step() -> None:
        np.maximum(x, 0, out=y)
        np.minimum(y, 6, out=y)

    return step


def _between(y: Array, low: float, high: float, inside: Array, above: Array) -> None:
    np.greater(y, low, out=above)
    np.less(y, high, out=inside)
    np.logical_and(inside, above, out=inside)


def relu6_dx(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """dy where 0 < y < 6, else 0."""
    (y, dy), (dx,), (inside, above) = ins, outs, scratch

    def step() -> None:
        _between(y, 0, 6, inside, above)
        np.multiply(dy, inside, out=dx)

    return step


def hard_sigmoid(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """relu6(x + 3) / 6 (Howard et al., ICCV 2019)."""
    (x,), (y,) = ins, outs

    def step() -> None:
        np.add(x, 3, out=y)
        np.maximum(y, 0, out=y)
        np.minimum(y, 6, out=y)
        np.divide(y, 6, out=y)

    return step


def hard_sigmoid_dx(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """dy / 6 where 0 < y < 1, else 0: y is 0 or 1 at the kinks and beyond them only, up to x's last bit."""
    (y, dy), (dx,), (inside, above) = ins, outs, scratch

    def step() -> None:
        _between(y, 0, 1, inside, above)
        np.multiply(dy, inside, out=dx)
        np.divide(dx, 6, out=dx)

    return step


def hard_swish(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """x relu6(x + 3) / 6 (Howard et al., ICCV 2019)."""
    (x,), (y,), (gate,) = ins, outs, scratch

    def step() -> None:
        np.add(x, 3, out=gate)
        np.maximum(gate, 0, out=gate)
        np.minimum(gate, 6, out=gate)
        np.multiply(gate, x, out=y)
        np.divide(y, 6, out=y)

    return step


def hard_swish_dx(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """dy times 0 where x <= -3, 1 where x >= 3, else x / 3 + 1/2."""
    (x, dy), (dx,), (slope, beyond) = ins, outs, scratch

    def step() -> None:
        np.divide(x, 3, out=slope)
        np.add(slope, 0.5, out=slope)
        np.greater_equal(x, 3, out=beyond)
        np.copyto(slope, 1, where=beyond)
        np.less_equal(x, -3, out=beyond)
        np.copyto(slope, 0, where=beyond)
        np.multiply(dy, slope, out=dx)

    return step


def softplus(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """log(1 + e^x), without overflow at either end (Dugas et al., NeurIPS 2000)."""
    (x,), (y,) = ins, outs

    def step() -> None:
        np.logaddexp(x, 0, out=y)

    return step


def softplus_dx(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """dy (1 - e^-y): the sigmoid of x."""
    (y, dy), (dx,), (slope,) = ins, outs, scratch

    def step() -> None:
        np.negative(y, out=slope)
        np.expm1(slope, out=slope)
        np.negative(slope, out=slope)
        np.multiply(dy, slope, out=dx)

    return step


def selu(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """scale x where x > 0, else scale alpha (e^x - 1) (Klambauer et al., NeurIPS 2017)."""
    (x,), (y,), (low,) = ins, outs, scratch

    def step() -> None:
        np.minimum(x, 0, out=low)
        np.expm1(low, out=low)
        np.multiply(low, SELU_ALPHA * SELU_SCALE, out=low)
        np.maximum(x, 0, out=y)
        np.multiply(y, SELU_SCALE, out=y)
        np.add(y, low, out=y)

    return step


def selu_dx(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """dy times scale where y > 0, else y + scale alpha."""
    (y, dy), (dx,), (slope, positive) = ins, outs, scratch

    def step() -> None:
        np.greater(y, 0, out=positive)
        np.add(y, SELU_SCALE * SELU_ALPHA, out=slope)
        np.copyto(slope, SELU_SCALE, where=positive)
        np.multiply(dy, slope, out=dx)

    return step


def prelu(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """x, alpha (C,) -> x where x > 0, else alpha x (He et al., ICCV 2015)."""
    (x, alpha), (y,), (low,) = ins, outs, scratch

    def step() -> None:
        np.minimum(x, 0, out=low)
        np.multiply(low, alpha, out=low)
        np.maximum(x, 0, out=y)
        np.add(y, low, out=y)

    return step


def prelu_dx(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """x, alpha, dy -> dy times 1 where x > 0, else alpha. From the input: a learned alpha may turn the sign of y."""
    (x, alpha, dy), (dx,), (slope, positive) = ins, outs, scratch

    def step() -> None:
        np.copyto(slope, alpha)
        np.greater(x, 0, out=positive)
        np.copyto(slope, 1, where=positive)
        np.multiply(dy, slope, out=dx)

    return step


def prelu_dalpha(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """x, dy -> dalpha: dy x summed over every axis but the last, where x <= 0."""
    (x, dy), (dalpha,), (product, ones) = ins, outs, scratch
    total = column_sums(product.reshape(-1, x.shape[-1]), ones, dalpha)

    def step() -> None:
        np.minimum(x, 0, out=product)
        np.multiply(product, dy, out=product)
        total()

    return step


KERNELS: dict[str, Kernel] = {
    "relu6": relu6, "relu6_dx": relu6_dx, "hard_sigmoid": hard_sigmoid, "hard_sigmoid_dx": hard_sigmoid_dx,
    "hard_swish": hard_swish, "hard_swish_dx": hard_swish_dx, "softplus": softplus, "softplus_dx": softplus_dx,
    "selu": selu, "selu_dx": selu_dx, "prelu": prelu, "prelu_dx": prelu_dx, "prelu_dalpha": prelu_dalpha,
}  # fmt: skip
