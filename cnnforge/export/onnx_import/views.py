"""Ops that compute nothing: the same numbers with other axes.

No layer comes of them but a flatten, a channel_shuffle, a pool that leaves positions out and a shortcut_pad; the rest
is remembered until a layer reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from cnnforge.export.onnx_import.constants import axes_of, resolved, slices
from cnnforge.export.onnx_import.net import INPUT, Flow, Layer, Net, Padded, Refused, Tensor, View
from cnnforge.export.onnx_import.read import OnnxNode
from cnnforge.export.onnx_import.rules import Input, Reading, number, optional, rule, tensor, weights
from cnnforge.shapes import Shape


@rule("Reshape")
def _reshape(r: Reading, n: OnnxNode, ins: Sequence[Input]) -> Tensor:
    target = weights(ins, 1, "shape").reshape(-1).tolist()
    x = r.net.real(tensor(ins))
    before = (r.batch, *r.net.dims(x))
    try:
        dims = resolved(target, before, bool(n.attr("allowzero", 0)))
    except (ValueError, IndexError) as error:
        raise Refused(str(error), "a shape of as many elements") from None
    if not dims or dims[0] != r.batch:
        raise Refused(f"it takes samples apart: {list(before)} becomes {list(dims)}", "a Reshape that keeps axis 0")
    return _seen_as(r, n, x, dims[1:])


@rule("Flatten")
def _flatten(r: Reading, n: OnnxNode, ins: Sequence[Input]) -> Tensor:
    x = r.net.real(tensor(ins))
    if n.attr("axis", 1) % (1 + len(r.net.dims(x))) != 1:
        raise Refused(f"its axis is {n.attrs['axis']}", "axis 1: a vector for each sample")
    return _seen_as(r, n, x, (prod(r.net.dims(x)),))


@rule("Squeeze")
def _squeeze(r: Reading, n: OnnxNode, ins: Sequence[Input]) -> Tensor:
    x = r.net.real(tensor(ins))
    dims = (r.batch, *r.net.dims(x))
    given = axes_of(n, [None, optional(ins, 1, "axes")])
    axes = {i for i, d in enumerate(dims) if d == 1 and i} if given is None else {a % len(dims) for a in given}
    return _seen_as(r, n, x, tuple(d for i, d in enumerate(dims) if i not in axes and i))


@rule("Unsqueeze")
def _unsqueeze(r: Reading, n: OnnxNode, ins: Sequence[Input]) -> Tensor:
    x = r.net.real(tensor(ins))
    dims = [r.batch, *r.net.dims(x)]
    axes = axes_of(n, [None, optional(ins, 1, "axes")]) or ()
    for axis in sorted(a % (len(dims) + len(axes)) for a in axes):
        dims.insert(axis, 1)
    return _seen_as(r, n, x, tuple(dims[1:]))


def _seen_as(r: Reading, n: OnnxNode, x: Flow, dims: Shape) -> Flow:
    """The same elements with the axes ``dims``. Raises Refused where that mixes what belongs apart."""
    net = r.net
    shape, now = net.shape(x), net.dims(x)
    if dims == now:
        return x
    if x.view == "mixed" and len(shape) == 3 and dims == (shape[2], *shape[:2]):
        return net.add(n, "channel_shuffle", {"groups": x.groups}, x, view="nchw")
    if x.view in ("grouped", "apart"):
        whole = (shape[2], *shape[:2]) if len(shape) == 3 else shape
        if dims == whole:
            return Flow(x.layer, "nchw" if len(shape) == 3 else "flat")
    elif len(dims) == 1:
        return _flat(x, shape)
    elif len(dims) == 3 and x.view in ("flat", "flat_chw"):
        return _volume(net, x, dims)
    elif x.view in ("nchw", "flat") and dims[0] > 0 and shape[-1] % dims[0] == 0:
        base = net.vector(x) if x.view == "flat" else x
        size = shape[-1] // dims[0]
        if len(dims) == 2 and (x.view == "nchw" or len(net.shape(base)) == 1):
            return replace(base, view="grouped", groups=dims[0])
        if x.view == "nchw" and dims[1:] == (size, *shape[:2]):
            return replace(base, view="apart", groups=dims[0])
    raise Refused(
        f"axes {now} behind the batch become {dims}, which is no flatten and no grouping of channels",
        "Flatten before linear layers; groups of channels as channel_shuffle and GroupNorm have them",
    )


def _flat(x: Flow, shape: Shape) -> Flow:
    """All elements in a row. Where either order is the same, it is ours."""
    if x.view == "nchw" and shape[2] > 1 and shape[0] * shape[1] > 1:
        return Flow(x.layer, "flat_chw", picture=shape)
    return Flow(x.layer, "flat")


def _volume(net: Net, x: Flow, dims: Shape) -> Flow:
    """From a vector to a picture: back to what it was, or (C,) to (C, 1, 1)."""
    shape = net.shape(x)
    if x.view == "flat_chw" and len(shape) == 3 and dims == (shape[2], *shape[:2]):
        return Flow(x.layer, "nchw")
    if x.view == "flat" and dims[1:] == (1, 1):
        if len(shape) == 1:
            _turn_into_convs(net, x.layer)
        if net.shape(x) == (1, 1, dims[0]):
            return Flow(x.layer, "nchw")
    raise Refused(f"a vector of {prod(dims)} becomes a picture {dims}", "pictures from the input to the last pool")


def _turn_into_convs(net: Net, name: str) -> None:
    """The linear layers from a global pool to layer ``name`` as 1x1 convolutions of a single position, which they are:
    a gate as squeeze and excite has it. Raises Refused where something else lies between.
    """
    chain: list[Layer] = []
    while name != INPUT and len(net.layers[name].shape) == 1:
        layer = net.layers[name]
        if layer.type not in ("fc", "activation", "dropout", "affine", "batch_norm", "flatten"):
            break
        chain.append(layer)
        name = layer.reads[0]
    start = net.size if name == INPUT else net.layers[name].shape
    if start[:-1] != (1, 1):
        raise Refused("a vector becomes a picture of one position", "a gate that starts at a global pool")
    for layer in chain:
        if layer.type == "fc":
            rest = {k: v for k, v in layer.fields.items() if k not in ("type", "units")}
            layer.fields = {"type": "conv", "filters": layer.fields["units"], "kernel": 1, **rest}
            layer.arrays["w"] = layer.arrays["w"][None, None]
        elif layer.type == "flatten":
            layer.fields = {"type": "affine"}
            layer.arrays = {k: np.full(layer.shape, v, np.float32) for k, v in (("factor", 1), ("shift", 0))}
        layer.shape = (1, 1, *layer.shape)


@rule("Transpose")
def _transpose(r: Reading, n: OnnxNode, ins: Sequence[Input]) -> Tensor:
    flow = r.net.real(tensor(ins))
    axes = 1 + len(r.net.dims(flow))
    perm = tuple(int(a) for a in n.attr("perm", range(axes)[::-1]))
    turned: dict[tuple[str, tuple[int, ...]], View] = {
        ("nchw", (0, 2, 3, 1)): "nhwc", ("nhwc", (0, 3, 1, 2)): "nchw", ("apart", (0, 2, 1, 3, 4)): "mixed",
    }  # fmt: skip
    if perm == tuple(range(axes)):
        return flow
    if (flow.view, perm) not in turned:
        raise Refused(
            f"axes in the order {list(perm)} are no order of pictures", "(N, C, H, W), or (N, H, W, C) for all of them"
        )
    return replace(flow, view=turned[flow.view, perm])


@rule("Pad")
def _pad(r: Reading, n: OnnxNode, ins: Sequence[Input]) -> Tensor:
    """Rows and columns wait for the window that reads them; channels are a shortcut_pad."""
    flow = r.net.real(tensor(ins))
    given = n.attrs["pads"] if "pads" in n.attrs else weights(ins, 1, "pads").reshape(-1).tolist()
    value = n.attrs["value"] if "value" in n.attrs else number(ins, 2, "value") or 0.0
    if n.attr("mode", "constant") != "constant":
        raise Refused(f"its mode is {n.attrs['mode']}", "zeros around the picture")
    axes = 1 + len(r.net.dims(flow))
    chosen = axes_of(n, [None, optional(ins, 3, "axes")]) or tuple(range(axes))
    pads = [0] * (2 * axes)
    for i, axis in enumerate(chosen):
        pads[axis % axes], pads[axis % axes + axes] = given[i], given[i + len(chosen)]
    if not any(pads):
        return flow
    if min(pads) < 0 or flow.view != "nchw":
        raise Refused("it takes rows away, or pads no picture (N, C, H, W)", "padding of 0 or more around pictures")
    around = pads[2], pads[6], pads[3], pads[7]
    more = pads[5]
    if pads[0] or pads[4] or pads[1] or (more and (any(around) or value)):
        raise Refused("it adds samples, or channels in front", "rows, columns, or channels of zeros behind the others")
    if not more:
        return Padded(flow, around, float(value))
    channels = r.net.shape(flow)[2] + more
    seen = r.net.layers.get(flow.layer)
    if seen is not None and seen.name in r.sliced and seen.type == "pool":
        # Every n-th position, then channels of zeros: a shortcut without weights.
        stride = seen.fields["stride"]
        steps = [stride, stride] if isinstance(stride, int) else stride
        seen.fields = {"type": "shortcut_pad", "channels": channels, "stride": steps}
        seen.shape = (*seen.shape[:2], channels)
        return flow
    return r.net.add(n, "shortcut_pad", {"channels": channels}, flow)


@rule("Slice")
def _slice(r: Reading, n: OnnxNode, ins: Sequence[Input]) -> Tensor:
    """Every n-th row and column is what a window of 1x1 sees."""
    flow = r.net.real(tensor(ins))
    dims = (r.batch, *r.net.dims(flow))
    taken = slices(n, [None, *(optional(ins, i, "range") for i in range(1, len(ins)))], len(dims))
    steps = []
    for part, size in zip(taken, dims, strict=True):
        start, stop, step = part.indices(size)
        if start or stop < size or step < 1:
            raise Refused("it cuts a part out", "whole pictures, whole channels; every n-th row and column at most")
        steps.append(step)
    if all(step == 1 for step in steps):
        return flow
    if flow.view != "nchw" or steps[:2] != [1, 1]:
        raise Refused("it leaves out samples or channels", "every n-th row and column at most")
    stride = steps[2] if steps[2] == steps[3] else steps[2:]
    made = r.net.add(n, "pool", {"kernel": 1, "stride": stride}, flow)
    r.sliced.add(made.layer)
    return made
