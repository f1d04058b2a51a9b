"""A network of ours under construction: layers, and what is known of each tensor of the file in terms of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from cnnforge.blocks import BLOCKS
from cnnforge.blocks.activation import Function
from cnnforge.errors import ShapeError
from cnnforge.export.onnx_import import functions
from cnnforge.export.onnx_import.naming import Names
from cnnforge.export.onnx_import.read import OnnxNode
from cnnforge.shapes import Shape

#: What ``input:`` calls the model's own input.
INPUT = "input"
#: How the axes of a tensor in the file, the batch left out, are those of a layer's output.
#:
#: nchw     (C, H, W);  nhwc (H, W, C)
#: flat     all in our order, or a vector;  flat_chw  all, channels first
#: grouped  (G, C/G * H * W);  apart (G, C/G, H, W);  mixed (C/G, G, H, W)
View = Literal["nchw", "nhwc", "flat", "flat_chw", "grouped", "apart", "mixed"]


class Refused(Exception):
    """A node cannot become a layer: the one whose rule raised this, or another ``node`` before it."""

    def __init__(self, why: str, fix: str, node: OnnxNode | None = None) -> None:
        super().__init__(why)
        self.why, self.fix, self.node = why, fix, node


@dataclass
class Layer:
    """A block as YAML will have it, and its weights.

    ``affine`` is a type that only exists here: x * factor + shift, per channel. ``tidy`` makes blocks of it.
    """

    name: str
    fields: dict[str, Any]
    reads: list[str]
    shape: Shape
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def type(self) -> str:
        return str(self.fields["type"])


@dataclass(frozen=True)
class Flow:
    """A tensor of the file that is what a layer gives, seen in some way.

    groups: G of the views that have it;  picture: (H, W, C) of what flat_chw was made from
    """

    layer: str
    view: View
    groups: int = 1
    picture: Shape = ()


@dataclass(eq=False)
class Pending:
    """Element-wise nodes on ``base`` that are not a layer yet, because what follows may belong to them.

    operands: of the last of them; ``function`` takes them;  values: what comes out at ``functions.POINTS``
    """

    base: Flow
    node: OnnxNode
    operands: tuple[Flow | Pending | float, ...]
    function: Callable[..., functions.Array]
    values: functions.Array
    depth: int = 0
    made: Flow | None = None


@dataclass(frozen=True)
class Padded:
    """A tensor with rows and columns around it that the next window takes for padding.

    pads: (top, bottom, left, right);  value: what is in them
    """

    flow: Flow
    pads: tuple[int, int, int, int]
    value: float


Tensor = Flow | Pending | Padded


@dataclass
class Net:
    """Layers by name in running order. size: (H, W, C) of the input"""

    size: Shape
    names: Names = field(default_factory=Names)
    layers: dict[str, Layer] = field(default_factory=dict)

    def shape(self, flow: Flow) -> Shape:
        """Of the layer that ``flow`` is."""
        return self.size if flow.layer == INPUT else self.layers[flow.layer].shape

    def dims(self, x: Tensor) -> Shape:
        """A tensor's axes in the file, the batch left out."""
        if isinstance(x, Padded):
            top, bottom, left, right = x.pads
            h, w = (0, 1) if x.flow.view == "nhwc" else (1, 2)
            dims = [*self.dims(x.flow)]
            dims[h], dims[w] = dims[h] + top + bottom, dims[w] + left + right
            return tuple(dims)
        flow = x.base if isinstance(x, Pending) else x
        shape = self.shape(flow)
        if flow.view in ("flat", "flat_chw"):
            return (prod(shape),)
        if flow.view == "grouped":
            return flow.groups, prod(shape) // flow.groups
        h, w, c = shape
        size = c // flow.groups
        return {
            "nchw": (c, h, w), "nhwc": (h, w, c), "apart": (flow.groups, size, h, w), "mixed": (size, flow.groups, h, w)
        }[flow.view]  # fmt: skip

    def channel_axis(self, x: Tensor) -> int:
        """The axis of the channels in the file, the batch counted."""
        flow = self._flow(x)
        if flow.view not in ("nchw", "nhwc", "flat", "flat_chw"):
            raise Refused(
                "it reads channels that a Reshape has taken apart", "export without the Reshape, or with its way back"
            )
        return 3 if flow.view == "nhwc" else 1

    def add(
        self, n: OnnxNode, type: str, fields: Mapping[str, Any], *reads: Flow,
        arrays: Mapping[str, NDArray[Any]] | None = None, weights: str = "", view: View | None = None,
    ) -> Flow:  # fmt: skip
        """Append a layer that reads ``reads``; what it gives is seen as they are.

        weights: the name of a constant that may say what the layer is called;  view: where it is another one
        """
        shapes = [self.shape(flow) for flow in reads]
        block = {"type": type, **fields}
        shape = shapes[0] if type == "affine" else _output(type, block, reads, shapes)
        name = self.names.of_layer(n, type, weights)
        self.layers[name] = Layer(name, block, [flow.layer for flow in reads], shape, dict(arrays or {}))
        first = replace(reads[0], layer=name)
        return first if view is None else Flow(name, view)

    def real(self, x: Tensor) -> Flow:
        """``x`` as what a layer gives; element-wise nodes become layers now."""
        if isinstance(x, Padded):
            raise Refused(
                "it reads what a Pad has put values around",
                "padding belongs to the convolution or pool behind it; let the Pad be read by one alone",
            )
        if isinstance(x, Flow):
            return x
        if x.made is None:
            x.made = self._become(x)
        return x.made

    def elementwise(self, n: OnnxNode, function: Callable[..., functions.Array], *xs: Tensor | float) -> Pending | None:
        """Append an element-wise node to what is pending; None where its inputs do not come of one tensor."""
        parts = [x if isinstance(x, float) else self._pending(x) for x in xs]
        bases = {part.base for part in parts if not isinstance(part, float)}
        if len(bases) != 1:
            return None
        with np.errstate(all="ignore"):
            values = function(*(part if isinstance(part, float) else part.values for part in parts))
        depth = 1 + max(part.depth for part in parts if not isinstance(part, float))
        if depth > _DEEPEST:
            raise Refused(f"{depth} element-wise nodes follow each other", "fewer, as activation functions have")
        operands = tuple(x for x in xs if not isinstance(x, Padded))
        return Pending(bases.pop(), n, operands, function, values, depth)

    def _pending(self, x: Tensor) -> Pending:
        if isinstance(x, Pending) and x.made is None:
            return x
        flow = self.real(x)
        return Pending(flow, _NOTHING, (flow,), lambda a: a, functions.POINTS)

    def _flow(self, x: Tensor) -> Flow:
        return x.flow if isinstance(x, Padded) else x.base if isinstance(x, Pending) else x

    def _become(self, x: Pending) -> Flow:
        if (found := functions.recognise(x.values)) is not None:
            return self._function(x.node, x.base, found)
        operands = [o if isinstance(o, float) else self.real(o) for o in x.operands]
        flows = [o for o in operands if isinstance(o, Flow)]
        if len(set(flows)) == 1:
            with np.errstate(all="ignore"):
                values = x.function(*(o if isinstance(o, float) else functions.POINTS for o in operands))
            if (found := functions.recognise(values)) is not None:
                return self._function(x.node, flows[0], found)
        if len(flows) == 2 and len(operands) == 2:
            return self.combined(x.node, *flows)
        raise Refused(
            f"{x.node.op} is, with what is around it, no activation function that cnnforge has",
            f"one of {', '.join(get_args(Function))}, prelu, or a sum or product of layers",
            x.node,
        )

    def _function(self, n: OnnxNode, x: Flow, found: functions.Found) -> Flow:
        if found.is_identity:
            return x
        if found.function == "affine":
            return self.affine(n, x, np.float32(found.factor), np.float32(found.shift))
        return self.add(n, "activation", {"function": found.function, **found.fields}, x)

    def affine(self, n: OnnxNode, x: Flow, factor: Any, shift: Any) -> Flow:
        """x * factor + shift. factor, shift: (C,) in our order, or one number"""
        channels = self.shape(x)[-1]
        parts = {k: np.broadcast_to(np.asarray(v, np.float32), (channels,)) for k, v in
                 (("factor", factor), ("shift", shift))}  # fmt: skip
        return self.add(n, "affine", {}, x, arrays=parts)

    def combined(self, n: OnnxNode, x: Flow, y: Flow) -> Flow:
        """The sum, difference or product of two layers."""
        if n.op == "Sub":
            y = self.affine(n, y, -1.0, 0.0)
        elif n.op not in ("Add", "Mul", "Sum"):
            raise Refused(f"there is no block for {n.op} of two layers", "a sum or a product")
        mode = "multiply" if n.op == "Mul" else "add"
        x, y = self.alike(x, y)
        if self.shape(x)[:2] == (1, 1) != self.shape(y)[:2]:
            x, y = y, x  # what is scaled first, its gate behind it
        return self.merge(n, mode, [x, y])

    def merge(self, n: OnnxNode, mode: str, flows: Sequence[Flow]) -> Flow:
        names = [flow.layer for flow in flows]
        return self.add(n, "merge", {"inputs": names, "mode": mode}, *flows)

    def alike(self, *flows: Flow) -> list[Flow]:
        """The same tensors, seen in the same way. Raises Refused where they are not."""
        vectors = any(len(self.shape(flow)) == 1 for flow in flows)
        found = [self.vector(flow) if vectors else flow for flow in flows]
        if len({(flow.view, flow.groups, flow.picture) for flow in found}) > 1:
            raise Refused("the axes of what it joins are in different orders", "a Transpose on each way, or on none")
        return found

    def vector(self, x: Flow) -> Flow:
        """A flat view as the output of a layer that is a vector, flattened by one of its own where it is not yet."""
        shape = self.shape(x)
        if x.view not in ("flat", "flat_chw") or len(shape) == 1:
            return x
        node = OnnxNode("Flatten", (), ("",), {}, "")
        return self.add(node, "flatten", {}, x)

    def in_our_order(self, array: NDArray[Any], x: Flow) -> NDArray[Any]:
        """What the file says of each element of a flat tensor, along the first axis."""
        if x.view != "flat_chw":
            return array
        h, w, c = x.picture
        return (
            array.reshape(c, h, w, *array.shape[1:]).transpose(1, 2, 0, *range(3, array.ndim + 2)).reshape(array.shape)
        )


#: Nodes that one activation function may be written in.
_DEEPEST = 40
_NOTHING = OnnxNode("Identity", (), ("",), {}, "")


def _output(type: str, block: Mapping[str, Any], reads: Sequence[Flow], shapes: Sequence[Shape]) -> Shape:
    """The shape that a block gives. Raises Refused where it takes no such input."""
    try:
        made = BLOCKS[type].model_validate(dict(block))
        if type == "fc" and len(shapes[0]) > 1:
            shapes = [(prod(shapes[0]),)]
        return made.output(*shapes)
    except ShapeError as error:
        raise Refused(f"{error.what}: {error.why}", error.fix) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        why = f"as a {type} block its {where} would be wrong: {first['msg']}"
        raise Refused(why, "a layer that a block can say") from None
