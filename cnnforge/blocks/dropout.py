"""``dropout``, ``spatial_dropout``, ``drop_path``: switch units, channels or a whole branch off while training."""

from __future__ import annotations

from typing import Literal

from cnnforge.blocks.base import Block, volume
from cnnforge.fields import Fraction
from cnnforge.ir.graph import Graph, Value
from cnnforge.rng import stream
from cnnforge.shapes import Shape


class _Drop(Block):
    """What the three have in common: a mask, of one truth value for each thing that goes or stays as a whole.

    Which values go is a pure function of the seed, the block's type, the layer's name, the step, the sample's global
    index and the mask's element.

    rate: the share that is zeroed
    """

    rate: Fraction = 0.5

    def mask(self, x: Shape) -> Shape:
        """The mask's shape for one sample: as many axes as ``x``, of its length or of length 1."""
        raise NotImplementedError

    def output(self, x: Shape) -> Shape:
        return x

    def outline(self, x: Shape) -> str:
        return f"rate {self.rate:g}"

    def lower(self, g: Graph, x: Value) -> Value:
        if not g.training or self.rate == 0:
            return x
        shape = g.sample_shape(x)
        y, mask = g.act(self.type, shape), g.act(f"{self.type}.mask", self.mask(shape), dtype="bool")
        g.node("dropout", (x, g.step()), (y, mask), rate=self.rate, key=stream(g.seed, self.type, g.scope))
        return y


class Dropout(_Drop):
    """Zero each value with probability ``rate`` and divide the others by 1 - rate (Srivastava et al., JMLR 2014).

    x: any shape -> the same shape. Nothing happens outside training.
    """

    type: Literal["dropout"]

    def mask(self, x: Shape) -> Shape:
        return x


class SpatialDropout(_Drop):
    """Zero whole channels of a sample with probability ``rate``, divide the others by 1 - rate (Tompson, CVPR 2015).

    x: (H, W, C) -> the same shape. Neighbouring values of a channel are alike, so that dropping single ones drops
    little. Nothing happens outside training.
    """

    type: Literal["spatial_dropout"]

    def mask(self, x: Shape) -> Shape:
        return 1, 1, x[2]

    def output(self, x: Shape) -> Shape:
        return volume(x, "spatial_dropout")


class DropPath(_Drop):
    """Zero a whole sample with probability ``rate`` and divide the others by 1 - rate (Huang et al., ECCV 2016).

    x: any shape -> the same shape. At the end of a residual branch it leaves the sample with the shortcut alone
    (stochastic depth). Nothing happens outside training.
    """

    type: Literal["drop_path"]

    def mask(self, x: Shape) -> Shape:
        return (1,) * len(x)
