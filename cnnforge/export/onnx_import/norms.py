"""Normalisations of an ONNX file as ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cnnforge.export.onnx_import.net import Flow, Refused, Tensor
from cnnforge.export.onnx_import.read import OnnxNode
from cnnforge.export.onnx_import.rules import Array, Input, Reading, optional, rule, spatial, tensor, weights


@rule("BatchNormalization")
def _batch_norm(r: Reading, n: OnnxNode, ins: Sequence[Input]) -> Tensor:
    if n.attr("training_mode", 0):
        raise Refused("it is in training mode", "export in evaluation mode: model.eval()")
    return _norm(r, n, ins, "batch_norm", {"epsilon": n.attr("epsilon", 1e-5)}, ("gamma", "beta", "mean", "var"))


def _norm(
    r: Reading, n: OnnxNode, ins: Sequence[Input], type: str, fields: dict[str, Any], parts: Sequence[str]
) -> Flow:
    """A norm whose vectors are the node's inputs from the second on; a beta that is left out is 0."""
    x = r.net.vector(r.net.real(tensor(ins)))
    channels = r.net.shape(x)[-1]
    arrays: dict[str, Array] = {"beta": np.zeros(channels, np.float32)}
    for i, part in enumerate(parts, start=1):
        if (vector := optional(ins, i, part)) is not None:
            arrays[part] = r.net.in_our_order(np.broadcast_to(vector.reshape(-1), (channels,)), x)
    epsilon = fields["epsilon"]
    fields = {**fields, "epsilon": float(f"{epsilon:.7g}")}
    if fields["epsilon"] == 1e-5:
        del fields["epsilon"]
    if not epsilon:
        raise Refused("its epsilon is 0", "an epsilon above 0")
    return r.net.add(n, type, fields, x, arrays=arrays, weights=r.constant_names[1])


@rule("LayerNormalization")
def _layer_norm(r: Reading, n: OnnxNode, ins: Sequence[Input]) -> Tensor:
    x = r.net.real(tensor(ins))
    last = len(r.net.dims(x))
    if n.attr("axis", -1) % (last + 1) != last or x.view not in ("nhwc", "flat", "flat_chw"):
        raise Refused(
            "it goes over more than the channels of one position", "channels last and axis -1; or GroupNormalization"
        )
    return _norm(r, n, ins, "layer_norm", {"epsilon": n.attr("epsilon", 1e-5)}, ("gamma", "beta"))


@rule("InstanceNormalization")
def _instance_norm(r: Reading, n: OnnxNode, ins: Sequence[Input]) -> Tensor:
    """Each channel by itself; of a tensor whose channels a Reshape has put into groups, each group."""
    x = r.net.real(tensor(ins))
    shape, epsilon = r.net.shape(x), n.attr("epsilon", 1e-5)
    if x.view not in ("nchw", "grouped"):
        raise Refused("its input is no picture and no groups of channels", "GroupNormalization or LayerNormalization")
    groups = x.groups if x.view == "grouped" else shape[-1]
    each = [np.repeat(weights(ins, i, part), shape[-1] // groups) for i, part in ((1, "scale"), (2, "B"))]
    whole = replace(x, view="flat" if len(shape) == 1 else "nchw")
    made = _norm(r, n, [whole, *each], "group_norm", {"groups": groups, "epsilon": epsilon}, ("gamma", "beta"))
    return replace(made, view=x.view, groups=x.groups)


@rule("GroupNormalization")
def _group_norm(r: Reading, n: OnnxNode, ins: Sequence[Input]) -> Tensor:
    """Scale and bias were one per group in opset 18, and are one per channel since 21."""
    x, groups = r.net.real(tensor(ins)), int(n.attrs["num_groups"])
    channels = r.net.shape(x)[-1]
    each = [weights(ins, i, part) for i, part in ((1, "scale"), (2, "bias"))]
    each = [np.repeat(v, channels // groups) if v.size == groups else v for v in each]
    if x.view not in ("nchw", "flat") or (x.view == "flat" and len(r.net.shape(x)) > 1):
        raise Refused("its input is neither a picture nor a vector of channels", "a picture (N, C, H, W)")
    fields = {"groups": groups, "epsilon": n.attr("epsilon", 1e-5)}
    return _norm(r, n, [x, *each], "group_norm", fields, ("gamma", "beta"))


@rule("LRN")
def _lrn(r: Reading, n: OnnxNode, ins: Sequence[Input]) -> Tensor:
    size = int(n.attrs["size"])
    if size % 2 == 0:
        raise Refused(f"its size {size} is even, and lrn here reaches further to the other side", "an odd size")
    defaults = (("alpha", "alpha", 1e-4), ("beta", "beta", 0.75), ("k", "bias", 1.0))
    fields = {ours: float(f"{n.attr(name, value):.7g}") for ours, name, value in defaults}
    fields = {ours: fields[ours] for ours, _, value in defaults if fields[ours] != value}
    x, _, _ = spatial(r, r.net.real(tensor(ins)))
    return r.net.add(n, "lrn", {"size": size, **fields}, x)
