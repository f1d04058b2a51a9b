"""RMSprop."""

from __future__ import annotations

from typing import Literal

from cnnforge.fields import Fraction, PositiveFloat
from cnnforge.optim.base import Optimizer


class Rmsprop(Optimizer):
    """s = alpha * s + (1 - alpha) * g^2;  p -= lr * v, v = momentum * v + g / (sqrt(s) + epsilon).

    Tieleman and Hinton, Coursera lecture 6.5 (2012); epsilon outside the root, as in PyTorch. Weight decay is coupled.

    alpha: the share of the running mean square that is kept
    epsilon: keeps the divisor above 0
    momentum: the share of the last step that carries on into this one
    """

    type: Literal["rmsprop"]
    lr: PositiveFloat = 1e-2
    alpha: Fraction = 0.99
    epsilon: PositiveFloat = 1e-8
    momentum: Fraction = 0.0

    def slots(self) -> tuple[str, ...]:
        return ("square", "velocity") if self.momentum else ("square",)

    def attrs(self) -> dict[str, object]:
        return {
            "alpha": self.alpha, "epsilon": self.epsilon, "momentum": self.momentum, "weight_decay": self.weight_decay,
        }  # fmt: skip
