"""What every normalisation is: a scale and a shift per channel, and a function behind them."""

from __future__ import annotations

from cnnforge.blocks.activation import Ending, apply
from cnnforge.blocks.base import Param, WeightedBlock
from cnnforge.fields import PositiveFloat
from cnnforge.init import Ones, Zeros
from cnnforge.ir.graph import Graph, Value
from cnnforge.shapes import Shape


class Norm(WeightedBlock):
    """Base of batch_norm, group_norm and layer_norm.

    epsilon: added to the variance
    activation: what the result goes through
    """

    epsilon: PositiveFloat = 1e-5
    activation: Ending = "none"

    def output(self, x: Shape) -> Shape:
        return x

    def params(self, x: Shape) -> dict[str, Param]:
        return {"gamma": Param((x[-1],), Ones(type="ones")), "beta": Param((x[-1],), Zeros(type="zeros"))}

    def outline(self, x: Shape) -> str:
        return self.activation if self.activation != "none" else ""

    def lower(self, g: Graph, x: Value) -> Value:
        return apply(g, self.normalised(g, x), self.activation)

    def normalised(self, g: Graph, x: Value) -> Value:
        """Append the normalisation itself."""
        raise NotImplementedError
