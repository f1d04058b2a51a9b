"""Blocks made of layers: ``sequence``, ``repeat``, ``residual``, ``branches``.

A composite block has no kernels of its own: it says how its layers are joined, and the walk lays them out as rows of
the table, each with its name: ``stage2.1.conv1`` is ``conv1`` in the first repetition of ``stage2``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeVar

from pydantic import Field

from cnnforge.blocks.activation import Ending, apply
from cnnforge.blocks.base import Block
from cnnforge.blocks.conv import Conv
from cnnforge.blocks.fc import Fc
from cnnforge.blocks.merge import Mode, ShortcutPad, merge, merged_shape
from cnnforge.blocks.norm import Norm
from cnnforge.errors import ShapeError
from cnnforge.fields import InnerName, Name, NonNegativeInt
from cnnforge.ir.graph import Graph, Value
from cnnforge.shapes import UNKNOWN_SIZE, Pair, Shape

if TYPE_CHECKING:
    AnyBlock = Block


class Output(Protocol):
    """What a layer gives, as the walk knows it."""

    @property
    def shape(self) -> Shape: ...


T = TypeVar("T", bound=Output)


class Arrangement(Protocol[T]):
    """What the walk offers to a composite block."""

    def layers(self, layers: Mapping[str, Block], x: T, *inside: str) -> T:
        """Lay out layers one after another; ``inside``: the keys under which this block holds them."""

    def layer(self, name: str, block: Block, x: T) -> T:
        """Lay out one more layer that this block needs and nobody wrote."""

    def whole(self, *xs: T) -> T:
        """Lay out this block itself, reading ``xs``."""


class Composite(Block):
    """Base of every block made of layers."""

    def arrange(self, at: Arrangement[T], x: T) -> T:
        """Lay out this block's layers behind ``x``; return what it gives."""
        raise NotImplementedError


Layers = Annotated["dict[InnerName, AnyBlock]", Field(min_length=1)]


class Sequence(Composite):
    """Layers one after another, under one name.

    layers: as under ``model.layers``
    """

    type: Literal["sequence"]
    layers: dict[InnerName, AnyBlock]

    def arrange(self, at: Arrangement[T], x: T) -> T:
        return at.layers(self.layers, x, "layers")


class Repeat(Composite):
    """The same block several times, one after another: NAME.1, NAME.2, … Replaced by them before anything else.

    times: how often; 0 leaves the block out
    block: the block; in its fields ``=index`` stands for the number of the repetition, from 1
    first: fields that are different in the first repetition, e.g. ``{stride: 2}``
    """

    type: Literal["repeat"]
    times: NonNegativeInt
    block: dict[Name, Any]
    first: dict[Name, Any] = Field(default_factory=dict)


class Residual(Composite):
    """y = activation(body(x) + shortcut(x))  (He et al., CVPR 2016).

    layers: the body
    shortcut: ``identity`` adds the input itself; ``projection`` fits it by a 1x1 convolution (an fc for vectors), and
        normalises it where the body ends with a norm (option B); ``pad`` takes every n-th position and adds channels of
        zeros (option A); ``auto`` is identity where the body keeps the shape, projection elsewhere
    activation: what the sum goes through
    """

    type: Literal["residual"]
    layers: Layers
    shortcut: Literal["auto", "identity", "projection", "pad"] = "auto"
    activation: Ending = "none"

    def arrange(self, at: Arrangement[T], x: T) -> T:
        body = at.layers(self.layers, x, "layers")
        if UNKNOWN_SIZE in x.shape + body.shape:
            return body
        same = x.shape == body.shape
        if self.shortcut == "projection" or (self.shortcut == "auto" and not same):
            shortcut = self._projected(at, x, body.shape)
        elif self.shortcut == "pad" and not same:
            pad = ShortcutPad(type="shortcut_pad", channels=body.shape[-1], stride=_stride(x.shape, body.shape))
            pad.output(x.shape)  # what is wrong with it is wrong with this block
            shortcut = at.layer("shortcut", pad, x)
        else:
            shortcut = x
        return at.whole(body, shortcut)

    def _projected(self, at: Arrangement[T], x: T, shape: Shape) -> T:
        norm = _last(self.layers)
        bias = not isinstance(norm, Norm)
        if len(shape) == len(x.shape) == 1:
            y = at.layer("shortcut", Fc(type="fc", units=shape[0], bias=bias), x)
        else:
            stride = _stride(x.shape, shape)
            y = at.layer("shortcut", Conv(type="conv", filters=shape[-1], kernel=1, stride=stride, bias=bias), x)
        if isinstance(norm, Norm):
            plain = norm.model_copy(update={"activation": "none", "after": None, "input": None})
            y = at.layer("shortcut_norm", plain, y)
        return y

    def output(self, *xs: Shape) -> Shape:
        if len(set(xs)) > 1:
            body, x = xs
            raise ShapeError(
                f"the body gives {body}, the shortcut {x}",
                why="a residual block adds the two, so their shapes must be the same",
                fix="shortcut: auto, or a body that keeps the shape (padding: same, stride: 1, as many filters)",
            )
        return xs[0]

    def outline(self, *xs: Shape) -> str:
        return "add" + (f", {self.activation}" if self.activation != "none" else "")

    def lower(self, g: Graph, *xs: Value) -> Value:
        return apply(g, merge(g, "add", xs), self.activation)


class Branches(Composite):
    """Several ways from one input, merged: inception (Szegedy et al., CVPR 2015), dense blocks, squeeze and excite.

    branches: each a mapping of layers; ``{}`` is the input itself
    merge: ``concat`` puts channels side by side; ``add``; ``multiply``, where (1, 1, channels) scales whole channels
    activation: what the result goes through
    """

    type: Literal["branches"]
    branches: Annotated[dict[Name, dict[InnerName, AnyBlock]], Field(min_length=1)]
    merge: Mode = "concat"
    activation: Ending = "none"

    def arrange(self, at: Arrangement[T], x: T) -> T:
        return at.whole(*(at.layers(layers, x, "branches", name) for name, layers in self.branches.items()))

    def output(self, *xs: Shape) -> Shape:
        return merged_shape(self.merge, xs)

    def outline(self, *xs: Shape) -> str:
        return self.merge + (f", {self.activation}" if self.activation != "none" else "")

    def lower(self, g: Graph, *xs: Value) -> Value:
        return apply(g, merge(g, self.merge, xs), self.activation)


def _last(layers: Mapping[str, Block]) -> Block | None:
    """The layer that a body ends with, within sequences too."""
    block = next(reversed(list(layers.values())), None)
    return _last(block.layers) if isinstance(block, Sequence) else block


def _stride(x: Shape, y: Shape) -> Pair:
    """The strides by which a 1x1 window makes (H, W) of ``x`` into that of ``y``."""
    if len(x) == len(y) == 3:
        found = tuple(-(-a // b) for a, b in zip(x[:2], y[:2], strict=True))
        if all(-(-a // s) == b for a, b, s in zip(x[:2], y[:2], found, strict=True)):
            return found[0], found[1]
    raise ShapeError(
        f"no shortcut leads from {x} to {y}",
        why="a 1x1 window of any stride gives ceil(size / stride) rows and columns",
        fix="padding: same in the body, so that only its strides change height and width",
    )
