"""What each op of an inference graph is in ONNX.

A rule appends an IR node's ONNX nodes and returns the name of their result. Volumes are (N, C, H, W) there and
(N, H, W, C) in the graph; vectors are (N, F) in both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnforge.backends.constants import SELU_ALPHA, SELU_SCALE
from cnnforge.ir.graph import Node, Value
from cnnforge.shapes import Window

#: The first opset that has gelu.
GELU_OPSET = 20
#: Ends a slice wherever the axis ends.
END = (1 << 63) - 1


@dataclass(frozen=True)
class OnnxNode:
    """``out = op(*ins, **attrs)``, all names."""

    op: str
    ins: tuple[str, ...]
    out: str
    attrs: Mapping[str, Any]


@dataclass
class Draft:
    """ONNX nodes under construction.

    arrays: parameters and state by name
    names:  of the IR's values here;  titles: how some of them shall be called
    biases: the bias node that a linear node, by its output, takes in;  taken: the names of results
    """

    arrays: Mapping[str, NDArray[Any]]
    opset: int
    nodes: list[OnnxNode] = field(default_factory=list)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    names: dict[Value, str] = field(default_factory=dict)
    titles: dict[Value, str] = field(default_factory=dict)
    biases: dict[Value, Node] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)

    def emit(self, op: str, ins: Sequence[str], title: str, **attrs: Any) -> str:
        """Append a node whose output is called ``title``, with a number behind it where another is.

        A colon in a title keeps it apart from the names of layers and weights, which have none.
        """
        out, number = title, 2
        while out in self.taken:
            out, number = f"{title}_{number}", number + 1
        self.taken.add(out)
        self.nodes.append(OnnxNode(op, tuple(ins), out, attrs))
        return out

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """Keep an array under ``name``, which says what it is."""
        kept = np.ascontiguousarray(array, np.int64 if array.dtype.kind in "iu" else np.float32)
        known = self.constants.setdefault(name, kept)
        assert np.array_equal(known, kept), f"{name} is two arrays"
        return name

    def number(self, value: float) -> str:
        return self.constant(f"constant:{value:.9g}", np.array(value, np.float32))

    def title(self, n: Node) -> str:
        """How the result of a node, or of the bias behind it, is called."""
        v = self.biases[n.out].out if n.out in self.biases else n.out
        return self.titles.get(v, v.name)

    def x(self, n: Node, i: int = 0) -> str:
        """The name of a node's input."""
        return self.names[n.ins[i]]

    def array(self, v: Value) -> NDArray[Any]:
        return np.asarray(self.arrays[v.name])

    def bias(self, n: Node) -> list[str]:
        """The name of the bias that a linear node takes in, where it has one."""
        if n.out not in self.biases:
            return []
        b = self.biases[n.out].ins[1]
        return [self.constant(b.name, self.array(b))]

    def vector(self, v: Value, like: Value) -> str:
        """A number per channel, shaped so that it meets the channels of ``like``."""
        return self.constant(v.name, _beside(self.array(v), like))


Rule = Callable[[Draft, Node], str]
RULES: dict[str, Rule] = {}


def rule(*ops: str) -> Callable[[Rule], Rule]:
    """Register what ``ops`` are in ONNX."""

    def add(function: Rule) -> Rule:
        for op in ops:
            RULES[op] = function
        return function

    return add


def _beside(array: NDArray[Any], like: Value) -> NDArray[Any]:
    return array.reshape(-1, 1, 1) if len(like.shape) == 4 else array


def _window(w: Window) -> dict[str, Any]:
    top, bottom, left, right = w.pads
    return {"kernel_shape": [*w.kernel], "strides": [*w.stride], "pads": [top, left, bottom, right]}


def _kernels(d: Draft, n: Node, axes: tuple[int, int, int, int]) -> str:
    w = d.array(n.ins[1])
    w = w[::-1, ::-1] if n.attrs["flip"] else w
    return d.constant(n.ins[1].name, w.transpose(axes))


@rule("conv2d")
def _conv2d(d: Draft, n: Node) -> str:
    """w (KH, KW, C/groups, F) -> (F, C/groups, KH, KW)."""
    w: Window = n.attrs["window"]
    attrs = _window(w) | {"dilations": [*w.dilation], "group": n.attrs["groups"]}
    return d.emit("Conv", [d.x(n), _kernels(d, n, (3, 2, 0, 1)), *d.bias(n)], d.title(n), **attrs)


@rule("conv2d_dx")
def _conv2d_dx(d: Draft, n: Node) -> str:
    """A transposed convolution: w (KH, KW, F/groups, C) -> (C, F/groups, KH, KW)."""
    w: Window = n.attrs["window"]
    size, made = n.ins[0].shape[1:3], n.out.shape[1:3]
    more = []
    for axis in (0, 1):
        before, after = w.pads[2 * axis], w.pads[2 * axis + 1]
        more.append(made[axis] - ((size[axis] - 1) * w.stride[axis] + w.extent[axis] - before - after))
    attrs = _window(w) | {"dilations": [*w.dilation], "group": n.attrs["groups"], "output_padding": more}
    return d.emit("ConvTranspose", [d.x(n), _kernels(d, n, (3, 2, 0, 1)), *d.bias(n)], d.title(n), **attrs)


@rule("matmul")
def _matmul(d: Draft, n: Node) -> str:
    return d.emit("Gemm", [d.x(n), d.constant(n.ins[1].name, d.array(n.ins[1])), *d.bias(n)], d.title(n))


@rule("bias")
def _bias(d: Draft, n: Node) -> str:
    return d.emit("Add", [d.x(n), d.vector(n.ins[1], n.out)], d.title(n))


@rule("reshape")
def _reshape(d: Draft, n: Node) -> str:
    """Flattening goes row by row, channels last."""
    x, shape = d.x(n), n.ins[0].shape
    if len(shape) == 4 and shape[3] > 1 and shape[1] * shape[2] > 1:
        x = d.emit("Transpose", [x], f"{d.title(n)}:nhwc", perm=[0, 2, 3, 1])
    return d.emit("Flatten", [x], d.title(n), axis=1)


@rule("max_pool2d")
def _max_pool2d(d: Draft, n: Node) -> str:
    w: Window = n.attrs["window"]
    if _is_global(n, w):
        return d.emit("GlobalMaxPool", [d.x(n)], d.title(n))
    return d.emit("MaxPool", [d.x(n)], d.title(n), **_reaching(n, w))


@rule("average_pool2d")
def _average_pool2d(d: Draft, n: Node) -> str:
    """Zeros of the padding that count are put there by a Pad where rounding up reaches beyond them."""
    w: Window = n.attrs["window"]
    if _is_global(n, w):
        return d.emit("GlobalAveragePool", [d.x(n)], d.title(n))
    attrs, x = _reaching(n, w), d.x(n)
    pads = _window(w)["pads"]
    if not n.attrs["count_include_pad"] or not any(pads) or attrs["pads"] == pads:
        counted = int(n.attrs["count_include_pad"] and any(pads))
        return d.emit("AveragePool", [x], d.title(n), **attrs, count_include_pad=counted)
    widths = np.array([0, 0, *pads[:2], 0, 0, *pads[2:]])
    x = d.emit("Pad", [x, d.constant(f"{n.out.name}:pads", widths)], f"{d.title(n)}:padded")
    beyond = [a - b for a, b in zip(attrs["pads"], pads, strict=True)]
    return d.emit("AveragePool", [x], d.title(n), **attrs | {"pads": beyond})


def _is_global(n: Node, w: Window) -> bool:
    return w.kernel == n.ins[0].shape[1:3] and not any(w.pads) and w.out == (1, 1)


def _reaching(n: Node, w: Window) -> dict[str, Any]:
    """The window's attributes with padding at the end as far as its last position reaches.

    ONNX's own ceil_mode meant different things in different releases; this says the same without it.
    """
    attrs = _window(w)
    for axis in (0, 1):
        before, after = w.pads[2 * axis], w.pads[2 * axis + 1]
        needed = (w.out[axis] - 1) * w.stride[axis] + w.kernel[axis] - n.ins[0].shape[1 + axis] - before
        attrs["pads"][2 + axis] = max(after, needed)
    return attrs


@rule("relu", "tanh", "sigmoid", "softplus")
def _same_name(d: Draft, n: Node) -> str:
    return d.emit(n.op.capitalize(), [d.x(n)], d.title(n))


@rule("relu6")
def _relu6(d: Draft, n: Node) -> str:
    return d.emit("Clip", [d.x(n), d.number(0), d.number(6)], d.title(n))


@rule("leaky_relu", "elu")
def _with_alpha(d: Draft, n: Node) -> str:
    return d.emit({"leaky_relu": "LeakyRelu", "elu": "Elu"}[n.op], [d.x(n)], d.title(n), alpha=n.attrs["alpha"])


@rule("selu")
def _selu(d: Draft, n: Node) -> str:
    return d.emit("Selu", [d.x(n)], d.title(n), alpha=SELU_ALPHA, gamma=SELU_SCALE)


@rule("silu")
def _silu(d: Draft, n: Node) -> str:
    gate = d.emit("Sigmoid", [d.x(n)], f"{d.title(n)}:sigmoid")
    return d.emit("Mul", [d.x(n), gate], d.title(n))


@rule("hard_swish")
def _hard_swish(d: Draft, n: Node) -> str:
    return d.emit("HardSwish", [d.x(n)], d.title(n))


@rule("hard_sigmoid")
def _hard_sigmoid(d: Draft, n: Node) -> str:
    return d.emit("HardSigmoid", [d.x(n)], d.title(n), alpha=1 / 6, beta=0.5)


@rule("gelu")
def _gelu(d: Draft, n: Node) -> str:
    """x (1 + erf(x / sqrt 2)) / 2, or (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) x / 2."""
    x, title = d.x(n), d.title(n)
    if d.opset >= GELU_OPSET:
        return d.emit("Gelu", [x], title, approximate=n.attrs["approximate"])
    if n.attrs["approximate"] == "tanh":
        cube = d.emit("Mul", [d.emit("Mul", [x, x], f"{title}:square"), x], f"{title}:cube")
        bent = d.emit("Add", [x, d.emit("Mul", [cube, d.number(0.044715)], f"{title}:bend")], f"{title}:bent")
        inner = d.emit("Tanh", [d.emit("Mul", [bent, d.number(sqrt(2 / pi))], f"{title}:scaled")], f"{title}:tanh")
    else:
        inner = d.emit("Erf", [d.emit("Mul", [x, d.number(sqrt(0.5))], f"{title}:scaled")], f"{title}:erf")
    share = d.emit("Add", [inner, d.number(1)], f"{title}:share")
    return d.emit("Mul", [d.emit("Mul", [x, share], f"{title}:twice"), d.number(0.5)], title)


@rule("prelu")
def _prelu(d: Draft, n: Node) -> str:
    return d.emit("PRelu", [d.x(n), d.vector(n.ins[1], n.out)], d.title(n))


@rule("softmax")
def _softmax(d: Draft, n: Node) -> str:
    return d.emit("Softmax", [d.x(n)], d.title(n), axis=1)


@rule("add", "multiply", "scale_channels")
def _merge(d: Draft, n: Node) -> str:
    """A gate is (N, C, 1, 1), which meets (N, C, H, W) as it is."""
    return d.emit("Add" if n.op == "add" else "Mul", [d.x(n), d.x(n, 1)], d.title(n))


@rule("scale")
def _scale(d: Draft, n: Node) -> str:
    return d.emit("Mul", [d.x(n), d.number(n.attrs["factor"])], d.title(n))


@rule("concat")
def _concat(d: Draft, n: Node) -> str:
    return d.emit("Concat", [d.x(n, i) for i in range(len(n.ins))], d.title(n), axis=1)


@rule("shortcut_pad")
def _shortcut_pad(d: Draft, n: Node) -> str:
    x, title = d.x(n), d.title(n)
    more = n.out.shape[3] - n.ins[0].shape[3]
    if n.attrs["stride"] != (1, 1):
        numbers = ([0, 0], [END, END], [2, 3], [*n.attrs["stride"]])
        names = ("starts", "ends", "axes", "steps")
        parts = [d.constant(f"{n.out.name}:{k}", np.array(v)) for k, v in zip(names, numbers, strict=True)]
        x = d.emit("Slice", [x, *parts], f"{title}:seen" if more else title)
        if not more:
            return x
    widths = d.constant(f"{n.out.name}:pads", np.array([0, 0, 0, 0, 0, more, 0, 0]))
    return d.emit("Pad", [x, widths], title)


@rule("channel_shuffle")
def _channel_shuffle(d: Draft, n: Node) -> str:
    _, h, w, c = n.out.shape
    groups, title = n.attrs["groups"], d.title(n)
    apart = d.constant(f"{n.out.name}:apart", np.array([0, groups, c // groups, h, w]))
    together = d.constant(f"{n.out.name}:together", np.array([0, c, h, w]))
    x = d.emit("Reshape", [d.x(n), apart], f"{title}:groups")
    x = d.emit("Transpose", [x], f"{title}:mixed", perm=[0, 2, 1, 3, 4])
    return d.emit("Reshape", [x, together], title)


@rule("batch_norm_inference")
def _batch_norm(d: Draft, n: Node) -> str:
    vectors = [d.constant(v.name, d.array(v)) for v in n.ins[1:]]
    return d.emit("BatchNormalization", [d.x(n), *vectors], d.title(n), epsilon=n.attrs["epsilon"])


@rule("group_norm")
def _group_norm(d: Draft, n: Node) -> str:
    """A group of channels as one channel, normalised within the sample, then gamma and beta of each channel.

    GroupNormalization itself is newer than most runtimes, and in opset 18 had another meaning.
    """
    groups, title, v = n.attrs["groups"], d.title(n), n.out
    shape = [0, v.shape[3], *v.shape[1:3]] if len(v.shape) == 4 else [0, v.shape[1]]
    apart = d.constant(f"constant:groups_{groups}", np.array([0, groups, -1]))
    plain = [d.constant(f"constant:{k}_{groups}", np.full(groups, k == "ones", np.float32)) for k in ("ones", "zeros")]
    x = d.emit("Reshape", [d.x(n), apart], f"{title}:groups")
    x = d.emit("InstanceNormalization", [x, *plain], f"{title}:normal", epsilon=n.attrs["epsilon"])
    x = d.emit("Reshape", [x, d.constant(f"{v.name}:shape", np.array(shape))], f"{title}:channels")
    x = d.emit("Mul", [x, d.vector(n.ins[1], v)], f"{title}:scaled")
    return d.emit("Add", [x, d.vector(n.ins[2], v)], title)


@rule("layer_norm")
def _layer_norm(d: Draft, n: Node) -> str:
    """Over the last axis, which is that of the channels only while they come last."""
    x, title, turned = d.x(n), d.title(n), len(n.out.shape) == 4
    ins = [d.constant(v.name, d.array(v)) for v in n.ins[1:]]
    if turned:
        x = d.emit("Transpose", [x], f"{title}:nhwc", perm=[0, 2, 3, 1])
    name = f"{title}:normal" if turned else title
    x = d.emit("LayerNormalization", [x, *ins], name, axis=-1, epsilon=n.attrs["epsilon"])
    return d.emit("Transpose", [x], title, perm=[0, 3, 1, 2]) if turned else x


@rule("lrn")
def _lrn(d: Draft, n: Node) -> str:
    """Of an even size ONNX's window reaches further to the other side, and onnxruntime refuses it: then as a mean of
    squares over the channels, taken for an axis of a picture.
    """
    size, alpha, beta, k = (n.attrs[name] for name in ("size", "alpha", "beta", "k"))
    x, title = d.x(n), d.title(n)
    if size % 2:
        return d.emit("LRN", [x], title, size=size, alpha=alpha, beta=beta, bias=k)
    _, h, w, c = n.out.shape
    flat = d.constant(f"{n.out.name}:flat", np.array([0, 1, c, h * w]))
    shape = d.constant(f"{n.out.name}:shape", np.array([0, c, h, w]))
    mean = d.emit("Reshape", [d.emit("Mul", [x, x], f"{title}:square"), flat], f"{title}:channels")
    window = {"kernel_shape": [size, 1], "strides": [1, 1], "pads": [size // 2, 0, (size - 1) // 2, 0]}
    mean = d.emit("AveragePool", [mean], f"{title}:pool", **window, count_include_pad=1)
    mean = d.emit("Reshape", [mean, shape], f"{title}:mean")
    base = d.emit("Add", [d.emit("Mul", [mean, d.number(alpha)], f"{title}:share"), d.number(k)], f"{title}:base")
    return d.emit("Div", [x, d.emit("Pow", [base, d.number(beta)], f"{title}:power")], title)
