"""Max and average pooling, one pass over the output per position of the window.

Shapes: x (N, H, W, C), y and winner (N, OH, OW, C). Padding never wins a maximum.
"""

from __future__ import annotations

import numpy as np

from cnnforge.backends.base import Kernel, Step
from cnnforge.backends.numpy.capabilities import needs_padding
from cnnforge.backends.numpy.types import Array, Arrays
from cnnforge.backends.numpy.windows import interior, tap
from cnnforge.shapes import Window


def _taps(x: Array, w: Window) -> list[Array]:
    return [tap(x, w, i, j) for i in range(w.kernel[0]) for j in range(w.kernel[1])]


def max_pool2d(ins: Arrays, outs: Arrays, scratch: Arrays, *, window: Window) -> Step:
    """x -> y, and which position of each window won: the first of several equal ones, as in PyTorch."""
    (x,), (y, winner), (larger, near, *rest) = ins, outs, scratch
    source = rest[0] if needs_padding(x.shape, window) else x
    inside = interior(source, x, window)
    first, *others = _taps(source, window)
    number = larger.view(np.uint8)

    def step() -> None:
        if source is not x:
            source.fill(-np.inf)
            np.copyto(inside, x)
        np.copyto(y, first)
        winner.fill(0)
        for k, part in enumerate(others, start=1):
            np.copyto(near, part)  # read the scattered position once; the rest is on contiguous memory
            np.greater(near, y, out=larger)
            np.maximum(y, near, out=y)
            if winner.dtype == np.uint8:
                # Positions come in rising order, so the last one that was larger has the highest number.
                np.multiply(number, k, out=number)
                np.maximum(winner, number, out=winner)
            else:
                np.copyto(winner, k, where=larger)

    return step


def max_pool2d_dx(ins: Arrays, outs: Arrays, scratch: Arrays, *, window: Window) -> Step:
    """winner, dy -> dx: each gradient goes to the position that won."""
    (winner, dy), (dx,), (here, share, *rest) = ins, outs, scratch
    target = rest[0] if needs_padding(dx.shape, window) else dx
    inside = interior(target, dx, window)
    taps = _taps(target, window)
    overlap = window.stride[0] < window.kernel[0] or window.stride[1] < window.kernel[1]

    def step() -> None:
        target.fill(0)
        for k, part in enumerate(taps):
            np.equal(winner, k, out=here)
            np.multiply(dy, here, out=share)
            if overlap:
                np.add(part, share, out=part)
            else:
                np.copyto(part, share)
        if target is not dx:
            np.copyto(dx, inside)

    return step


def shares(size: int, axis: int, w: Window, count_include_pad: bool, dtype: np.dtype[np.floating]) -> Array:
    """(out,) 1 / number of positions that count along one axis of each window."""
    before, after = w.pads[2 * axis], w.pads[2 * axis + 1]
    low, high = (0, before + size + after) if count_include_pad else (before, before + size)
    start = np.arange(w.out[axis]) * w.stride[axis]
    counted = np.minimum(start + w.kernel[axis], high) - np.maximum(start, low)
    return (1.0 / counted).astype(dtype)


def average_pool2d(ins: Arrays, outs: Arrays, scratch: Arrays, *, window: Window, count_include_pad: bool) -> Step:
    """x -> y, the mean of the positions that count."""
    (x,), (y,) = ins, outs
    source = scratch[0] if needs_padding(x.shape, window) else x
    inside = interior(source, x, window)
    first, *others = _taps(source, window)
    rows = shares(x.shape[1], 0, window, count_include_pad, y.dtype)[:, None, None]
    columns = shares(x.shape[2], 1, window, count_include_pad, y.dtype)[:, None]

    def step() -> None:
        if source is not x:
            source.fill(0)
            np.copyto(inside, x)
        np.copyto(y, first)
        for part in others:
            np.add(y, part, out=y)
        np.multiply(y, rows, out=y)
        np.multiply(y, columns, out=y)

    return step


def average_pool2d_dx(ins: Arrays, outs: Arrays, scratch: Arrays, *, window: Window, count_include_pad: bool) -> Step:
    """dy -> dx: each gradient is shared out over its window."""
    (dy,), (dx,), (share, *rest) = ins, outs, scratch
    target = rest[0] if needs_padding(dx.shape, window) else dx
    inside = interior(target, dx, window)
    taps = _taps(target, window)
    rows = shares(dx.shape[1], 0, window, count_include_pad, dy.dtype)[:, None, None]
    columns = shares(dx.shape[2], 1, window, count_include_pad, dy.dtype)[:, None]

    def step() -> None:
        np.multiply(dy, rows, out=share)
        np.multiply(share, columns, out=share)
        target.fill(0)
        for part in taps:
            np.add(part, share, out=part)
        if target is not dx:
            np.copyto(dx, inside)

    return step


KERNELS: dict[str, Kernel] = {
    "max_pool2d": max_pool2d, "max_pool2d_dx": max_pool2d_dx,
    "average_pool2d": average_pool2d, "average_pool2d_dx": average_pool2d_dx,
}  # fmt: skip
