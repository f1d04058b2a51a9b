"""Which function a few element-wise nodes are together: found by what they give, not by how they are written.

Exporters write one activation in many ways: gelu through Erf, silu as x * Sigmoid(x), hard_swish in four ops, relu6 as
Clip. Each node here is evaluated on the same sample points; what comes out is compared with the functions that there
are. A combination that nobody thought of is then recognised as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnforge.backends.constants import SELU_ALPHA, SELU_SCALE
from cnnforge.export.onnx_import.read import OnnxNode

Array = NDArray[np.float64]

#: Where functions are compared: both sides of every kink, and far enough out to see how they end.
POINTS: Array = np.concatenate([np.linspace(-12, 12, 4801), [-30.0, 30.0]])
#: float32 constants in a file stand for the numbers that are meant.
_CLOSE = 2e-6


@dataclass(frozen=True)
class Found:
    """``function`` with the fields of an activation block; or, for ``affine``, ``factor * x + shift``."""

    function: str
    fields: Mapping[str, Any]
    factor: float = 1.0
    shift: float = 0.0

    @property
    def is_identity(self) -> bool:
        return self.function == "affine" and self.factor == 1.0 and self.shift == 0.0


def recognise(y: Array) -> Found | None:
    """What gives ``y`` at POINTS; None where nothing that there is does."""
    if not np.isfinite(y).all():
        return None
    factor, shift = (y[-1] - y[-2]) / (POINTS[-1] - POINTS[-2]), float(np.interp(0.0, POINTS[:-2], y[:-2]))
    if _alike(y, factor * POINTS + shift):  # first, for it is also a leaky_relu of slope 1
        return Found("affine", {}, _rounded(factor), _rounded(shift))
    return next((Found(name, fields) for name, fields, values in _catalogue(y) if _alike(y, values)), None)


def _alike(y: Array, values: Array) -> bool:
    return bool(np.allclose(y, values, rtol=_CLOSE, atol=_CLOSE))


def _catalogue(y: Array) -> list[tuple[str, Mapping[str, Any], Array]]:
    """Every function there is, at POINTS; those with a slope or saturation, with the one that ``y`` would have."""
    from scipy.special import erf, expit

    x = POINTS
    sigmoid, hard = expit(x), np.clip(x + 3, 0, 6) / 6
    below = np.minimum(x, 0)
    plain: list[tuple[str, Array]] = [
        ("relu", np.maximum(x, 0)),
        ("relu6", np.clip(x, 0, 6)),
        ("sigmoid", sigmoid),
        ("tanh", np.tanh(x)),
        ("silu", x * sigmoid),
        ("hard_swish", x * hard),
        ("hard_sigmoid", hard),
        ("softplus", np.logaddexp(0, x)),
        ("selu", SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(below))),
        ("gelu", x * (1 + erf(x * sqrt(0.5))) / 2),
    ]
    found: list[tuple[str, Mapping[str, Any], Array]] = [(name, {}, values) for name, values in plain]
    bent = np.tanh(sqrt(2 / np.pi) * (x + 0.044715 * x**3))
    found.append(("gelu", {"approximate": "tanh"}, x * (1 + bent) / 2))
    slope, end = y[-2] / x[-2], -y[-2]
    if slope > 0:
        found.append(("leaky_relu", {"alpha": _rounded(slope)}, np.where(x > 0, x, x * slope)))
    if end > 0:
        found.append(("elu", {"alpha": _rounded(end)}, np.where(x > 0, x, end * np.expm1(below))))
    return found


def _rounded(value: float) -> float:
    """0.1 for the float32 that is nearest to it."""
    short = float(f"{value:.7g}")
    return short if abs(short - value) <= 1e-6 * abs(value) else float(value)


def unary(n: OnnxNode, low: float | None = None, high: float | None = None) -> Callable[[Array], Array] | None:
    """What an element-wise node of one input does; None where it is none. low, high: between what a Clip holds it."""
    from scipy.special import erf, expit

    scale, alpha = n.attr("gamma", 1.0507010221481323), n.attr("alpha", 1.0)
    if n.op == "Clip":
        return lambda x: np.clip(x, -np.inf if low is None else low, np.inf if high is None else high)
    if n.op == "LeakyRelu":
        slope = n.attr("alpha", 0.01)
        return lambda x: np.where(x > 0, x, slope * x)
    if n.op == "Selu":
        bend = n.attr("alpha", 1.6732631921768188)
        return lambda x: np.where(x > 0, scale * x, scale * bend * np.expm1(np.minimum(x, 0)))
    if n.op == "HardSigmoid":
        slope, middle = n.attr("alpha", 0.2), n.attr("beta", 0.5)
        return lambda x: np.clip(slope * x + middle, 0, 1)
    if n.op == "Gelu":
        tanh = n.attr("approximate", "none") == "tanh"
        if tanh:
            return lambda x: x * (1 + np.tanh(sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2
        return lambda x: x * (1 + erf(x * sqrt(0.5))) / 2
    plain: Mapping[str, Callable[[Array], Array]] = {
        "Relu": lambda x: np.maximum(x, 0), "Elu": lambda x: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
        "Sigmoid": expit, "Tanh": np.tanh, "Softplus": lambda x: np.logaddexp(0, x), "Erf": erf,
        "HardSwish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1), "Mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
        "Swish": lambda x: x * expit(alpha * x), "Exp": np.exp, "Log": np.log, "Neg": np.negative, "Abs": np.abs,
        "Sqrt": np.sqrt, "Reciprocal": np.reciprocal, "Identity": lambda x: x,
    }  # fmt: skip
    return plain.get(n.op)


#: Element-wise nodes of two inputs.
BINARY: Mapping[str, Callable[[Any, Any], Any]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Pow": np.power, "Min": np.minimum,
    "Max": np.maximum,
}  # fmt: skip
