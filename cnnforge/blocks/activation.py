"""``activation``: an element-wise function, or softmax over the last axis; also what ``conv`` and ``fc`` end with."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from cnnforge.blocks.base import Param, WeightedBlock
from cnnforge.fields import PositiveFloat
from cnnforge.init import Constant, Glorot, He, Init
from cnnforge.ir.graph import Graph, Value
from cnnforge.shapes import Shape

Function = Literal[
    "relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "hard_swish", "softplus", "sigmoid", "hard_sigmoid",
    "tanh", "softmax",
]  # fmt: skip
#: What a conv or fc may end with.
Ending = Function | Literal["none"]

#: Default slope (leaky_relu), saturation (elu) and slope to begin with (prelu).
ALPHA = {"leaky_relu": 0.01, "elu": 1.0, "prelu": 0.25}
#: Functions that keep about half of their input's variance or more, for which He's scale was derived.
RECTIFIERS = ("relu", "relu6", "leaky_relu", "elu", "gelu", "silu", "hard_swish", "softplus")


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


class Activation(WeightedBlock):
    """y = function(x), element by element; softmax over the last axis.  x: any shape -> the same shape.

    ``prelu`` (He et al., ICCV 2015) learns its slope below 0, one per channel: ``alpha: (C,)``.

    function: which one
    alpha: slope of leaky_relu below 0 (0.01), where elu saturates (1.0), prelu's slope to begin with (0.25)
    approximate: ``tanh`` takes gelu's published approximation (Hendrycks and Gimpel 2016) instead of the error function
    """

    type: Literal["activation"]
    function: Function | Literal["prelu"] = "relu"
    alpha: PositiveFloat | None = None
    approximate: Literal["none", "tanh"] = "none"

    @model_validator(mode="after")
    def _options_belong(self) -> Activation:
        if self.alpha is not None and self.function not in ALPHA:
            raise ValueError(f"alpha belongs to {', '.join(ALPHA)}, not to {self.function}")
        if self.approximate != "none" and self.function != "gelu":
            raise ValueError(f"approximate belongs to gelu, not to {self.function}")
        if not self.trainable and self.function != "prelu":
            raise ValueError(f"trainable belongs to prelu, not to {self.function}, which has no weights")
        return self

    def output(self, x: Shape) -> Shape:
        return x

    def params(self, x: Shape) -> dict[str, Param]:
        if self.function != "prelu":
            return {}
        start = ALPHA["prelu"] if self.alpha is None else self.alpha
        return {"alpha": Param((x[-1],), Constant(type="constant", value=start))}

    def outline(self, x: Shape) -> str:
        return self.function

    def lower(self, g: Graph, x: Value) -> Value:
        if self.function == "prelu":
            return g.emit("prelu", x, self.declare(g, x)["alpha"], out=g.sample_shape(x))
        return apply(g, x, self.function, self.alpha, self.approximate)
