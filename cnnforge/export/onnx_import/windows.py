"""Windows of ONNX nodes as the fields of our blocks, defaults left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cnnforge.export.onnx_import.net import Refused
from cnnforge.export.onnx_import.read import OnnxNode
from cnnforge.shapes import Pair, Shape, extent, same_pads, window_out

Pads = tuple[int, int, int, int]


def conv_fields(n: OnnxNode, x: Shape, w: Shape, around: Pads) -> dict[str, Any]:
    """x: (H, W, C);  w: (F, C/groups, KH, KW);  around: padding by a Pad before it"""
    filters, _, kh, kw = w
    groups, stride, dilation = n.attr("group", 1), _pair(n, "strides"), _pair(n, "dilations")
    fields: dict[str, Any] = {"filters": filters, "kernel": _size((kh, kw))}
    if groups > 1:
        fields["groups"] = "depthwise" if groups == x[2] else groups
        if groups == x[2] == filters:
            del fields["filters"]
    if stride != (1, 1):
        fields["stride"] = _size(stride)
    spans = extent(kh, dilation[0]), extent(kw, dilation[1])
    _pad(fields, _added(_pads(n, x, spans, stride), around))
    if dilation != (1, 1):
        fields["dilation"] = _size(dilation)
    return fields


def deconv_fields(n: OnnxNode, x: Shape, w: Shape) -> dict[str, Any]:
    """x: (H, W, C);  w: (C, F/groups, KH, KW)"""
    _, per_group, kh, kw = w
    groups, stride, dilation = n.attr("group", 1), _pair(n, "strides"), _pair(n, "dilations")
    fields: dict[str, Any] = {"filters": per_group * groups, "kernel": _size((kh, kw))}
    if groups > 1:
        fields["groups"] = groups
    if stride != (1, 1):
        fields["stride"] = _size(stride)
    if dilation != (1, 1):
        fields["dilation"] = _size(dilation)
    more = tuple(n.attr("output_padding", (0, 0)))
    spans = extent(kh, dilation[0]), extent(kw, dilation[1])
    how = n.attr("auto_pad", "NOTSET")
    if "output_shape" in n.attrs or how in ("SAME_UPPER", "SAME_LOWER"):
        shape = n.attr("output_shape", [x[i] * stride[i] for i in (0, 1)])[-2:]
        cut = [(x[i] - 1) * stride[i] + more[i] + spans[i] - shape[i] for i in (0, 1)]
        if min(cut) < 0:
            more, cut = tuple(more[i] + max(0, -cut[i]) for i in (0, 1)), [max(0, c) for c in cut]
        first = [c // 2 if how == "SAME_UPPER" else c - c // 2 for c in cut]
        pads = (first[0], cut[0] - first[0], first[1], cut[1] - first[1])
    else:
        top, left, bottom, right = n.attr("pads", (0, 0, 0, 0)) if how == "NOTSET" else (0, 0, 0, 0)
        pads = (top, bottom, left, right)
    _pad(fields, pads)
    if any(more):
        fields["output_padding"] = _size((more[0], more[1]))
    return fields


def pool_fields(n: OnnxNode, x: Shape, around: Pads) -> dict[str, Any]:
    """x: (H, W, C);  around: padding by a Pad before it, whose zeros an average counts"""
    kernel, stride = _pair(n, "kernel_shape"), _pair(n, "strides")
    if _pair(n, "dilations") != (1, 1):
        raise Refused("its window is dilated", "dilations of 1")
    own = _pads(n, x, kernel, stride)
    fields: dict[str, Any] = {"kernel": _size(kernel)}
    if stride != kernel:
        fields["stride"] = _size(stride)
    _pad(fields, _added(own, around))
    if n.op == "AveragePool":
        fields["mode"] = "average"
        counted = bool(n.attr("count_include_pad", 0))
        if any(around) and any(own) and not counted:
            return _beyond(fields, x, own, around, kernel, stride)
        if counted or any(around):
            fields["count_include_pad"] = True
    if n.attr("ceil_mode", 0):
        fields["ceil_mode"] = True
    return fields


def _beyond(fields: dict[str, Any], x: Shape, own: Pads, around: Pads, kernel: Pair, stride: Pair) -> dict[str, Any]:
    """Zeros that count by a Pad, and behind them what does not: ceil_mode, where that is as far as the last window
    reaches.
    """
    for i in (0, 1):
        before, after = around[2 * i], around[2 * i + 1]
        there = window_out(x[i], kernel[i], stride[i], before, after + own[2 * i + 1])
        if own[2 * i] or there != window_out(x[i], kernel[i], stride[i], before, after, ceil_mode=True):
            raise Refused("some of its padding counts and some does not", "count_include_pad: 1, or no Pad before it")
    _pad(fields, around)
    return fields | {"count_include_pad": True, "ceil_mode": True}


def _pair(n: OnnxNode, name: str) -> Pair:
    values = [int(v) for v in n.attr(name, (1, 1))]
    if len(values) != 2:
        raise Refused(f"its {name} are {len(values)} numbers", "pictures of height and width")
    return values[0], values[1]


def _pads(n: OnnxNode, x: Shape, spans: Pair, stride: Pair) -> Pads:
    """(top, bottom, left, right); ONNX has (top, left, bottom, right)."""
    how = n.attr("auto_pad", "NOTSET")
    if how == "NOTSET":
        top, left, bottom, right = (int(v) for v in n.attr("pads", (0, 0, 0, 0)))
        return top, bottom, left, right
    if how == "VALID":
        return 0, 0, 0, 0
    rows, columns = (same_pads(x[i], spans[i], stride[i]) for i in (0, 1))
    return (*rows, *columns) if how == "SAME_UPPER" else (*rows[::-1], *columns[::-1])


def _added(own: Pads, around: Pads) -> Pads:
    a, b, c, d = (one + other for one, other in zip(own, around, strict=True))
    return a, b, c, d


def _pad(fields: dict[str, Any], pads: Sequence[int]) -> None:
    if min(pads) < 0:
        raise Refused(f"its padding {tuple(pads)} takes rows away", "padding of 0 or more")
    fields.pop("padding", None)
    if any(pads):
        fields["padding"] = pads[0] if len(set(pads)) == 1 else [*pads]


def _size(pair: Pair) -> int | list[int]:
    return pair[0] if pair[0] == pair[1] else [*pair]
