"""What a sliding window sees of an array, as views."""

from __future__ import annotations

from cnnforge.backends.numpy.types import Array
from cnnforge.shapes import Window


def interior(padded: Array, x: Array, w: Window) -> Array:
    """The part of ``padded`` that holds ``x`` itself."""
    return padded[:, w.pads[0] : w.pads[0] + x.shape[1], w.pads[2] : w.pads[2] + x.shape[2]]


def tap(x: Array, w: Window, i: int, j: int) -> Array:
    """(N, OH, OW, C): what position (i, j) of every window sees of the padded ``x``."""
    top, left = i * w.dilation[0], j * w.dilation[1]
    bottom, right = top + (w.out[0] - 1) * w.stride[0] + 1, left + (w.out[1] - 1) * w.stride[1] + 1
    return x[:, top : bottom : w.stride[0], left : right : w.stride[1]]
