"""LAMB: Adam's step, as long as each tensor's weights say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from cnnforge.fields import NonNegativeFloat, PositiveFloat
from cnnforge.optim.adam import Adamw, Moments
from cnnforge.optim.base import Optimizer
from cnnforge.shapes import Shape, count


class Lamb(Moments):
    """r = m/(1 - b1^t) / (sqrt(s/(1 - b2^t)) + epsilon) + weight_decay * p;  p -= lr * |p|/|r| * r, tensor by tensor.

    You et al., ICLR 2020, algorithm 2, with phi(z) = z; the moments m and s are Adam's. For large batches: a step moves
    each tensor by ``lr`` times its own length, whatever its gradient. Where |p| or |r| is 0 the quotient is 1, or
    weights that begin with 0 would stay there.

    adapt: ``weights`` leaves biases and what has one number per channel, as norms have, to AdamW's step with the same
           fields, as the authors' code does; ``all`` as the paper writes it: they then hardly move from 0
    """

    type: Literal["lamb"]
    weight_decay: NonNegativeFloat = 1e-2
    epsilon: PositiveFloat = 1e-6
    adapt: Literal["weights", "all"] = "weights"

    def rule(self, name: str, vector: bool) -> Optimizer:
        if not vector or self.adapt == "all":
            return self
        return Adamw(
            type="adamw", lr=self.lr, betas=self.betas, epsilon=self.epsilon, weight_decay=self.weight_decay,
            decay=self.decay, groups=self.groups,
        )  # fmt: skip

    def tensors(self, shapes: Sequence[Shape]) -> dict[str, object]:
        return {"sizes": tuple(count(shape) for shape in shapes)}
