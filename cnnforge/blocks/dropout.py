"""``dropout``: switch units off at random while training."""

from __future__ import annotations

from typing import Literal

from cnnforge.blocks.base import Block
from cnnforge.fields import Fraction
from cnnforge.ir.graph import Graph, Value
from cnnforge.rng import stream
from cnnforge.shapes import Shape


class Dropout(Block):
    """Zero each value with probability ``rate`` and divide the others by 1 - rate (Srivastava et al., JMLR 2014).

    x: any shape -> the same shape. Nothing happens outside training. Which values go is a pure function of the seed,
    the layer's name, the step, the sample's global index and the element.

    rate: the share that is zeroed
    """

    type: Literal["dropout"]
    rate: Fraction = 0.5

    def output(self, x: Shape) -> Shape:
        return x

    def outline(self, x: Shape) -> str:
        return f"rate {self.rate:g}"

    def lower(self, g: Graph, x: Value) -> Value:
        if not g.training or self.rate == 0:
            return x
        shape = g.sample_shape(x)
        y, mask = g.act("dropout", shape), g.act("dropout.mask", shape, dtype="bool")
        g.node("dropout", (x, g.step()), (y, mask), rate=self.rate, key=stream(g.seed, "dropout", g.scope))
        return y
