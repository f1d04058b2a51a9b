"""Adam, with coupled or decoupled weight decay."""

from __future__ import annotations

from typing import Literal

from cnnforge.fields import Fraction, NonNegativeFloat, PositiveFloat
from cnnforge.optim.base import Optimizer


class Moments(Optimizer):
    """What Adam and its kin have in common: two running moments and their bias corrections.

    betas: the shares of the running mean and of the running mean square that are kept
    epsilon: keeps the divisor above 0
    """

    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    epsilon: PositiveFloat = 1e-8

    def slots(self) -> tuple[str, ...]:
        return "mean", "square"

    def scalars(self, step: int) -> tuple[float, float]:
        """The bias corrections 1 - beta^t."""
        return 1.0 - self.betas[0] ** step, 1.0 - self.betas[1] ** step

    def attrs(self) -> dict[str, object]:
        return {
            "beta1": self.betas[0], "beta2": self.betas[1], "epsilon": self.epsilon, "weight_decay": self.weight_decay,
        }  # fmt: skip


class Adam(Moments):
    """m = b1 m + (1 - b1) g;  s = b2 s + (1 - b2) g^2;  p -= lr * m/(1 - b1^t) / (sqrt(s/(1 - b2^t)) + epsilon).

    Kingma and Ba, ICLR 2015. Weight decay is coupled (added to the gradient, an L2 penalty), as in PyTorch's Adam.
    """

    type: Literal["adam"]


class Adamw(Moments):
    """Adam with decoupled weight decay: p -= lr * weight_decay * p first (Loshchilov and Hutter, ICLR 2019)."""

    type: Literal["adamw"]
    weight_decay: NonNegativeFloat = 1e-2
