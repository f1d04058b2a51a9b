"""``activation``: an element-wise function, or softmax over the last axis; also what ``conv`` and ``fc`` end with."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from cnnforge.blocks.base import Block
from cnnforge.fields import PositiveFloat
from cnnforge.init import Glorot, He, Init
from cnnforge.ir.graph import Graph, Value
from cnnforge.shapes import Shape

Function = Literal["relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "tanh", "softmax"]
#: What a conv or fc may end with.
Ending = Function | Literal["none"]

#: Default slope (leaky_relu) and saturation (elu).
ALPHA = {"leaky_relu": 0.01, "elu": 1.0}
#: Functions that keep about half of their input's variance or more, for which He's scale was derived.
RECTIFIERS = ("relu", "leaky_relu", "elu", "gelu", "silu")


def default_init(ending: str) -> Init:
    """He's scale before a rectifier, Glorot's otherwise."""
    return He(type="he") if ending in RECTIFIERS else Glorot(type="glorot")


def apply(g: Graph, x: Value, function: str, alpha: float | None = None, approximate: str = "none") -> Value:
    """Append ``function`` to the graph; ``none`` appends nothing."""
    if function == "none":
        return x
    shape = g.sample_shape(x)
    if function in ALPHA:
        return g.emit(function, x, out=shape, alpha=ALPHA[function] if alpha is None else alpha)
    if function == "gelu":
        return g.emit(function, x, out=shape, approximate=approximate)
    return g.emit(function, x, out=shape)


class Activation(Block):
    """y = function(x), element by element; softmax over the last axis.  x: any shape -> the same shape.

    function: which one
    alpha: slope of leaky_relu below 0 (0.01), or the value at which elu saturates (1.0)
    approximate: ``tanh`` takes gelu's published approximation (Hendrycks and Gimpel 2016) instead of the error function
    """

    type: Literal["activation"]
    function: Function = "relu"
    alpha: PositiveFloat | None = None
    approximate: Literal["none", "tanh"] = "none"

    @model_validator(mode="after")
    def _options_belong(self) -> Activation:
        if self.alpha is not None and self.function not in ALPHA:
            raise ValueError(f"alpha belongs to {' and '.join(ALPHA)}, not to {self.function}")
        if self.approximate != "none" and self.function != "gelu":
            raise ValueError(f"approximate belongs to gelu, not to {self.function}")
        return self

    def output(self, x: Shape) -> Shape:
        return x

    def outline(self, x: Shape) -> str:
        return self.function

    def lower(self, g: Graph, x: Value) -> Value:
        return apply(g, x, self.function, self.alpha, self.approximate)
