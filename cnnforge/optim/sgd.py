"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from cnnforge.fields import Bool, Fraction
from cnnforge.optim.base import Optimizer


class Sgd(Optimizer):
    """g += weight_decay * p;  v = momentum * v + g;  p -= lr * (g + momentum * v if nesterov else v).

    Momentum as in PyTorch (Sutskever et al., ICML 2013, with the learning rate outside the velocity). Weight decay is
    coupled: it goes through the momentum.

    momentum: the share of the last step that carries on into this one
    nesterov: look at the slope where the step will lead; needs a momentum
    """

    type: Literal["sgd"]
    momentum: Fraction = 0.0
    nesterov: Bool = False

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Sgd:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self

    def slots(self) -> tuple[str, ...]:
        return ("velocity",) if self.momentum else ()

    def attrs(self) -> dict[str, object]:
        return {"momentum": self.momentum, "nesterov": self.nesterov, "weight_decay": self.weight_decay}
