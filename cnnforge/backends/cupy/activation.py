"""Element-wise functions and their gradients."""

from __future__ import annotations

from cnnforge.backends.base import Step
from cnnforge.backends.cupy.device import Arrays, Device, DeviceKernel, each


def relu(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """x -> y = max(x, 0)."""
    (x,), (y,) = ins, outs
    return each(device, "activation", "relu", x.size, (x, y, x.size))


def relu_dx(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """y, dy -> dx."""
    (y, dy), (dx,) = ins, outs
    return each(device, "activation", "relu_dx", y.size, (y, dy, dx, y.size))


KERNELS: dict[str, DeviceKernel] = {"relu": relu, "relu_dx": relu_dx}
