"""Several arrays into one and the ways back, biases, and what else is done by channel.

Shapes: x, y (N, …, C); gate (N, 1, 1, C); b, alpha (C,).
"""

from __future__ import annotations

from math import prod

from cnnforge.backends.base import Array, Step
from cnnforge.backends.cupy.cells import cells, column_sums, matrix, sum_scratch
from cnnforge.backends.cupy.device import Arrays, Device, DeviceKernel, ScratchRule, chain, each
from cnnforge.backends.cupy.signature import HALVES
from cnnforge.shapes import Pair

SOURCE = "channels"


def add(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """a, b -> a + b."""
    return each(device, SOURCE, "add", ins[0].size, (*ins, *outs, ins[0].size))


def multiply(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """a, b -> a b."""
    return each(device, SOURCE, "multiply", ins[0].size, (*ins, *outs, ins[0].size))


def scale(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, factor: float) -> Step:
    """x -> factor x."""
    return each(device, SOURCE, "scale", ins[0].size, (*ins, *outs, ins[0].size, factor))


def cast(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """x -> y, the same numbers, rounded: one of the two is of a half type, the other of what that is computed in."""
    (x,), (y,) = ins, outs
    return each(device, SOURCE, "widen" if str(x.dtype) in HALVES else "narrow", x.size, (x, y, x.size))


def reshape(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """The same memory under another shape; the planner has placed both at one address."""
    assert device.address(ins[0]) == device.address(outs[0]), "a reshape was planned as a copy"
    return chain(())


def bias(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """x, b -> x + b over the last axis."""
    rows, columns = matrix(ins[0].shape)
    return cells(device, SOURCE, "bias", rows, columns, (*ins, *outs, rows, columns))


def bias_db(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """dy -> db, summed over every axis but the last."""
    return column_sums(device, SOURCE, "bias_db", ins, outs[0], scratch[0], ins[0].shape)


def prelu(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """x, alpha -> x where x > 0, else alpha x."""
    rows, columns = matrix(ins[0].shape)
    return cells(device, SOURCE, "prelu", rows, columns, (*ins, *outs, rows, columns))


def prelu_dx(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """x, alpha, dy -> dy times 1 where x > 0, else alpha."""
    rows, columns = matrix(ins[0].shape)
    return cells(device, SOURCE, "prelu_dx", rows, columns, (*ins, *outs, rows, columns))


def prelu_dalpha(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """x, dy -> dalpha: dy x summed over every axis but the last, where x <= 0."""
    return column_sums(device, SOURCE, "prelu_dalpha", ins, outs[0], scratch[0], ins[0].shape)


def scale_channels(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """x, gate -> x gate: every channel of a sample by its own number."""
    rows, columns = matrix(ins[0].shape)
    positions = prod(ins[0].shape[1:-1])
    return cells(device, SOURCE, "scale_channels", rows, columns, (*ins, *outs, rows, columns, positions))


def scale_channels_dgate(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """x, dy -> dgate = sum of x dy over height and width."""
    return column_sums(
        device, SOURCE, "scale_channels_dgate", ins, outs[0], scratch[0], ins[0].shape[1:], samples=ins[0].shape[0],
        at_once="scale_channels_dgate_at_once",
    )  # fmt: skip


def _copied(device: Device, x: Array, y: Array, columns: int, x_start: int, y_start: int) -> Step:
    rows = matrix(x.shape)[0]
    args = x, y, rows, columns, x.shape[-1], x_start, y.shape[-1], y_start
    return cells(device, SOURCE, "copy_channels", rows, columns, args)


def concat(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """a, b, … -> their channels side by side."""
    steps, start = [], 0
    for x in ins:
        steps.append(_copied(device, x, outs[0], x.shape[-1], 0, start))
        start += x.shape[-1]
    return chain(steps)


def slice_channels(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, start: int) -> Step:
    """x -> as many of its channels as y has, from number ``start``."""
    return _copied(device, ins[0], outs[0], outs[0].shape[-1], start, 0)


def shortcut_pad(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, stride: Pair) -> Step:
    """x -> every ``stride``-th position of x, then channels of zeros."""
    (x,), (y,) = ins, outs
    rows, columns = matrix(y.shape)
    args = x, y, rows, columns, x.shape[-1], *x.shape[1:3], *y.shape[1:3], *stride
    return cells(device, SOURCE, "shortcut_pad", rows, columns, args)


def shortcut_pad_dx(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, stride: Pair) -> Step:
    """dy -> dx: 0 where no output looked."""
    (dy,), (dx,) = ins, outs
    rows, columns = matrix(dx.shape)
    args = dy, dx, rows, columns, dy.shape[-1], *dx.shape[1:3], *dy.shape[1:3], *stride
    return cells(device, SOURCE, "shortcut_pad_dx", rows, columns, args)


def channel_shuffle(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, groups: int) -> Step:
    """x -> channel g (C / groups) + i goes to i groups + g."""
    rows, columns = matrix(ins[0].shape)
    return cells(device, SOURCE, "channel_shuffle", rows, columns, (*ins, *outs, rows, columns, groups))


KERNELS: dict[str, DeviceKernel] = {
    "add": add, "multiply": multiply, "scale": scale, "cast": cast, "reshape": reshape,
    "bias": bias, "bias_db": bias_db,
    "prelu": prelu, "prelu_dx": prelu_dx, "prelu_dalpha": prelu_dalpha,
    "scale_channels": scale_channels, "scale_channels_dgate": scale_channels_dgate,
    "concat": concat, "slice_channels": slice_channels,
    "shortcut_pad": shortcut_pad, "shortcut_pad_dx": shortcut_pad_dx, "channel_shuffle": channel_shuffle,
}  # fmt: skip

SCRATCH: dict[str, ScratchRule] = {
    "bias_db": lambda i, o, a: sum_scratch(i[0]),
    "prelu_dalpha": lambda i, o, a: sum_scratch(i[0]),
    "scale_channels_dgate": lambda i, o, a: sum_scratch(i[0], samples=i[0].shape[0]),
}
