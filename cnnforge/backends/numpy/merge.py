"""Several arrays into one, and the ways back.

Shapes: x, y (N, H, W, C) or (N, C), gate (N, 1, 1, C).
"""

from __future__ import annotations

import numpy as np

from cnnforge.backends.base import Kernel, Step
from cnnforge.backends.numpy.types import Arrays
from cnnforge.shapes import Pair


def multiply(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """a, b -> a b."""
    (a, b), (y,) = ins, outs

    def step() -> None:
        np.multiply(a, b, out=y)

    return step


def scale(ins: Arrays, outs: Arrays, scratch: Arrays, factor: float) -> Step:
    """x -> factor x."""
    (x,), (y,) = ins, outs

    def step() -> None:
        np.multiply(x, factor, out=y)

    return step


def scale_channels(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """x, gate -> x gate: every channel of a sample by its own number.

    Workspace: the gates of one picture row, side by side, because a loop over few channels at a time is slow.
    """
    (x, gate), (y,), (row,) = ins, outs, scratch
    n, _, width, c = x.shape
    tiled = row.reshape(n, width, c)
    by_row, factors, result = x.reshape(n, -1, width * c), row.reshape(n, 1, -1), y.reshape(n, -1, width * c)
    source = gate.reshape(n, 1, c)

    def step() -> None:
        np.copyto(tiled, source)
        np.multiply(by_row, factors, out=result)

    return step


def scale_channels_dgate(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """x, dy -> dgate = sum of x dy over height and width."""
    (x, dy), (dgate,), (product,) = ins, outs, scratch
    by_position, result = product.reshape(len(x), -1, x.shape[-1]), dgate.reshape(len(x), -1)

    def step() -> None:
        np.multiply(x, dy, out=product)
        np.sum(by_position, axis=1, out=result)

    return step


def concat(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """a, b, … -> their channels side by side."""
    (y,), start, pairs = outs, 0, []
    for x in ins:
        pairs.append((y[..., start : start + x.shape[-1]], x))
        start += x.shape[-1]

    def step() -> None:
        for into, x in pairs:
            np.copyto(into, x)

    return step


def slice_channels(ins: Arrays, outs: Arrays, scratch: Arrays, *, start: int) -> Step:
    """x -> as many of its channels as y has, from number ``start``."""
    (x,), (y,) = ins, outs
    part = x[..., start : start + y.shape[-1]]

    def step() -> None:
        np.copyto(y, part)

    return step


def shortcut_pad(ins: Arrays, outs: Arrays, scratch: Arrays, *, stride: Pair) -> Step:
    """x -> every ``stride``-th position of x, then channels of zeros."""
    (x,), (y,) = ins, outs
    channels = x.shape[-1]
    seen, filled, rest = x[:, :: stride[0], :: stride[1]], y[..., :channels], y[..., channels:]

    def step() -> None:
        np.copyto(filled, seen)
        rest.fill(0)

    return step


def shortcut_pad_dx(ins: Arrays, outs: Arrays, scratch: Arrays, *, stride: Pair) -> Step:
    """dy -> dx: 0 where no output looked."""
    (dy,), (dx,) = ins, outs
    seen, arriving = dx[:, :: stride[0], :: stride[1]], dy[..., : dx.shape[-1]]

    def step() -> None:
        dx.fill(0)
        np.copyto(seen, arriving)

    return step


def channel_shuffle(ins: Arrays, outs: Arrays, scratch: Arrays, *, groups: int) -> Step:
    """x -> channel g (C / groups) + i goes to i groups + g."""
    (x,), (y,) = ins, outs
    size = x.shape[-1] // groups
    seen = x.reshape(*x.shape[:-1], groups, size).swapaxes(-1, -2)
    result = y.reshape(*x.shape[:-1], size, groups)

    def step() -> None:
        np.copyto(result, seen)

    return step


KERNELS: dict[str, Kernel] = {
    "scale": scale, "multiply": multiply,
    "scale_channels": scale_channels, "scale_channels_dgate": scale_channels_dgate,
    "concat": concat, "slice_channels": slice_channels, "shortcut_pad": shortcut_pad,
    "shortcut_pad_dx": shortcut_pad_dx, "channel_shuffle": channel_shuffle,
}  # fmt: skip
