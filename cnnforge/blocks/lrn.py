"""``lrn``: every value divided by what its neighbours among the channels say."""

from __future__ import annotations

from typing import Literal

from cnnforge.blocks.base import Block, volume
from cnnforge.fields import PositiveFloat, PositiveInt
from cnnforge.ir.graph import Graph, Value
from cnnforge.shapes import Shape


class Lrn(Block):
    """y = x / (k + alpha/size * sum of x^2 over ``size`` channels)^beta  (Krizhevsky et al., NeurIPS 2012).

    x: (H, W, C) -> the same shape. Of channel c the sum goes from c - size//2 to c + (size - 1)//2; what lies outside
    counts as 0. ``alpha`` is divided by ``size`` as in PyTorch and Caffe; the paper's own formula does not do that, so
    its alpha of 1e-4 over 5 channels is 5e-4 here.

    size: how many channels a sum goes over
    alpha: weight of the sum
    beta: exponent
    k: keeps the base above 0
    """

    type: Literal["lrn"]
    size: PositiveInt = 5
    alpha: PositiveFloat = 1e-4
    beta: PositiveFloat = 0.75
    k: PositiveFloat = 1.0

    def output(self, x: Shape) -> Shape:
        return volume(x, "lrn")

    def outline(self, x: Shape) -> str:
        return f"size {self.size}"

    def lower(self, g: Graph, x: Value) -> Value:
        y, base = (g.act(name, g.sample_shape(x)) for name in ("lrn", "lrn.base"))
        g.node("lrn", (x,), (y, base), size=self.size, alpha=self.alpha, beta=self.beta, k=self.k)
        return y
