"""Changing the height and width of pictures: bilinear, nearest, zeros around.

Pixel centres lie at half integers (``align_corners=False`` elsewhere): output row ``i`` looks at input row
``(i + 1/2) * h / H - 1/2``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: (height, width)
Size = tuple[int, int]
#: x: (N, *size, C) uint8 or float -> (N, *out, C) of the same type
Resizer = Callable[[NDArray[Any]], NDArray[Any]]

#: Weights are multiples of 2**-22. Two passes over 8-bit pixels then need 8 + 22 + 22 = 52 bits: every product and sum
#: is exact in float64, so pictures come out the same on every machine, whatever order its BLAS adds in.
WEIGHT_BITS = 22


@lru_cache(maxsize=8)  # a service resizes one picture at a time, in less time than the weights take
def bilinear_weights(size: int, out: int) -> NDArray[np.float64]:
    """(out, size): each row says how much of each input pixel an output pixel takes; rows sum to exactly 1.

    Growing is plain bilinear. When shrinking, the triangle is as much wider as the picture gets smaller, so that no
    pixel is skipped (as in Pillow, and PyTorch with ``antialias=True``).
    """
    ratio = size / out
    centres = (np.arange(out) + 0.5) * ratio - 0.5
    distance = np.abs(np.arange(size)[None, :] - centres[:, None])
    weights = np.maximum(0.0, 1.0 - distance / max(ratio, 1.0))
    # What reaches over the edge is left out and the rest scaled up: the same as repeating the edge, when growing.
    weights /= weights.sum(axis=1, keepdims=True)
    steps = np.round(weights * 2.0**WEIGHT_BITS)
    rows = np.arange(out)
    steps[rows, steps.argmax(axis=1)] += 2.0**WEIGHT_BITS - steps.sum(axis=1)
    weights = np.asarray(steps * 2.0**-WEIGHT_BITS)
    weights.flags.writeable = False
    return weights


def bilinear(size: Size, out: Size) -> Resizer:
    """Bilinear, from pictures of ``size`` to pictures of ``out``; uint8 is rounded, halves up."""
    (h, w), (height, width) = size, out
    by_rows, by_columns = bilinear_weights(h, height), bilinear_weights(w, width).T

    def resize(x: NDArray[Any]) -> NDArray[Any]:
        n, _, _, c = x.shape
        y: NDArray[Any] = np.moveaxis(x, 3, 1).astype(np.float64, order="C").reshape(n * c, h, w)
        # One small product per picture: a BLAS runs those on one thread, where many short threaded products on busy
        # cores wait for each other longer than they work (0.7 s became 5 s on MNIST).
        if w != width:
            y = np.matmul(y, by_columns)
        if h != height:
            y = np.matmul(by_rows, y)
        y = np.moveaxis(y.reshape(n, c, height, width), 1, 3)
        return np.add(y, 0.5, out=y).astype(np.uint8) if x.dtype == np.uint8 else y.astype(x.dtype)

    return resize


def nearest(size: Size, out: Size) -> Resizer:
    """The pixel that each output pixel's centre falls into."""
    (h, w), (height, width) = size, out
    rows = (2 * np.arange(height) + 1) * h // (2 * height)
    columns = (2 * np.arange(width) + 1) * w // (2 * width)
    return lambda x: np.asarray(x[:, rows[:, None], columns[None, :]])


def pad(size: Size, out: Size) -> Resizer:
    """The picture in the middle of zeros; ``out`` is nowhere smaller than ``size``."""
    widths = ((0, 0), margins(size[0], out[0]), margins(size[1], out[1]), (0, 0))
    return lambda x: np.pad(x, widths)


def margins(size: int, out: int) -> tuple[int, int]:
    """Zeros before and after; the odd one comes last, as with ``padding: same``."""
    return (out - size) // 2, (out - size + 1) // 2
