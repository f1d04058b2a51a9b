"""What the numpy backend can do, and the workspace of each kernel. Imports no NumPy: planning reads only this."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from cnnforge.ir.graph import Value
from cnnforge.ir.op import Scratch, added_ops
from cnnforge.ir.vjp import FROM_INPUT, FROM_OUTPUT
from cnnforge.plan.capabilities import Capabilities
from cnnforge.shapes import Window

#: Elements that an optimizer works on at a time: its workspace stays in the cache, whatever the model's size.
FLAT_CHUNK = 1 << 15

#: Elements of one piece of a depthwise convolution, where a sample has fewer: about what the fast cache holds.
DEPTHWISE_CHUNK = 1 << 15

#: Workspace arrays of the ops behind the head of a fused chain, where they need any.
TAIL_SCRATCH = {"bias": 1, "leaky_relu": 1, "elu": 1, "selu": 1}

#: Those that go element by element, and those that see each tensor by itself.
OPTIMIZERS = ("sgd", "rmsprop", "adam", "adamw")
TENSORWISE = ("lamb", "muon")
CLIPS = ("clip_norm", "clip_value")
GATHERS = ("gather", "take", "average")
SCALED = ("scale_loss", "guard")
LOSSES = (
    "softmax_cross_entropy", "soft_cross_entropy", "sigmoid_cross_entropy", "weighted_sigmoid_cross_entropy", "mse",
)  # fmt: skip


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


def is_depthwise(w: tuple[int, ...], groups: int) -> bool:
    """Does every group have one input channel?  w: (KH, KW, C/groups, F)."""
    return groups > 1 and w[2] == 1


def depthwise_scratch(op: str, x: Value, w: Value, y: Value, window: Window) -> tuple[Scratch, ...]:
    """Products of a few samples; then the weights of each kernel position for one row of y (for the weights' gradient:
    ones, and one position's sums); then, where the input as it lies will not do, a few samples of it, padded and with
    one channel per filter.
    """
    n, oh, ow, f = y.shape
    size = min(n, max(1, DEPTHWISE_CHUNK // (oh * ow * f)))
    piece = Scratch((size, oh, ow, f), y.dtype, False)
    extra: tuple[Scratch, ...]
    if op == "conv2d_dw":
        extra = (Scratch((size * oh * ow,), y.dtype, False), Scratch((f,), y.dtype, False))
    else:
        extra = (Scratch((window.kernel[0] * window.kernel[1], ow, f), y.dtype, False),)
    spread = (size, *padded_shape(x.shape, window)[1:3], f)
    as_it_lies = spread[1:] == tuple(x.shape[1:])
    return (piece, *extra) if as_it_lies else (piece, *extra, Scratch(spread, x.dtype, False))


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


def _positions(x: Value) -> Scratch:
    """A one per position of a sample."""
    return Scratch((prod(x.shape[1:-1]),), x.dtype, False)


def _per_channel(x: Value) -> Scratch:
    """One number per sample and channel."""
    return Scratch((x.shape[0], 1, x.shape[-1]), x.dtype)


def _row_ones(v: Value) -> Scratch:
    """A one per row of ``v`` seen as a matrix of its channels: column sums are a matrix product with it."""
    return Scratch((v.shape[0], prod(v.shape[1:-1])), v.dtype)


def muon_scratch(matrices: tuple[tuple[int, int], ...], dtype: str) -> tuple[Scratch, ...]:
    """Two of the largest matrix, as numbers, and two of the largest square of a shorter side."""
    whole, square = (max(sizes) for sizes in zip(*((m * n, min(m, n) ** 2) for m, n in matrices), strict=True))
    return *(Scratch((whole,), dtype, False),) * 2, *(Scratch((square,), dtype, False),) * 2


def _conv2d(x: Value, w: Value, y: Value, attrs: Mapping[str, Any]) -> tuple[Scratch, ...]:
    """What one product gives; then the columns."""
    win = attrs["window"]
    if is_depthwise(w.shape, attrs["groups"]):
        return depthwise_scratch("conv2d", x, w, y, win)
    return _like(y), *_columns(x, win)


def _conv2d_dw(x: Value, w: Value, y: Value, attrs: Mapping[str, Any]) -> tuple[Scratch, ...]:
    """A kernel row's weights for each sample; then the columns."""
    win = attrs["window"]
    if is_depthwise(w.shape, attrs["groups"]):
        return depthwise_scratch("conv2d_dw", x, w, y, win)
    return Scratch((x.shape[0], *w.shape[1:]), x.dtype), *_columns(x, win)


def _conv2d_dx(x: Value, w: Value, y: Value, attrs: Mapping[str, Any]) -> tuple[Scratch, ...]:
    """What one row of the kernel gives back; then the columns."""
    win = attrs["window"]
    if is_depthwise(w.shape, attrs["groups"]):
        return depthwise_scratch("conv2d_dx", x, w, y, win)
    if is_pointwise(win):
        return ()
    return Scratch((*y.shape[:3], win.kernel[1] * x.shape[3]), y.dtype), *_columns(x, win)


#: The op that talks to other processes.
GATHER = "gather_ranks"

Rule = Callable[[tuple[Value, ...], tuple[Value, ...], Mapping[str, Any]], tuple[Scratch, ...]]

_RULES: dict[str, Rule] = {
    "conv2d": lambda i, o, a: _conv2d(i[0], i[1], o[0], a),
    "conv2d_dw": lambda i, o, a: _conv2d_dw(i[0], o[0], i[1], a),
    "conv2d_dx": lambda i, o, a: _conv2d_dx(o[0], i[1], i[0], a),
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
    **dict.fromkeys(("relu6_dx", "hard_sigmoid_dx"), lambda i, o, a: (_like(i[0], "bool"), _like(i[0], "bool"))),
    "hard_swish": lambda i, o, a: (_like(i[0]),),
    "hard_swish_dx": lambda i, o, a: (_like(i[0]), _like(i[0], "bool")),
    "softplus_dx": lambda i, o, a: (_like(i[0]),),
    "selu": lambda i, o, a: (_like(i[0]),),
    "selu_dx": lambda i, o, a: (_like(i[0]), _like(i[0], "bool")),
    "prelu": lambda i, o, a: (_like(i[0]),),
    "prelu_dx": lambda i, o, a: (_like(i[0]), _like(i[0], "bool")),
    "prelu_dalpha": lambda i, o, a: (_like(i[0]), _row_ones(i[0])),
    "softmax": lambda i, o, a: (Scratch((*i[0].shape[:-1], 1), i[0].dtype),),
    "softmax_dx": lambda i, o, a: (_like(i[0]), Scratch((*i[0].shape[:-1], 1), i[0].dtype)),
    "gelu": lambda i, o, a: (_like(i[0]),),
    "gelu_dx": lambda i, o, a: (_like(i[0]), _like(i[0])),
    "silu_dx": lambda i, o, a: (_like(i[0]), _like(i[0])),
    "dropout": lambda i, o, a: (
        Scratch((i[0].shape[0], 7, -(-prod(o[1].shape[1:]) // 4)), "uint64"),
    ),
    "batch_norm": lambda i, o, a: (_like(i[0]), _row_ones(i[0]), Scratch((1, i[0].shape[-1]), i[0].dtype, False)),
    "fold_batch_norm": lambda i, o, a: (Scratch(i[1].shape, i[1].dtype, False),),
    "batch_norm_inference": lambda i, o, a: (Scratch((2, i[0].shape[-1]), i[0].dtype, False),),
    "batch_norm_dparams": lambda i, o, a: (
        _like(i[0]), _row_ones(i[0]), Scratch((1, i[0].shape[-1]), i[0].dtype, False),
    ),
    "batch_norm_dx": lambda i, o, a: (_like(i[0]), Scratch((2, i[0].shape[-1]), i[0].dtype, False)),
    "batch_norm_running": lambda i, o, a: (Scratch(i[0].shape, i[0].dtype, False),),
    GATHER: lambda i, o, a: (Scratch(o[0].shape[1:], o[0].dtype, False),),
    "batch_norm_merge": lambda i, o, a: (
        Scratch(i[0].shape[:1], i[0].dtype, False), Scratch((i[0].shape[0], o[0].shape[0]), i[0].dtype, False),
    ),
    "label_weights": lambda i, o, a: (_like(i[0], "bool"),),
    "lrn": lambda i, o, a: (_like(i[0]),),
    "lrn_dx": lambda i, o, a: (_like(i[0]), _like(i[0])),
    "group_norm": lambda i, o, a: (_like(i[0]), _positions(i[0]), _per_channel(i[0])),
    "group_norm_dgamma": lambda i, o, a: (_like(i[0]), _row_ones(i[0]), _per_channel(i[0])),
    "group_norm_dx": lambda i, o, a: (
        _like(i[0]), _like(i[0]), _positions(i[0]), _per_channel(i[0]),
        Scratch((i[0].shape[0], 2, a["groups"]), i[0].dtype),
    ),
    "layer_norm": lambda i, o, a: (_like(i[0]),),
    "layer_norm_dgamma": lambda i, o, a: (_like(i[0]), _row_ones(i[0])),
    "layer_norm_dx": lambda i, o, a: (_like(i[0]), _like(i[0]), _like(i[2])),
    "softmax_cross_entropy": lambda i, o, a: (
        _like(i[0]), _like(i[0], "bool"), Scratch((*i[0].shape[:-1], 1), i[0].dtype),
        Scratch(i[1].shape, i[0].dtype), Scratch(i[1].shape, "int64"),
    ),
    "softmax_cross_entropy_dz": lambda i, o, a: (
        _like(i[0], "bool"), Scratch((*i[0].shape[:-1], 1), i[0].dtype),
    ),
    "sigmoid_cross_entropy": lambda i, o, a: (_like(i[0]), _like(i[0]), _like(i[0], "bool"), _like(i[0], "bool")),
    "class_targets": lambda i, o, a: (
        _like(o[0], "bool"), Scratch((*i[0].shape, 1), "bool"), Scratch((1,), o[0].dtype, False),
    ),
    "mixed_targets": lambda i, o, a: (
        _like(o[0]), _like(o[0]), _like(o[0], "bool"), Scratch((1,), o[0].dtype, False),
    ),
    "soft_cross_entropy": lambda i, o, a: (
        _like(i[0]), Scratch((*i[0].shape[:-1], 1), i[0].dtype), Scratch(i[2].shape, i[0].dtype),
        Scratch(i[2].shape, "int64"),
    ),
    "soft_cross_entropy_dz": lambda i, o, a: (Scratch((*i[0].shape[:-1], 1), i[0].dtype),),
    "weighted_sigmoid_cross_entropy": lambda i, o, a: (*(_like(i[0]),) * 4, _like(i[0], "bool"), _like(i[0], "bool")),
    "weighted_sigmoid_cross_entropy_dz": lambda i, o, a: (_like(i[0]), _like(i[0])),
    "mse": lambda i, o, a: (_like(i[0]),),
    **{
        op: lambda i, o, a: (Scratch((2, min(FLAT_CHUNK, i[0].shape[0])), i[0].dtype, False),)
        for op in (*OPTIMIZERS, "lamb")
    },
    "muon": lambda i, o, a: muon_scratch(a["matrices"], i[0].dtype),
    "average": lambda i, o, a: (Scratch((min(FLAT_CHUNK, i[0].shape[0]),), i[0].dtype, False),),
    "guard": lambda i, o, a: (Scratch((min(FLAT_CHUNK, i[0].shape[0]),), "bool", False),),
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


#: Chains run as one kernel: ``head, bias[, tail]``. Tails are only functions that can overwrite their input, and whose
#: derivative does not need it.
HEADS = ("conv2d", "conv2d_dx", "matmul")
TAILS = tuple(op for op in FROM_OUTPUT if op != "softmax")

_ELEMENTWISE = frozenset((*FROM_OUTPUT, *FROM_INPUT))
_PLAIN = frozenset(
    (
        "conv2d", "conv2d_dx", "conv2d_dw", "matmul", "matmul_dx", "matmul_dw", "bias", "bias_db", "reshape", "add",
        "scale", "multiply", "scale_channels", "scale_channels_dgate", "concat", "slice_channels", "shortcut_pad",
        "shortcut_pad_dx", "channel_shuffle",
        "prelu", "prelu_dx", "prelu_dalpha",
        "max_pool2d", "max_pool2d_dx", "average_pool2d", "average_pool2d_dx", "dropout", "dropout_dx",
        "batch_norm", "batch_norm_inference", "fold_batch_norm", "batch_norm_dparams", "batch_norm_dx",
        "batch_norm_running", "batch_norm_merge", "batch_norm_parts", "label_weights", GATHER,
        "group_norm", "group_norm_dx", "group_norm_dgamma", "layer_norm", "layer_norm_dx", "layer_norm_dgamma",
        "lrn", "lrn_dx",
    )
)  # fmt: skip

CAPABILITIES = Capabilities(
    name="numpy",
    precisions=("float32", "float64"),
    ops=_PLAIN
    | _ELEMENTWISE
    | {f"{op}_dx" for op in _ELEMENTWISE}
    | set(LOSSES)
    | {"class_targets", "mixed_targets", "tally"}
    | {f"{op}_dz" for op in LOSSES}
    | {*OPTIMIZERS, *TENSORWISE, *CLIPS, *GATHERS, *SCALED, "cast"},
    chains=frozenset(f"{head}+bias{tail}" for head in HEADS for tail in ("", *(f"+{op}" for op in TAILS))),
    scratch=scratch,
    inplace={
        **dict.fromkeys((*FROM_OUTPUT, "bias", "add", "multiply", "scale", "scale_channels", "dropout", "prelu"), 0),
        "scale_loss": 0,
        "batch_norm_inference": 0,
        **{f"{op}_dx": 1 for op in (*FROM_OUTPUT, *FROM_INPUT, "dropout")},
        "prelu_dx": 2, "batch_norm_dx": 6, "group_norm_dx": 4, "layer_norm_dx": 4, "lrn_dx": 2,
    },
)  # fmt: skip


def capabilities() -> Capabilities:
    """The same with the ops that installed packages add."""
    return CAPABILITIES.extended(added_ops(CAPABILITIES.ops))
