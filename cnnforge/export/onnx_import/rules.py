"""What each op of an ONNX file is as layers of ours. Norms are in ``norms``, views of tensors
(Reshape, Transpose, …) in ``views``.

A rule gets the node, its inputs and the reader; it returns the node's first output. Inputs are tensors of the network
or constants. ONNX's defaults stand here where its documents have them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnforge.export.onnx_import import functions
from cnnforge.export.onnx_import.constants import axes_of
from cnnforge.export.onnx_import.net import Flow, Net, Padded, Refused, Tensor, View
from cnnforge.export.onnx_import.read import OnnxNode
from cnnforge.export.onnx_import.windows import conv_fields, deconv_fields, pool_fields

Array = NDArray[Any]
Input = Tensor | Array | None


@dataclass
class Reading:
    """What rules share: the network under construction and the file's facts.

    batch: the number of samples that shapes are worked out for;  constant_names: of the inputs of the node at hand
    sliced: pools that were Slices
    """

    net: Net
    opset: int
    batch: int
    constant_names: Sequence[str] = ()
    sliced: set[str] = field(default_factory=set)


Rule = Callable[[Reading, OnnxNode, Sequence[Input]], Tensor]
RULES: dict[str, Rule] = {}


def rule(*ops: str) -> Callable[[Rule], Rule]:
    """Register what ``ops`` are here."""

    def add(function: Rule) -> Rule:
        for op in ops:
            RULES[op] = function
        return function

    return add


def tensor(ins: Sequence[Input], i: int = 0) -> Tensor:
    """Input ``i``, which must come of the network."""
    x = ins[i] if i < len(ins) else None
    if x is None or isinstance(x, np.ndarray):
        raise Refused(f"its input {i} is a constant", "a node that reads what the network computes")
    return x


def weights(ins: Sequence[Input], i: int, what: str) -> Array:
    """Input ``i``, which must be known beforehand."""
    w = ins[i] if i < len(ins) else None
    if not isinstance(w, np.ndarray):
        raise Refused(f"its {what} is computed from the input", "weights that the file holds")
    return w


def optional(ins: Sequence[Input], i: int, what: str) -> Array | None:
    """The same, where it may be left out."""
    return weights(ins, i, what) if i < len(ins) and ins[i] is not None else None


def number(ins: Sequence[Input], i: int, what: str) -> float | None:
    value = optional(ins, i, what)
    return None if value is None else float(value.reshape(-1)[0])


def spatial(r: Reading, x: Tensor) -> tuple[Flow, tuple[int, int, int, int], float]:
    """(what a window slides over, padding around it, its value)"""
    padded = x if isinstance(x, Padded) else Padded(r.net.real(x), (0, 0, 0, 0), 0.0)
    flow = padded.flow
    if flow.view != "nchw":
        raise Refused(
            f"its input has the axes {r.net.dims(flow)} behind the batch, not channels, height, width",
            "pictures as (N, C, H, W) at every convolution and pool",
        )
    return flow, padded.pads, padded.value


@rule("Conv")
def _conv(r: Reading, n: OnnxNode, ins: Sequence[Input]) -> Tensor:
    """W (F, C/groups, KH, KW) -> w (KH, KW, C/groups, F)."""
    x, pads, value = spatial(r, tensor(ins))
    if value:
        raise Refused(f"the Pad before it puts {value:g} around the picture", "zeros around it")
    w, b = weights(ins, 1, "W"), optional(ins, 2, "B")
    if w.ndim != 4:
        raise Refused(f"its windows have {w.ndim - 2} axes", "pictures of height and width")
    fields = conv_fields(n, r.net.shape(x), w.shape, pads)
    arrays = {"w": w.transpose(2, 3, 1, 0)}
    return _linear(r, n, "conv", fields, x, arrays, b)


@rule("ConvTranspose")
def _conv_transpose(r: Reading, n: OnnxNode, ins: Sequence[Input]) -> Tensor:
    """W (C, F/groups, KH, KW) -> w (KH, KW, F/groups, C)."""
    x, pads, _ = spatial(r, tensor(ins))
    if any(pads):
        raise Refused("a Pad stands before it", "padding of its own, or none")
    w, b = weights(ins, 1, "W"), optional(ins, 2, "B")
    if w.ndim != 4:
        raise Refused(f"its windows have {w.ndim - 2} axes", "pictures of height and width")
    fields = deconv_fields(n, r.net.shape(x), w.shape)
    return _linear(r, n, "conv_transpose", fields, x, {"w": w.transpose(2, 3, 1, 0)}, b)


def _linear(
    r: Reading, n: OnnxNode, type: str, fields: dict[str, Any], x: Flow, arrays: dict[str, Array], b: Array | None
) -> Flow:
    if b is None:
        fields["bias"] = False
    else:
        arrays["b"] = b
    view: View | None = "flat" if type == "fc" else None
    name = r.constant_names[1] if len(r.constant_names) > 1 else ""
    return r.net.add(n, type, fields, x, arrays=arrays, weights=name, view=view)


@rule("Gemm")
def _gemm(r: Reading, n: OnnxNode, ins: Sequence[Input]) -> Tensor:
    x, w, c = r.net.real(tensor(ins)), weights(ins, 1, "B"), optional(ins, 2, "C")
    if n.attr("transA", 0) or n.attr("alpha", 1.0) != 1.0 or n.attr("beta", 1.0) != 1.0:
        raise Refused("it has transA, alpha or beta", "a Gemm as linear layers have it: x W + b")
    w = w.T if n.attr("transB", 0) else w
    b = None if c is None else np.broadcast_to(c.reshape(-1), (w.shape[1],))
    return _fc(r, n, x, w, b)


@rule("MatMul")
def _matmul(r: Reading, n: OnnxNode, ins: Sequence[Input]) -> Tensor:
    """Of channels that come last, it is a 1x1 convolution."""
    x, w = r.net.real(tensor(ins)), weights(ins, 1, "B")
    if w.ndim == 2 and x.view == "nhwc":
        fields = {"filters": w.shape[1], "kernel": 1}
        return _linear(r, n, "conv", fields, x, {"w": w[None, None]}, None)
    return _fc(r, n, x, w, None)


def _fc(r: Reading, n: OnnxNode, x: Flow, w: Array, b: Array | None) -> Flow:
    if x.view not in ("flat", "flat_chw") or w.ndim != 2:
        raise Refused(
            f"it multiplies a tensor with the axes {r.net.dims(x)} behind the batch",
            "a Flatten before it: linear layers take vectors",
        )
    return _linear(r, n, "fc", {"units": w.shape[1]}, x, {"w": r.net.in_our_order(w, x)}, b)


@rule("MaxPool", "AveragePool")
def _pool(r: Reading, n: OnnxNode, ins: Sequence[Input]) -> Tensor:
    x, pads, value = spatial(r, tensor(ins))
    largest = n.op == "MaxPool"
    if largest and any(pads) and value > -1e30 and not (value == 0 and _not_negative(r.net, x)):
        raise Refused(
            f"the Pad before it puts {value:g} around values that may be smaller", "padding of the pool's own"
        )
    if not largest and value:
        raise Refused(f"the Pad before it puts {value:g} around the picture", "zeros around it")
    return r.net.add(n, "pool", pool_fields(n, r.net.shape(x), pads), x)


def _not_negative(net: Net, x: Flow) -> bool:
    layer = net.layers.get(x.layer)
    ending = "" if layer is None else layer.fields["function"] if layer.type == "activation" else ""
    return ending in ("relu", "relu6", "sigmoid", "hard_sigmoid", "softplus", "softmax")


@rule("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(r: Reading, n: OnnxNode, ins: Sequence[Input]) -> Tensor:
    x, pads, _ = spatial(r, tensor(ins))
    if any(pads):
        raise Refused("a Pad stands before it", "no Pad")
    return r.net.add(n, "global_pool", {"mode": "max"} if n.op == "GlobalMaxPool" else {}, x)


@rule("ReduceMean", "ReduceMax")
def _reduce(r: Reading, n: OnnxNode, ins: Sequence[Input]) -> Tensor:
    x = r.net.real(tensor(ins))
    given = axes_of(n, [None, *(optional(ins, i, "axes") for i in range(1, len(ins)))])
    axes = sorted(axis % (1 + len(r.net.dims(x))) for axis in given or ())
    if (x.view, axes) not in (("nchw", [2, 3]), ("nhwc", [1, 2])):
        raise Refused(f"it goes over the axes {list(given or ())}", "height and width together: a global pool")
    made = r.net.add(n, "global_pool", {"mode": "max"} if n.op == "ReduceMax" else {}, x)
    return made if n.attr("keepdims", 1) else replace(made, view="flat")


@rule("Softmax")
def _softmax(r: Reading, n: OnnxNode, ins: Sequence[Input]) -> Tensor:
    x = r.net.real(tensor(ins))
    axes = 1 + len(r.net.dims(x))
    axis = n.attr("axis", -1 if r.opset >= 13 else 1) % axes
    if axis != r.net.channel_axis(x) or (r.opset < 13 and axis != axes - 1):
        raise Refused(f"it goes over axis {axis}", "the channels of one position, or the units of a vector")
    return r.net.add(n, "activation", {"function": "softmax"}, _one_position(r.net, x))


def _one_position(net: Net, x: Flow) -> Flow:
    """A flat view of more than one position as a vector; others as they are."""
    return x if net.shape(x)[:-1] in ((), (1, 1)) else net.vector(x)


@rule("PRelu")
def _prelu(r: Reading, n: OnnxNode, ins: Sequence[Input]) -> Tensor:
    x, slope = tensor(ins), weights(ins, 1, "slope")
    if slope.size == 1:
        made = r.net.elementwise(replace(n, op="LeakyRelu"), _leaky(float(slope.reshape(-1)[0])), x)
        assert made is not None, "one input"
        return made
    flow = r.net.vector(r.net.real(x))
    return r.net.add(n, "activation", {"function": "prelu"}, flow, arrays={"alpha": per_channel(r.net, flow, slope)},
                     weights=r.constant_names[1])  # fmt: skip


def _leaky(slope: float) -> Callable[..., functions.Array]:
    return lambda x: np.where(x > 0, x, slope * x)


def per_channel(net: Net, x: Flow, array: Array) -> Array:
    """A constant that is one number per channel, in our order. Raises Refused where it is something else."""
    axes = 1 + len(net.dims(x))
    at, full = net.channel_axis(x), array.reshape((1,) * (axes - array.ndim) + array.shape)
    channels = net.shape(x)[-1]
    if full.ndim != axes or full.shape[at] not in (1, channels) or full.size != full.shape[at]:
        raise Refused(
            f"its constant has the shape {array.shape}, for axes {net.dims(x)} behind the batch",
            "one number, or one for each channel",
        )
    return net.in_our_order(np.broadcast_to(full.reshape(-1), (channels,)), x)


@rule("Add", "Sub", "Mul", "Div", "Pow", "Min", "Max")
def _binary(r: Reading, n: OnnxNode, ins: Sequence[Input]) -> Tensor:
    if len(ins) != 2:
        raise Refused(f"it has {len(ins)} inputs", "two")
    x, y = ins
    if not isinstance(x, np.ndarray) and not isinstance(y, np.ndarray):
        a, b = tensor(ins, 0), tensor(ins, 1)
        made = r.net.elementwise(n, functions.BINARY[n.op], a, b)
        return made if made is not None else r.net.combined(n, r.net.real(a), r.net.real(b))
    constant, at = (x, 1) if isinstance(x, np.ndarray) else (y, 0)
    assert isinstance(constant, np.ndarray), "not both are tensors"
    other = tensor(ins, at)
    if constant.size == 1 and constant.ndim <= 1 + len(r.net.dims(other)):
        value = float(constant.reshape(-1)[0])
        operands = (other, value) if at == 0 else (value, other)
        made = r.net.elementwise(n, functions.BINARY[n.op], *operands)
        assert made is not None, "one tensor"
        return made
    return _affine(r, n, other, constant, constant_first=at == 1)


def _affine(r: Reading, n: OnnxNode, x: Tensor, constant: Array, constant_first: bool) -> Flow:
    flow = r.net.vector(r.net.real(x))
    c = per_channel(r.net, flow, constant)
    if n.op == "Add":
        return r.net.affine(n, flow, 1.0, c)
    if n.op == "Sub":
        return r.net.affine(n, flow, -1.0, c) if constant_first else r.net.affine(n, flow, 1.0, -c)
    if n.op == "Mul":
        return r.net.affine(n, flow, c, 0.0)
    if n.op == "Div" and not constant_first:
        return r.net.affine(n, flow, 1.0 / c, 0.0)
    raise Refused("it is no scale and no shift of the channels", "Add, Sub, Mul or Div by a number per channel")


@rule("Sum")
def _sum(r: Reading, n: OnnxNode, ins: Sequence[Input]) -> Tensor:
    flows = r.net.alike(*(r.net.real(tensor(ins, i)) for i in range(len(ins))))
    return flows[0] if len(flows) == 1 else r.net.merge(n, "add", flows)


@rule("Concat")
def _concat(r: Reading, n: OnnxNode, ins: Sequence[Input]) -> Tensor:
    flows = r.net.alike(*(_one_position(r.net, r.net.real(tensor(ins, i))) for i in range(len(ins))))
    axes = 1 + len(r.net.dims(flows[0]))
    if n.attrs["axis"] % axes != r.net.channel_axis(flows[0]):
        raise Refused(f"it joins along axis {n.attrs['axis']}", "channels side by side")
    if flows[0].view == "flat_chw":
        raise Refused("it joins vectors whose elements are in another order than here", "a global pool before Flatten")
    return flows[0] if len(flows) == 1 else r.net.merge(n, "concat", flows)


@rule("Dropout")
def _dropout(r: Reading, n: OnnxNode, ins: Sequence[Input]) -> Tensor:
    """Kept, though it does nothing outside training, so that a training that goes on has it."""
    ratio = n.attrs["ratio"] if "ratio" in n.attrs else number(ins, 1, "ratio")
    rate = 0.5 if ratio is None else float(f"{ratio:.7g}")
    return r.net.add(n, "dropout", {} if rate == 0.5 else {"rate": rate}, r.net.real(tensor(ins)))


@rule("Identity", "Cast")
def _identity(r: Reading, n: OnnxNode, ins: Sequence[Input]) -> Tensor:
    """A Cast of pixels to floats changes no number; one that would round is refused."""
    if n.op == "Cast" and n.attrs["to"] not in (1, 10, 11, 16):
        raise Refused("it makes whole numbers of the network's floats", "floats throughout")
    return tensor(ins)


@rule(
    "Relu", "Clip", "LeakyRelu", "Elu", "Selu", "HardSigmoid", "Gelu", "Sigmoid", "Tanh", "Softplus", "Erf",
    "HardSwish", "Mish", "Swish", "Exp", "Log", "Neg", "Abs", "Sqrt", "Reciprocal",
)  # fmt: skip
def _unary(r: Reading, n: OnnxNode, ins: Sequence[Input]) -> Tensor:
    x, low, high = tensor(ins), None, None
    if n.op == "Clip":
        low = n.attrs["min"] if "min" in n.attrs else number(ins, 1, "min")
        high = n.attrs["max"] if "max" in n.attrs else number(ins, 2, "max")
    if n.op == "HardSigmoid" and n.attr("beta", 0.5) == 0.5:
        # Of another slope than here it is ours of a multiple of x.
        steeper = r.net.elementwise(replace(n, op="Mul"), np.multiply, x, 6.0 * float(n.attr("alpha", 0.2)))
        assert steeper is not None, "one tensor"
        x, n = steeper, replace(n, attrs={"alpha": 1 / 6})
    function = functions.unary(n, low, high)
    assert function is not None, n.op
    made = r.net.elementwise(n, function, x)
    assert made is not None, "one tensor"
    return made
