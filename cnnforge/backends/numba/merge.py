"""Several arrays into one, and the ways back.

Shapes: x, y (N, H, W, C) or (N, C), seen as rows of C where the picture does not matter; gate (N, 1, 1, C). All of them
move memory and do little else.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnforge.backends.numba.driver import Call, bound
from cnnforge.backends.numba.rules.channels import row_width
from cnnforge.backends.numba.signature import Kernel, floats, ints, longs
from cnnforge.backends.numba.sweeps import clear, copy, fold, repeat, sweep
from cnnforge.backends.numpy.types import Arrays
from cnnforge.shapes import Pair

# Channels side by side.


@Kernel
def _join(block: int, lo: int, hi: int, thread: int) -> None:
    """Some channels of each part, one part after another -> y. Range: rows.

    Words: y, how many parts; of each the address of its first channel, how many channels, floats from row to row.
    """
    a = longs(block)
    c = 0
    for i in range(a[1]):
        c += a[3 + 3 * i]
    for row in range(lo, hi):
        y = a[0] + 4 * row * c
        for i in range(a[1]):
            n = a[3 + 3 * i]
            copy(a[2 + 3 * i] + 4 * row * a[4 + 3 * i], y, n)
            y += 4 * n


def concat(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int) -> Call:
    (y,) = outs
    parts = [word for x in ins for word in (x, x.shape[-1], x.shape[-1])]
    return bound(_join, y.size // y.shape[-1], threads, y, len(ins), *parts)


def slice_channels(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, start: int) -> Call:
    (x,), (y,) = ins, outs
    seen = x.reshape(-1)[start:]
    return bound(_join, y.size // y.shape[-1], threads, y, 1, seen, y.shape[-1], x.shape[-1])


# A shortcut to fewer positions and more channels.


@Kernel
def _shortcut_pad(block: int, lo: int, hi: int, thread: int) -> None:
    """x -> every stride-th position of x, then channels of zeros. Range: rows of y in the whole batch."""
    a = longs(block)
    height, line, c, down, across, oh, ow, f = a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9]
    for row in range(lo, hi):
        x, y = a[0] + 4 * line * (row // oh * height + row % oh * down), a[1] + 4 * row * ow * f
        for _ in range(ow):
            copy(x, y, c)
            clear(y + 4 * c, f - c)
            x += 4 * across * c
            y += 4 * f


@Kernel
def _shortcut_pad_dx(block: int, lo: int, hi: int, thread: int) -> None:
    """dy -> dx: 0 where no output looked. Range: rows of dx in the whole batch."""
    a = longs(block)
    height, line, c, down, across, oh, ow, f = a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9]
    for row in range(lo, hi):
        r, dx = row % height, a[0] + 4 * line * row
        if r % down:
            clear(dx, line)
            continue
        dy, left = a[1] + 4 * (row // height * oh + r // down) * ow * f, line
        for _ in range(ow):
            copy(dy, dx, c)
            left -= across * c
            clear(dx + 4 * c, (across - 1) * c + (left if left < 0 else 0))
            dx += 4 * across * c
            dy += 4 * f


def _pad_words(x: Any, y: Any, stride: Pair) -> tuple[int, ...]:
    return x.shape[1], x.shape[2] * x.shape[3], x.shape[3], *stride, *y.shape[1:]


def shortcut_pad(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, stride: Pair) -> Call:
    (x,), (y,) = ins, outs
    return bound(_shortcut_pad, y.shape[0] * y.shape[1], threads, x, y, *_pad_words(x, y, stride))


def shortcut_pad_dx(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, stride: Pair) -> Call:
    (dy,), (dx,) = ins, outs
    return bound(_shortcut_pad_dx, dx.shape[0] * dx.shape[1], threads, dx, dy, *_pad_words(dx, dy, stride))


# Channels in another order.


@Kernel
def _shuffle(block: int, lo: int, hi: int, thread: int) -> None:
    """y[k] = x[source[k]] for every channel. Range: rows."""
    a = longs(block)
    source, c = ints(a[2]), a[3]
    for row in range(lo, hi):
        x, y = floats(a[0] + 4 * row * c), floats(a[1] + 4 * row * c)
        for k in range(c):
            y[k] = x[source[k]]


def channel_shuffle(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, groups: int) -> Call:
    (x,), (y,) = ins, outs
    c = x.shape[-1]
    source = np.arange(c, dtype=np.int32).reshape(groups, c // groups).T.copy()
    return bound(_shuffle, x.size // c, threads, x, y, source, c)


# A factor for every channel of a sample.

_scale = sweep(lambda x, gate: (x * gate,), streams=1, rows=1, outs=1)
_products = sweep(lambda x, dy: (x * dy,), streams=2, sums=1, group=8)


@Kernel
def _scale_channels(block: int, lo: int, hi: int, thread: int) -> None:
    """x, gate -> x gate. Range: picture rows in the whole batch."""
    a = longs(block)
    height, line, c, width = a[4], a[5], a[6], a[7]
    gate, row = a[3] + thread * 4 * width, lo
    while row < hi:
        n = row // height
        end = (n + 1) * height
        end = end if end < hi else hi
        copy(a[1] + 4 * n * c, gate, c)
        repeat(gate, c, width)
        at = 4 * row * line
        _scale(a[0] + at, gate, a[2] + at, (end - row) * line, width)
        row = end


@Kernel
def _dgate(block: int, lo: int, hi: int, thread: int) -> None:
    """x, dy -> dgate = sum of x dy over height and width. Range: samples."""
    a = longs(block)
    size, c, width = a[4], a[5], a[6]
    sums = a[3] + thread * 4 * width
    for n in range(lo, hi):
        clear(sums, width)
        _products(a[0] + 4 * n * size, a[1] + 4 * n * size, sums, size, width)
        fold(sums, c, width)
        copy(sums, a[2] + 4 * n * c, c)


def scale_channels(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int) -> Call:
    (x, gate), (y,), (row,) = ins, outs, scratch
    n, height, width, c = x.shape
    return bound(_scale_channels, n * height, threads, x, gate, y, row, height, width * c, c, row_width(c))


def scale_channels_dgate(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int) -> Call:
    (x, dy), (dgate,), (sums,) = ins, outs, scratch
    c = x.shape[-1]
    return bound(_dgate, len(x), threads, x, dy, dgate, sums, x[0].size, c, row_width(c))


NATIVE: dict[str, Any] = {
    "concat": concat, "slice_channels": slice_channels, "channel_shuffle": channel_shuffle,
    "shortcut_pad": shortcut_pad, "shortcut_pad_dx": shortcut_pad_dx,
    "scale_channels": scale_channels, "scale_channels_dgate": scale_channels_dgate,
}  # fmt: skip
