"""What the numpy backend can do, and the workspace of each kernel. Imports no NumPy: planning reads only this."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from cnnforge.ir.graph import Value
from cnnforge.ir.vjp import FROM_INPUT, FROM_OUTPUT
from cnnforge.plan.capabilities import Capabilities, Scratch
from cnnforge.shapes import Window

#: Elements that an optimizer works on at a time: its workspace stays in the cache, whatever the model's size.
FLAT_CHUNK = 1 << 15

#: Workspace arrays of the ops behind the head of a fused chain, where they need any.
TAIL_SCRATCH = {"bias": 1, "leaky_relu": 1, "elu": 1}

OPTIMIZERS = ("sgd", "rmsprop", "adam", "adamw")
LOSSES = ("softmax_cross_entropy", "sigmoid_cross_entropy", "mse")


def padded_shape(x: tuple[int, ...], w: Window) -> tuple[int, ...]:
    """(N, H, W, C) with the window's padding, and with the rows that a ceil_mode window reads beyond it."""
    n, h, width, c = x
    rows = max(h + w.pads[0] + w.pads[1], (w.out[0] - 1) * w.stride[0] + w.extent[0])
    columns = max(width + w.pads[2] + w.pads[3], (w.out[1] - 1) * w.stride[1] + w.extent[1])
    return n, rows, columns, c


def is_pointwise(w: Window) -> bool:
    """A 1x1 convolution of stride 1 is a matrix product of the input as it lies."""
    return w.kernel == (1, 1) and w.stride == (1, 1) and not any(w.pads)


def needs_padding(x: tuple[int, ...], w: Window) -> bool:
    """Does any window read outside the input?"""
    return padded_shape(x, w) != tuple(x)


def _padded(x: Value, w: Window) -> tuple[Scratch, ...]:
    return (Scratch(padded_shape(x.shape, w), x.dtype),) if needs_padding(x.shape, w) else ()


def _columns(x: Value, w: Window) -> tuple[Scratch, ...]:
    """Input rows unrolled along the width, sorted by their remainder modulo the stride; then the padded input."""
    if is_pointwise(w):
        return ()
    rows = padded_shape(x.shape, w)[1]
    columns = (x.shape[0], w.stride[0], -(-rows // w.stride[0]), w.out[1], w.kernel[1] * x.shape[3])
    return Scratch(columns, x.dtype), *_padded(x, w)


def _like(v: Value, dtype: str = "") -> Scratch:
    return Scratch(v.shape, dtype or v.dtype, v.batched)


def _row_ones(v: Value) -> Scratch:
    """A one per row of ``v`` seen as a matrix of its channels: column sums are a matrix product with it."""
    return Scratch((v.shape[0], prod(v.shape[1:-1])), v.dtype)


Rule = Callable[[tuple[Value, ...], tuple[Value, ...], Mapping[str, Any]], tuple[Scratch, ...]]

_RULES: dict[str, Rule] = {
    # The first is what one product gives: of y's size, a kernel row's weights for each sample, one row's columns.
    "conv2d": lambda i, o, a: (_like(o[0]), *_columns(i[0], a["window"])),
    "conv2d_dw": lambda i, o, a: (
        Scratch((i[0].shape[0], *o[0].shape[1:]), i[0].dtype), *_columns(i[0], a["window"]),
    ),
    "conv2d_dx": lambda i, o, a: (
        () if is_pointwise(a["window"]) else (
            Scratch((*i[0].shape[:3], a["window"].kernel[1] * o[0].shape[3]), i[0].dtype),
            *_columns(o[0], a["window"]),
        )
    ),
    "bias": lambda i, o, a: (Scratch((prod(i[0].shape[2:] or i[0].shape[1:]),), i[0].dtype, False),),
    "bias_db": lambda i, o, a: (_row_ones(i[0]),),
    "scale_channels": lambda i, o, a: (Scratch((i[0].shape[0], i[0].shape[2] * i[0].shape[3]), i[0].dtype),),
    "scale_channels_dgate": lambda i, o, a: (_like(i[0]),),
    "max_pool2d": lambda i, o, a: (_like(o[0], "bool"), _like(o[0]), *_padded(i[0], a["window"])),
    "max_pool2d_dx": lambda i, o, a: (_like(i[1], "bool"), _like(i[1]), *_padded(o[0], a["window"])),
    "average_pool2d": lambda i, o, a: _padded(i[0], a["window"]),
    "average_pool2d_dx": lambda i, o, a: (_like(i[0]), *_padded(o[0], a["window"])),
    "relu_dx": lambda i, o, a: (_like(i[0], "bool"),),
    "leaky_relu": lambda i, o, a: (_like(i[0]),),
    "leaky_relu_dx": lambda i, o, a: (_like(i[0]),),
    "elu": lambda i, o, a: (_like(i[0]),),
    "elu_dx": lambda i, o, a: (_like(i[0]), _like(i[0], "bool")),
    "sigmoid_dx": lambda i, o, a: (_like(i[0]),),
    "tanh_dx": lambda i, o, a: (_like(i[0]),),
    "softmax": lambda i, o, a: (Scratch((*i[0].shape[:-1], 1), i[0].dtype),),
    "softmax_dx": lambda i, o, a: (_like(i[0]), Scratch((*i[0].shape[:-1], 1), i[0].dtype)),
    "gelu": lambda i, o, a: (_like(i[0]),),
    "gelu_dx": lambda i, o, a: (_like(i[0]), _like(i[0])),
    "silu_dx": lambda i, o, a: (_like(i[0]), _like(i[0])),
    "dropout": lambda i, o, a: (
        Scratch((i[0].shape[0], 7, -(-prod(i[0].shape[1:]) // 4)), "uint64"),
    ),
    "batch_norm": lambda i, o, a: (_like(i[0]), _row_ones(i[0]), Scratch((1, i[0].shape[-1]), i[0].dtype, False)),
    "batch_norm_inference": lambda i, o, a: (Scratch((2, i[0].shape[-1]), i[0].dtype, False),),
    "batch_norm_dparams": lambda i, o, a: (
        _like(i[0]), _row_ones(i[0]), Scratch((1, i[0].shape[-1]), i[0].dtype, False),
    ),
    "batch_norm_dx": lambda i, o, a: (_like(i[0]), Scratch((2, i[0].shape[-1]), i[0].dtype, False)),
    "batch_norm_running": lambda i, o, a: (Scratch(i[0].shape, i[0].dtype, False),),
    "softmax_cross_entropy": lambda i, o, a: (
        _like(i[0]), _like(i[0], "bool"), Scratch((*i[0].shape[:-1], 1), i[0].dtype),
        Scratch(i[1].shape, i[0].dtype), Scratch(i[1].shape, "int64"),
    ),
    "softmax_cross_entropy_dz": lambda i, o, a: (
        _like(i[0], "bool"), Scratch((*i[0].shape[:-1], 1), i[0].dtype),
    ),
    "sigmoid_cross_entropy": lambda i, o, a: (_like(i[0]), _like(i[0]), _like(i[0], "bool"), _like(i[0], "bool")),
    "mse": lambda i, o, a: (_like(i[0]),),
    **{
        op: lambda i, o, a: (Scratch((2, min(FLAT_CHUNK, i[0].shape[0])), i[0].dtype, False),)
        for op in OPTIMIZERS
    },
}  # fmt: skip


def scratch(op: str, ins: tuple[Value, ...], outs: tuple[Value, ...], attrs: Mapping[str, Any]) -> tuple[Scratch, ...]:
    """Workspace of a node; a fused node needs what its parts need in the order of the chain."""
    if "+" not in op:
        rule = _RULES.get(op)
        return rule(ins, outs, attrs) if rule else ()
    parts = attrs["parts"]
    head, extra, head_attrs = parts[0]
    wanted = scratch(head, ins[:extra], outs, head_attrs)
    for part, _, part_attrs in parts[1:]:
        wanted += scratch(part, outs, outs, part_attrs)
    return wanted


_ELEMENTWISE = frozenset((*FROM_OUTPUT, *FROM_INPUT))
_PLAIN = frozenset(
    (
        "conv2d", "conv2d_dx", "conv2d_dw", "matmul", "matmul_dx", "matmul_dw", "bias", "bias_db", "reshape", "add",
        "multiply", "scale_channels", "scale_channels_dgate", "concat", "slice_channels", "shortcut_pad",
        "shortcut_pad_dx", "channel_shuffle",
        "max_pool2d", "max_pool2d_dx", "average_pool2d", "average_pool2d_dx", "dropout", "dropout_dx",
        "batch_norm", "batch_norm_inference", "batch_norm_dparams", "batch_norm_dx", "batch_norm_running",
    )
)  # fmt: skip

CAPABILITIES = Capabilities(
    name="numpy",
    precisions=("float32", "float64"),
    ops=_PLAIN
    | _ELEMENTWISE
    | {f"{op}_dx" for op in _ELEMENTWISE}
    | set(LOSSES)
    | {f"{op}_dz" for op in LOSSES}
    | set(OPTIMIZERS),
    heads=frozenset({"conv2d", "matmul"}),
    # Only functions that can overwrite their input, and whose derivative does not need it.
    tails=frozenset({"relu", "leaky_relu", "elu", "sigmoid", "tanh"}),
    scratch=scratch,
    inplace={
        "bias": 0, "add": 0, "multiply": 0, "scale_channels": 0,
        "relu": 0, "leaky_relu": 0, "elu": 0, "sigmoid": 0, "tanh": 0, "softmax": 0, "dropout": 0,
        "relu_dx": 1, "leaky_relu_dx": 1, "elu_dx": 1, "sigmoid_dx": 1, "tanh_dx": 1, "softmax_dx": 1,
        "gelu_dx": 1, "silu_dx": 1, "dropout_dx": 1, "batch_norm_inference": 0, "batch_norm_dx": 6,
    },
)  # fmt: skip
