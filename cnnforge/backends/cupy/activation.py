"""Element-wise functions and their gradients, alone or as what follows the head of a chain.

Forward: x -> y. Backward: (y, dy) -> dx where the derivative is written in terms of the output, else (x, dy) -> dx.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import pi, sqrt
from typing import Any

from cnnforge.backends.base import Array, Step
from cnnforge.backends.constants import GELU_CUBE, SELU_ALPHA, SELU_SCALE
from cnnforge.backends.cupy.cells import cells, matrix
from cnnforge.backends.cupy.device import Arrays, Device, DeviceKernel, each
from cnnforge.backends.cupy.tail import NOTHING, Function, Tail

Attrs = Mapping[str, Any]
#: ``attrs -> the function's name and its numbers``
Named = Callable[[Attrs], tuple[str, tuple[float, ...]]]

_GELU = sqrt(2.0 / pi), GELU_CUBE


def _plain(name: str) -> Named:
    return lambda attrs: (name, ())


def _gelu(end: str) -> Named:
    return lambda attrs: (f"gelu_tanh{end}", _GELU) if attrs["approximate"] == "tanh" else (f"gelu{end}", ())


_SELU = SELU_SCALE, SELU_SCALE * SELU_ALPHA

#: Each function; its derivative has the same numbers, and ``_dx`` behind its name.
_FUNCTIONS: dict[str, Named] = {
    **{op: _plain(op) for op in ("relu", "relu6", "sigmoid", "softplus", "hard_sigmoid", "hard_swish", "silu")},
    "tanh": _plain("tanh_of"),
    "leaky_relu": lambda attrs: ("leaky_relu", (attrs["alpha"],)),
    "elu": lambda attrs: ("elu", (1.0, attrs["alpha"])),
    "selu": lambda attrs: ("elu", _SELU),
    "gelu": _gelu(""),
}
_SLOPES: dict[str, Named] = {
    **{f"{op}_dx": _plain(f"{op}_dx") for op in _FUNCTIONS if op not in ("leaky_relu", "elu", "selu", "gelu")},
    "leaky_relu_dx": lambda attrs: ("leaky_relu_dx", (attrs["alpha"],)),
    "elu_dx": lambda attrs: ("elu_dx", (1.0, attrs["alpha"])),
    "selu_dx": lambda attrs: ("elu_dx", _SELU),
    "gelu_dx": _gelu("_dx"),
}
FUNCTIONS, SLOPES = tuple(_FUNCTIONS), tuple(_SLOPES)


def tail(op: str, beside: Arrays, attrs: Attrs) -> Tail:
    """One of FUNCTIONS or SLOPES as what follows.  beside: of a derivative, what it is written in terms of"""
    name, numbers = (_FUNCTIONS.get(op) or _SLOPES[op])(attrs)
    return Tail((Function(name, "cell" if op in _SLOPES else "", len(numbers)),), (*beside, *numbers))


def apply(device: Device, x: Array, y: Array, tail: Tail) -> Step:
    """y = what the tail makes of x, which may be at the same place."""
    if any(function.beside == "channel" for function in tail.functions):
        rows, columns = matrix(y.shape)
        return cells(device, "activation", "apply_by_column", rows, columns, (x, y, rows, columns), tail)
    return each(device, "activation", "apply", y.size, (x, y, y.size), tail)


def _kernel(op: str) -> DeviceKernel:
    def bind(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, then: Tail = NOTHING, **attrs: Any) -> Step:
        return apply(device, ins[-1], outs[0], tail(op, ins[:-1], attrs) + then)

    return bind


KERNELS: dict[str, DeviceKernel] = {op: _kernel(op) for op in (*FUNCTIONS, *SLOPES)}
