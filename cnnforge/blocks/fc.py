"""``fc``: every unit sees every input; ``flatten``: a volume as a vector."""

from __future__ import annotations

from typing import Literal

from cnnforge.blocks.activation import Ending, apply, default_init
from cnnforge.blocks.base import Block, Param, WeightedBlock
from cnnforge.fields import Bool, PositiveInt
from cnnforge.init import AnyInit, Zeros
from cnnforge.ir.graph import Graph, Value
from cnnforge.shapes import Shape, count


class Flatten(Block):
    """A volume as a vector, row by row.  x: (H, W, C) -> (H*W*C,). Implied before the first fc."""

    type: Literal["flatten"]

    def output(self, x: Shape) -> Shape:
        return (count(x),)

    def lower(self, g: Graph, x: Value) -> Value:
        return g.emit("reshape", x, out=self.output(g.sample_shape(x)))


class Fc(WeightedBlock):
    """y = x w + b, activation.  x: (in,) -> (units,);  ``w: (in, units)``, ``b: (units,)``.

    units: number of outputs
    bias: add one number per unit
    activation: what the result goes through
    init: how the weights begin; He's scale before a rectifier, Glorot's otherwise
    bias_init: how the bias begins
    """

    type: Literal["fc"]
    units: PositiveInt
    bias: Bool = True
    activation: Ending = "none"
    init: AnyInit | None = None
    bias_init: AnyInit = Zeros(type="zeros")

    def output(self, x: Shape) -> Shape:
        return (self.units,)

    def params(self, x: Shape) -> dict[str, Param]:
        fan = (count(x), self.units)
        w = Param(fan, self.init or default_init(self.activation), fan)
        return {"w": w, "b": Param((self.units,), self.bias_init, fan)} if self.bias else {"w": w}

    def macs(self, x: Shape) -> int:
        return count(x) * self.units

    def is_global(self) -> bool:
        return True

    def outline(self, x: Shape) -> str:
        parts = [self.activation] if self.activation != "none" else []
        return ", ".join(parts + (["no bias"] if not self.bias else []))

    def lower(self, g: Graph, x: Value) -> Value:
        p = self.declare(g, x)
        v = g.emit("matmul", x, p["w"], out=(self.units,))
        if self.bias:
            v = g.emit("bias", v, p["b"], out=(self.units,))
        return apply(g, v, self.activation)
