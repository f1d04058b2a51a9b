"""A convolution as a library of convolutions is asked for it: where its elements lie, and what is done to them.

Plain numbers, made of shapes alone, so that what stands for the library in tests reads the same as the library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cnnforge.shapes import Pair, Window

#: Ops that can be done in the convolution's own kernel, in the order in which they are done there.
EPILOGUE = ("add", "bias", "relu")


@dataclass(frozen=True, slots=True)
class Layout:
    """A tensor's four sizes and, for each, how many elements its neighbours lie apart."""

    dims: tuple[int, int, int, int]
    strides: tuple[int, int, int, int]

    @property
    def size(self) -> int:
        """Elements."""
        n, c, h, w = self.dims
        return n * c * h * w


def channels_last(n: int, h: int, w: int, c: int) -> Layout:
    """An array (N, H, W, C): its sizes are listed (N, C, H, W)."""
    return Layout((n, c, h, w), (h * w * c, 1, w * c, c))


def of_channels(c: int) -> Layout:
    """A number for each channel."""
    return Layout((1, c, 1, 1), (c, 1, c, c))


@dataclass(frozen=True, slots=True)
class Convolution:
    """y = x * w (cross-correlation), or a gradient of it.

    op:       ``conv2d`` y of x and w;  ``conv2d_dx`` dx of dy and w;  ``conv2d_dw`` dw of x and dy
    dtype:    of every array; sums are float32's
    tf32:     may float32's mantissas be cut to 10 bits before they are multiplied?
    x, y:     activations, or their gradients
    w:        (F, C/G, KH, KW), laid out as an array (F, KH, KW, C/G): no library has kernels for our own layout, though
              cuDNN takes its strides for the others'
    before, after: rows and columns of zeros around x: (top, left), (bottom, right)
    epilogue: what is done to y then, in the order of ``EPILOGUE``: ``add`` an array of y's shape, ``bias``, ``relu``
    """

    op: str
    dtype: str
    tf32: bool
    x: Layout
    w: Layout
    y: Layout
    before: Pair
    after: Pair
    stride: Pair
    dilation: Pair
    epilogue: tuple[str, ...] = ()

    @property
    def operands(self) -> tuple[tuple[str, Layout], ...]:
        """What it reads, in order, then what it writes, each with its role."""
        x, w, y = ("x", self.x), ("w", self.w), ("y", self.y)
        if self.op == "conv2d_dx":
            return y, w, x
        if self.op == "conv2d_dw":
            return x, y, w
        beside = {"add": ("add", self.y), "bias": ("bias", of_channels(self.y.dims[1]))}
        return x, w, *(beside[op] for op in self.epilogue if op in beside), y


def describe(
    op: str, x: Sequence[int], w: Sequence[int], y: Sequence[int], window: Window, dtype: str, tf32: bool = False,
    epilogue: tuple[str, ...] = (),
) -> Convolution:  # fmt: skip
    """x: (N, H, W, C), w: (KH, KW, C/G, F), y: (N, OH, OW, F)"""
    kh, kw, c, f = w
    top, bottom, left, right = window.pads
    (n, h, width, channels), (_, oh, ow, _) = x, y
    return Convolution(
        op, dtype, tf32 and dtype == "float32", channels_last(n, h, width, channels), channels_last(f, kh, kw, c),
        channels_last(n, oh, ow, f), (top, left), (bottom, right), window.stride, window.dilation, epilogue,
    )  # fmt: skip
