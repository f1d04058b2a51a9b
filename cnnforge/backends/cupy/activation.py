"""Element-wise functions and their gradients.

Forward: x -> y. Backward: (y, dy) -> dx where the derivative is written in terms of the output, else (x, dy) -> dx.
"""

from __future__ import annotations

from math import pi, sqrt

from cnnforge.backends.base import Step
from cnnforge.backends.constants import GELU_CUBE, SELU_ALPHA, SELU_SCALE
from cnnforge.backends.cupy.device import Arrays, Device, DeviceKernel, each

_GELU = sqrt(2.0 / pi), GELU_CUBE


def _run(device: Device, kernel: str, ins: Arrays, outs: Arrays, numbers: tuple[float, ...] = ()) -> Step:
    n = ins[0].size
    return each(device, "activation", kernel, n, (*ins, *outs, n, *numbers))


def _plain(kernel: str) -> DeviceKernel:
    """A function without attributes, or its derivative."""

    def bind(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
        return _run(device, kernel, ins, outs)

    return bind


def _leaky_relu(kernel: str) -> DeviceKernel:
    def bind(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, alpha: float) -> Step:
        return _run(device, kernel, ins, outs, (alpha,))

    return bind


def _elu(kernel: str) -> DeviceKernel:
    def bind(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, alpha: float) -> Step:
        return _run(device, kernel, ins, outs, (1.0, alpha))

    return bind


def _selu(kernel: str) -> DeviceKernel:
    def bind(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
        return _run(device, kernel, ins, outs, (SELU_SCALE, SELU_SCALE * SELU_ALPHA))

    return bind


def _gelu(end: str) -> DeviceKernel:
    def bind(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, approximate: str) -> Step:
        if approximate == "tanh":
            return _run(device, f"gelu_tanh{end}", ins, outs, _GELU)
        return _run(device, f"gelu{end}", ins, outs)

    return bind


PLAIN = ("relu", "relu6", "sigmoid", "softplus", "hard_sigmoid", "hard_swish", "silu")

KERNELS: dict[str, DeviceKernel] = {
    **{op: _plain(op) for name in PLAIN for op in (name, f"{name}_dx")},
    "tanh": _plain("tanh_of"), "tanh_dx": _plain("tanh_dx"),
    "leaky_relu": _leaky_relu("leaky_relu"), "leaky_relu_dx": _leaky_relu("leaky_relu_dx"),
    "elu": _elu("elu"), "elu_dx": _elu("elu_dx"), "selu": _selu("elu"), "selu_dx": _selu("elu_dx"),
    "gelu": _gelu(""), "gelu_dx": _gelu("_dx"),
}  # fmt: skip
