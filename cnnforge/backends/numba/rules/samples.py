"""Convolutions of few channels, whose lanes are samples: which they are, and their workspace."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from cnnforge.backends.numba.rules.base import THREADS, Rule
from cnnforge.ir.op import Scratch
from cnnforge.shapes import Window

#: Samples that lie side by side: the lanes of a vector.
SAMPLES = 16
#: Partial sums of a weights' gradient. A shard is a whole number of groups of samples.
SHARDS = 16
#: Bytes of workspace that one thread may need: past the second-level cache other ways are better.
LARGEST = 4 << 20
#: Vectors beside the arrays of the workspace, to work in.
ROOM = 2 * SAMPLES


def padded(x: tuple[int, ...], w: Window) -> tuple[int, int]:
    """(HP, WP): what the windows reach of a sample, its padding included.  x: (N, H, W, C)."""
    return (
        max(x[1] + w.pads[0] + w.pads[1], (w.out[0] - 1) * w.stride[0] + w.extent[0]),
        max(x[2] + w.pads[2] + w.pads[3], (w.out[1] - 1) * w.stride[1] + w.extent[1]),
    )


def input_vectors(x: tuple[int, ...], w: Window) -> int:
    """Vectors of sixteen padded samples."""
    return prod(padded(x, w)) * x[3]


def gradient_vectors(w: Window, f: int) -> int:
    """Vectors of sixteen samples' dy, with a margin as wide as the kernel but one on all sides."""
    return (w.out[0] + 2 * (w.kernel[0] - 1)) * (w.out[1] + 2 * (w.kernel[1] - 1)) * f


def forward_vectors(x: tuple[int, ...], w: Window, f: int) -> int:
    """Each thread's: the samples, room, and a row of the result with the places of its maxima."""
    return input_vectors(x, w) + ROOM + 2 * w.out[1] * f


def backward_vectors(x: tuple[int, ...], w: Window, f: int) -> int:
    """Each thread's: the samples, dy, room, a row of dy or dx, the weights turned, and sums of dy."""
    row = max(2 * w.out[1] * f, x[2] * x[3])
    return input_vectors(x, w) + gradient_vectors(w, f) + ROOM + row + weight_vectors(x[3], w, f) + f


def weight_vectors(c: int, w: Window, f: int) -> int:
    """Vectors that the weights fill."""
    return -(-prod(w.kernel) * c * f // SAMPLES)


def fits(x: tuple[int, ...], w: tuple[int, ...], attrs: Mapping[str, Any]) -> bool:
    """Can lanes be samples?  x: (N, H, W, C), w: (KH, KW, C, F)."""
    win: Window = attrs["window"]
    plain = attrs["groups"] == 1 and not attrs["flip"] and win.dilation == (1, 1) and not win.transposed
    return plain and 4 * SAMPLES * backward_vectors(x, win, w[3]) <= LARGEST


def forward_space(x: tuple[int, ...], w: Window, f: int) -> Scratch:
    return Scratch((THREADS, forward_vectors(x, w, f), SAMPLES), "float32", False)


def backward_space(x: tuple[int, ...], w: Window, f: int) -> Scratch:
    return Scratch((THREADS, backward_vectors(x, w, f), SAMPLES), "float32", False)


def sums(w: tuple[int, ...]) -> Scratch:
    return Scratch((SHARDS, *w), "float32", False)


# Fused with what stands around them.


def _pool_fits(conv: Mapping[str, Any], pool: Mapping[str, Any]) -> bool:
    """2x2 windows side by side, without padding, of what the convolution gives."""
    win: Window = pool["window"]
    rows, columns = conv["window"].out
    return (win.kernel, win.stride, win.dilation, win.out) == ((2, 2), (2, 2), (1, 1), (rows // 2, columns // 2)) and (
        not any(win.pads)
    )


def _narrow(x: Any, w: Any) -> bool:
    """Are there channels too few for vectors of them, and samples enough for vectors of those?"""
    return min(w.shape[2:]) < SAMPLES and int(x.shape[0]) >= SAMPLES // 2


def _forward(ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> bool:
    (_, _, conv), *others = attrs["parts"]
    pools = [own for op, _, own in others if op == "max_pool2d"]
    return fits(ins[0].shape, ins[1].shape, conv) and all(_pool_fits(conv, own) for own in pools)


def _backward(ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> bool:
    """ins: winner, dy, x[, w]; outs: dw[, dx]."""
    (_, _, pool), (_, _, conv), *_ = attrs["parts"]
    return fits(ins[2].shape, outs[0].shape, conv) and _pool_fits(conv, pool)


def _forward_space(ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> tuple[Scratch, ...]:
    return (forward_space(ins[0].shape, attrs["parts"][0][2]["window"], ins[1].shape[3]),)


def _backward_space(ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> tuple[Scratch, ...]:
    window = attrs["parts"][1][2]["window"]
    return sums(outs[0].shape), backward_space(ins[2].shape, window, outs[0].shape[3])


def masked_space(ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> tuple[Scratch, ...]:
    """ins: y, dy, x[, w]; outs: db, dw[, dx]."""
    window, w = attrs["parts"][2][2]["window"], outs[1].shape
    return sums(w), sums(outs[0].shape), backward_space(ins[2].shape, window, w[3])


POOLED = ("conv2d+max_pool2d", "conv2d+max_pool2d+relu", "conv2d+max_pool2d+bias", "conv2d+max_pool2d+bias+relu")
UNPOOLED = ("max_pool2d_dx+conv2d_dw", "max_pool2d_dx+conv2d_dw+conv2d_dx")
#: What a rectifier lets through goes into three gradients, and is in no array itself.
MASKED = ("relu_dx+bias_db+conv2d_dw", "relu_dx+bias_db+conv2d_dw+conv2d_dx")

RULES = {
    **dict.fromkeys(POOLED, Rule(_forward, _forward_space, fuses=lambda i, o, a: _narrow(i[0], i[1]))),
    **dict.fromkeys(UNPOOLED, Rule(_backward, _backward_space, fuses=lambda i, o, a: _narrow(i[2], o[0]))),
}
