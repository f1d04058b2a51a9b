"""``merge``: several layers' outputs as one; also what ``residual`` and ``branches`` end with."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cnnforge.blocks.activation import Ending, apply
from cnnforge.blocks.base import Block, volume
from cnnforge.errors import ShapeError
from cnnforge.fields import PositiveInt, Reference
from cnnforge.ir.graph import Graph, Value
from cnnforge.shapes import UNKNOWN_SIZE, Shape

Mode = Literal["concat", "add", "multiply"]


def merged_shape(mode: str, xs: tuple[Shape, ...]) -> Shape:
    """The shape of ``xs`` merged. Raises ShapeError where they do not go together.

    concat: channels side by side, height and width alike;  add: all alike
    multiply: all alike, or gates of (1, 1, C), which scale whole channels
    """
    first = max(xs, key=lambda x: x[:-1])
    if mode == "concat" and all(len(x) == len(first) and _agree(x[:-1], first[:-1]) for x in xs):
        return *first[:-1], UNKNOWN_SIZE if any(x[-1] == UNKNOWN_SIZE for x in xs) else sum(x[-1] for x in xs)
    if mode != "concat" and all(_agree(x, first) or (mode == "multiply" and _is_gate(x, first)) for x in xs):
        return first
    rule = {
        "concat": "concat puts channels side by side: height and width must be the same",
        "add": "add needs the same shape everywhere",
        "multiply": "multiply needs the same shape everywhere, or (1, 1, channels) to scale whole channels",
    }[mode]
    fix = {"concat": "the same strides and padding: same in each", "add": "the same filters and strides in each",
           "multiply": "as many filters as there are channels to scale"}[mode]  # fmt: skip
    # Unknown sizes agree with everything, so what is left to show is known.
    shapes = " and ".join(str(x) for x in dict.fromkeys(xs) if UNKNOWN_SIZE not in x)
    raise ShapeError(f"{mode} of different shapes: {shapes}", why=rule, fix=fix)


def _agree(x: Shape, y: Shape) -> bool:
    return len(x) == len(y) and all(a == b or UNKNOWN_SIZE in (a, b) for a, b in zip(x, y, strict=True))


def _is_gate(x: Shape, y: Shape) -> bool:
    return len(x) == len(y) == 3 and x[:2] == (1, 1) and _agree(x[2:], y[2:])


def merge(g: Graph, mode: str, xs: tuple[Value, ...]) -> Value:
    """Append the merge of ``xs``, at least one."""
    shape = merged_shape(mode, tuple(g.sample_shape(x) for x in xs))
    if len(xs) == 1:
        return xs[0]
    if mode == "concat":
        return g.emit("concat", *xs, out=shape)
    # What has the full shape first, gates after it.
    y, *others = sorted(xs, key=lambda x: g.sample_shape(x) != shape)
    for x in others:
        gate = g.sample_shape(x) != shape
        y = g.emit("scale_channels" if gate else mode, y, x, out=shape)
    return y


class Merge(Block):
    """The outputs of several layers as one: channels side by side, their sum or their product.

    concat: (H, W, C1), (H, W, C2), … -> (H, W, C1 + C2 + …);  add: (H, W, C), … -> (H, W, C);
    multiply: as add, or with (1, 1, C), which scales whole channels.

    mode: how they become one
    inputs: the layers to merge, by name; ``input`` is the model's own input
    activation: what the sum, product or row of channels goes through
    """

    type: Literal["merge"]
    inputs: Annotated[tuple[Reference, ...], Field(min_length=2)]
    mode: Mode = "concat"
    activation: Ending = "none"

    @model_validator(mode="after")
    def _one_way_in(self) -> Merge:
        if self.input is not None:
            raise ValueError("input and inputs both say what it reads")
        return self

    def reads(self) -> tuple[str | None, ...]:
        return self.inputs

    def output(self, *xs: Shape) -> Shape:
        return merged_shape(self.mode, xs)

    def outline(self, *xs: Shape) -> str:
        parts = [f"{self.mode} of {', '.join(self.inputs)}"]
        return ", ".join(parts + ([self.activation] if self.activation != "none" else []))

    def lower(self, g: Graph, *xs: Value) -> Value:
        return apply(g, merge(g, self.mode, xs), self.activation)


class ShortcutPad(Block):
    """A shortcut without weights (He et al., CVPR 2016, option A): every ``stride``-th position, new channels 0.

    x: (H, W, C) -> (ceil(H/stride), ceil(W/stride), channels). What ``residual`` with ``shortcut: pad`` makes of itself
    where its body changes the shape; the zeros come behind the channels that are there.

    channels: of the output, at least the input's
    stride: (height, width)
    """

    type: Literal["shortcut_pad"]
    channels: PositiveInt
    stride: tuple[PositiveInt, PositiveInt] = (1, 1)

    def output(self, x: Shape) -> Shape:
        h, w, c = volume(x, "shortcut: pad")
        if UNKNOWN_SIZE not in (c, self.channels) and c > self.channels:
            raise ShapeError(
                f"a shortcut of {c} channels cannot be padded to {self.channels}",
                why="padding adds channels and removes none",
                fix="shortcut: projection",
            )
        return -(-h // self.stride[0]), -(-w // self.stride[1]), self.channels

    def lower(self, g: Graph, x: Value) -> Value:
        return g.emit("shortcut_pad", x, out=self.output(g.sample_shape(x)), stride=self.stride)


class ChannelShuffle(Block):
    """Mix the channels of ``groups`` groups, so that the next grouped convolution sees all of them.

    Channel g * (C / groups) + i becomes channel i * groups + g (Zhang et al., CVPR 2018, ShuffleNet).
    x: (H, W, C) -> (H, W, C).

    groups: of the convolution before
    """

    type: Literal["channel_shuffle"]
    groups: PositiveInt

    def output(self, x: Shape) -> Shape:
        *_, c = volume(x, "channel_shuffle")
        if c != UNKNOWN_SIZE and c % self.groups:
            raise ShapeError(
                f"{c} channels cannot be divided into {self.groups} groups",
                why=f"{c} % {self.groups} = {c % self.groups}, must be 0",
                fix="groups: as many as the convolution before has",
            )
        return x

    def outline(self, x: Shape) -> str:
        return f"groups {self.groups}"

    def lower(self, g: Graph, x: Value) -> Value:
        return g.emit("channel_shuffle", x, out=g.sample_shape(x), groups=self.groups)
