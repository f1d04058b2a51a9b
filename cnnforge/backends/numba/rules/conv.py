"""Convolutions: which way each is computed."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from cnnforge.backends.numba.rules import samples
from cnnforge.backends.numba.rules.base import THREADS, Rule
from cnnforge.backends.numpy import capabilities as numpy
from cnnforge.ir.graph import Value
from cnnforge.ir.op import Scratch
from cnnforge.shapes import Window

#: Winograd convolution: partial sums of a weight's gradient, and its channels summed side by side.
WINOGRAD_SHARDS, WINOGRAD_ROWS = 8, 4

#: Into how many parts a batch is cut for weight gradients: few for large kernels, whose sums take memory.
#: Fixed numbers, so that the order of adding up, and with it the result, is the same for any number of threads.
SHARDS, SHARDS_OF_LARGE, LARGE = 16, 8, 1 << 16


def column_rows(w: Window) -> int:
    """Rows of the padded sample in each remainder modulo the stride, as a convolution unrolls them."""
    return -(-((w.out[0] - 1) * w.stride[0] + w.extent[0]) // w.stride[0])


def _conv_choice(w: tuple[int, ...], attrs: Mapping[str, Any]) -> bool:
    """One group, or as many as channels and filters.  w: (KH, KW, C/groups, F)."""
    groups = attrs["groups"]
    return bool(groups == 1 or (numpy.is_depthwise(w, groups) and w[3] == groups))


def _columns(c: int, attrs: Mapping[str, Any]) -> tuple[Scratch, ...]:
    """Each thread's unrolled sample of ``c`` channels, where the input as it lies will not do."""
    w = attrs["window"]
    if attrs["groups"] > 1 or numpy.is_pointwise(w):
        return ()
    return (Scratch((THREADS, w.stride[0] * column_rows(w), w.out[1], w.kernel[1] * c), "float32", False),)


def _conv_dw(dw: Value, attrs: Mapping[str, Any]) -> tuple[Scratch, ...]:
    """A sum for each shard; then the columns."""
    shards = SHARDS if prod(dw.shape) <= LARGE else SHARDS_OF_LARGE
    return Scratch((shards, *dw.shape), dw.dtype, False), *_columns(dw.shape[2], attrs)


def winograd_tiles(c: int) -> int:
    """Tiles that are transformed together: the transformed patches of ``c`` channels take about 200 KiB."""
    return min(96, max(24, 1536 // c // 6 * 6))


def _is_winograd(x: Any, w: Any, y: Any, attrs: Mapping[str, Any]) -> bool:
    """3x3, stride 1, enough channels for whole vectors, and fewer products than the direct way takes."""
    win = attrs["window"]
    tiles = -(-win.out[0] // 4) * -(-win.out[1] // 4)
    return (
        (win.kernel, win.stride, win.dilation, win.transposed) == ((3, 3), (1, 1), (1, 1), False)
        and attrs["groups"] == 1
        and min(w.shape[2:]) >= 16
        and 36 * tiles < 9 * win.out[0] * win.out[1]
    )


def _winograd_space(c: int) -> Scratch:
    """Of each thread: a patch; the products of a group of tiles with 16 filters; the group's transformed patches."""
    tiles = winograd_tiles(c)
    return Scratch((THREADS, 36, 16 + (tiles * 16 + 16) + (tiles * c + 16)), "float32", False)


def _winograd(c: int, f: int) -> tuple[Scratch, ...]:
    """Transformed weights; then each thread's own."""
    return Scratch((36, -(-f // 16), c, 16), "float32", False), _winograd_space(c)


def _winograd_dw(c: int, f: int) -> tuple[Scratch, ...]:
    """Partial sums of the transformed weights' gradient; then each thread's own."""
    rows = -(-c // WINOGRAD_ROWS)
    sums = (WINOGRAD_SHARDS, 36, -(-f // 16), rows, WINOGRAD_ROWS, 16)
    return Scratch(sums, "float32", False), _winograd_space(c)


def _named(op: str, ins: tuple[Any, ...], outs: tuple[Any, ...]) -> tuple[Any, Any, Any]:
    """(x, w, y) of a convolution, or those that have their shapes."""
    if op == "conv2d":
        return ins[0], ins[1], outs[0]
    return (outs[0], ins[1], ins[0]) if op == "conv2d_dx" else (ins[0], outs[0], ins[1])


def _ways(op: str, ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> tuple[str, ...]:
    """By what a convolution or one of its gradients can be computed, the best guess first."""
    x, w, y = _named(op, ins, outs)
    found = ["winograd"] if _is_winograd(x, w, y, attrs) else []
    if samples.fits(x.shape, w.shape, attrs):
        # Lanes are samples: good where there are many of them, and where channels fill no vectors.
        narrow = min(w.shape[2:]) < samples.SAMPLES and x.shape[0] >= samples.SAMPLES // 2
        return ("samples", *found, "gemm") if narrow else (*found, "gemm", "samples")
    return (*found, "gemm")


def _space(op: str, ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> tuple[Scratch, ...]:
    x, w, _ = _named(op, ins, outs)
    c, f = w.shape[2:]
    if attrs["way"] == "samples":
        if op == "conv2d":
            return (samples.forward_space(x.shape, attrs["window"], f),)
        space = samples.backward_space(x.shape, attrs["window"], f)
        return (samples.sums(w.shape), space) if op == "conv2d_dw" else (space,)
    if attrs["way"] == "winograd":
        return _winograd_dw(c, f) if op == "conv2d_dw" else _winograd(c, f) if op == "conv2d" else _winograd(f, c)
    return _conv_dw(w, attrs) if op == "conv2d_dw" else _columns(c, attrs)


CONVOLUTIONS = ("conv2d", "conv2d_dx", "conv2d_dw")

RULES = {
    op: Rule(
        lambda i, o, a, op=op: _conv_choice(_named(op, i, o)[1].shape, a),  # type: ignore[misc]
        lambda i, o, a, op=op: _space(op, i, o, a),  # type: ignore[misc]
        lambda i, o, a, op=op: _ways(op, i, o, a),  # type: ignore[misc]
    )
    for op in CONVOLUTIONS
}
