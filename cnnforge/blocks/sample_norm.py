"""``group_norm`` and ``layer_norm``: mean 0 and variance 1 within a sample, whatever else is in the batch."""

from __future__ import annotations

from typing import Literal

from cnnforge.blocks.norm import Norm
from cnnforge.errors import ShapeError
from cnnforge.fields import PositiveInt
from cnnforge.ir.graph import Graph, Value
from cnnforge.shapes import Shape


class GroupNorm(Norm):
    """y = gamma * (x - mean) / sqrt(var + epsilon) + beta, gamma and beta per channel (Wu and He, ECCV 2018).

    x: (H, W, C) or (F,) -> the same shape. The channels fall into ``groups`` of neighbours; mean and (biased) variance
    are of one sample's group, over height, width and the group's channels. ``groups: 1`` is layer normalisation over
    the whole sample, as the paper on pictures has it; ``layer_norm`` is the other form.

    groups: number of groups
    """

    type: Literal["group_norm"]
    groups: PositiveInt = 32

    def output(self, x: Shape) -> Shape:
        if x[-1] % self.groups:
            fits = next(g for g in range(min(self.groups, x[-1]), 0, -1) if x[-1] % g == 0)
            raise ShapeError(
                f"{x[-1]} channels cannot be divided into {self.groups} groups",
                why=f"{x[-1]} % {self.groups} = {x[-1] % self.groups}, must be 0",
                fix=f"groups: {fits}, or channels a multiple of {self.groups}",
            )
        return x

    def outline(self, x: Shape) -> str:
        ending = super().outline(x)
        return f"groups {self.groups}" + (f", {ending}" if ending else "")

    def normalised(self, g: Graph, x: Value) -> Value:
        p = self.declare(g, x)
        y = g.act("group_norm", g.sample_shape(x))
        mean, inverse = (g.act(f"group_norm.{s}", (self.groups,)) for s in ("mean", "inverse"))
        ins = (x, p["gamma"], p["beta"])
        g.node("group_norm", ins, (y, mean, inverse), groups=self.groups, epsilon=self.epsilon)
        return y


class LayerNorm(Norm):
    """y = gamma * (x - mean) / sqrt(var + epsilon) + beta, gamma and beta per channel (Ba, Kiros and Hinton, 2016).

    x: (H, W, C) or (F,) -> the same shape. Mean and (biased) variance are over the channels of one position, as in
    Keras and ConvNeXt (Liu et al., CVPR 2022). Over the whole sample: ``group_norm`` with ``groups: 1``.
    """

    type: Literal["layer_norm"]

    def normalised(self, g: Graph, x: Value) -> Value:
        p = self.declare(g, x)
        shape = g.sample_shape(x)
        y = g.act("layer_norm", shape)
        mean, inverse = (g.act(f"layer_norm.{s}", shape[:-1]) for s in ("mean", "inverse"))
        g.node("layer_norm", (x, p["gamma"], p["beta"]), (y, mean, inverse), epsilon=self.epsilon)
        return y
