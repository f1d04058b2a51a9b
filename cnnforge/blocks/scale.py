"""``scale``: everything times one fixed number."""

from __future__ import annotations

from typing import Literal

from cnnforge.blocks.activation import Ending, apply
from cnnforge.blocks.base import Block
from cnnforge.fields import Float
from cnnforge.ir.graph import Graph, Value
from cnnforge.shapes import Shape


class Scale(Block):
    """y = factor x, activation.  x: any shape -> the same shape. Nothing is learned.

    Before softmax, a factor below 1 keeps the first steps of a fast recipe from being too sure of themselves (Page,
    DAWNBench 2018: 0.125).

    factor: what everything is multiplied by
    activation: what the result goes through
    """

    type: Literal["scale"]
    factor: Float
    activation: Ending = "none"

    def output(self, x: Shape) -> Shape:
        return x

    def outline(self, x: Shape) -> str:
        return f"{self.factor:g}" if self.activation == "none" else f"{self.factor:g}, {self.activation}"

    def lower(self, g: Graph, x: Value) -> Value:
        return apply(g, g.emit("scale", x, out=g.sample_shape(x), factor=self.factor), self.activation)
