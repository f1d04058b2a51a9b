"""Max and average pooling. Shapes: x (N, H, W, C), y and winner (N, OH, OW, C)."""

from __future__ import annotations

from cnnforge.backends.base import Array, Step
from cnnforge.backends.cupy.cells import cells, matrix
from cnnforge.backends.cupy.device import Arrays, Device, DeviceKernel
from cnnforge.backends.cupy.tail import NOTHING, Tail
from cnnforge.shapes import Window


def _geometry(x: Array, y: Array, w: Window) -> tuple[int, ...]:
    return *x.shape[1:3], *y.shape[1:3], *w.kernel, *w.stride, w.pads[0], w.pads[2]


def max_pool2d(
    device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, window: Window, then: Tail = NOTHING
) -> Step:
    """x -> y, and which position of each window won: the first of several equal ones. Padding never wins."""
    (x,), (y, winner) = ins, outs
    rows, columns = matrix(y.shape)
    args = x, y, winner, rows, columns, *_geometry(x, y, window)
    return cells(device, "pool", f"max_pool2d_{winner.dtype}", rows, columns, args, then)


def max_pool2d_dx(
    device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, window: Window, then: Tail = NOTHING
) -> Step:
    """winner, dy -> dx: each gradient goes to the position that won."""
    (winner, dy), (dx,) = ins, outs
    rows, columns = matrix(dx.shape)
    args = winner, dy, dx, rows, columns, *_geometry(dx, dy, window)
    return cells(device, "pool", f"max_pool2d_dx_{winner.dtype}", rows, columns, args, then)


def average_pool2d(
    device: Device,
    ins: Arrays,
    outs: Arrays,
    scratch: Arrays,
    *,
    window: Window,
    count_include_pad: bool,
    then: Tail = NOTHING,
) -> Step:
    """x -> y, the mean of the positions that count."""
    (x,), (y,) = ins, outs
    rows, columns = matrix(y.shape)
    ends = window.pads[1], window.pads[3], int(count_include_pad)
    args = x, y, rows, columns, *_geometry(x, y, window), *ends
    return cells(device, "pool", "average_pool2d", rows, columns, args, then)


def average_pool2d_dx(
    device: Device,
    ins: Arrays,
    outs: Arrays,
    scratch: Arrays,
    *,
    window: Window,
    count_include_pad: bool,
    then: Tail = NOTHING,
) -> Step:
    """dy -> dx: each gradient is shared out over its window."""
    (dy,), (dx,) = ins, outs
    rows, columns = matrix(dx.shape)
    ends = window.pads[1], window.pads[3], int(count_include_pad)
    args = dy, dx, rows, columns, *_geometry(dx, dy, window), *ends
    return cells(device, "pool", "average_pool2d_dx", rows, columns, args, then)


KERNELS: dict[str, DeviceKernel] = {
    "max_pool2d": max_pool2d, "max_pool2d_dx": max_pool2d_dx,
    "average_pool2d": average_pool2d, "average_pool2d_dx": average_pool2d_dx,
}  # fmt: skip
