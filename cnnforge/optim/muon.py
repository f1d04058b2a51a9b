"""Muon: steps that are orthogonal matrices, for weights; AdamW for the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from math import sqrt
from typing import Annotated, Literal

from pydantic import Field
from pydantic.types import Strict

from cnnforge.errors import Path
from cnnforge.fields import Bool, Float, Fraction, NonNegativeFloat, PositiveFloat, Spec
from cnnforge.optim.adam import Adamw
from cnnforge.optim.base import Optimizer, Pattern
from cnnforge.shapes import Shape, count


class Rest(Spec):
    """``adamw:`` of Muon: how AdamW updates what Muon does not.

    lr: its own learning rate, which the schedule multiplies too
    betas: the shares of the running mean and of the running mean square that are kept
    epsilon: keeps the divisor above 0
    weight_decay: its own, decoupled
    match: weights that it updates beside biases and norms, by name as in ``groups``: ``output.*``
    """

    lr: PositiveFloat = 1e-3
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    epsilon: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 1e-2
    match: tuple[Pattern, ...] = ()


class Muon(Optimizer):
    """m += (1 - momentum) (g - m);  u = g + momentum (m - g) if nesterov else m;  p -= lr * (weight_decay p + f NS(u)).

    Keller Jordan et al., 2024, as torch.optim.Muon. NS(u) has nearly u's singular vectors with singular values near 1:
    x = u / |u|, then ``ns_steps`` times x = a x + (b x x^T + c (x x^T)^2) x, in the precision of the run (PyTorch's is
    bfloat16). A convolution's weights are one matrix, (kernel height * kernel width * channels, filters), as PyTorch's
    users flatten them. Biases and what has one number per channel, as norms have, are AdamW's, and so are weights that
    ``adamw.match`` names: the output layer is best left to it. Weight decay is decoupled.

    momentum: the share of the running mean of gradients that is kept
    nesterov: look at the slope where the step will lead
    ns_coefficients: a, b and c
    ns_steps: how often
    epsilon: the least length that u is divided by
    adjust_lr_fn: f, for a weight of ``outputs`` filters or units that read ``inputs`` numbers each: ``original``
                  sqrt(max(1, outputs/inputs)); ``match_rms_adamw`` 0.2 sqrt(max(outputs, inputs)), as large as AdamW's
                  steps are (Liu et al., 2025)
    adamw: how the rest is updated
    """

    type: Literal["muon"]
    weight_decay: NonNegativeFloat = 0.1
    momentum: Fraction = 0.95
    nesterov: Bool = True
    ns_coefficients: tuple[Float, Float, Float] = (3.4445, -4.775, 2.0315)
    ns_steps: Annotated[int, Strict(), Field(ge=1, lt=100)] = 5
    epsilon: PositiveFloat = 1e-7
    adjust_lr_fn: Literal["original", "match_rms_adamw"] = "original"
    adamw: Rest = Rest()

    def rule(self, name: str, vector: bool) -> Optimizer:
        if vector or any(fnmatchcase(name, pattern) for pattern in self.adamw.match):
            return self._rest()
        return self

    def _rest(self) -> Adamw:
        own = self.adamw
        return Adamw(
            type="adamw", lr=own.lr, betas=own.betas, epsilon=own.epsilon, weight_decay=own.weight_decay,
            decay=self.decay, groups=self.groups,
        )  # fmt: skip

    def patterns(self) -> Iterator[tuple[str, Path]]:
        yield from super().patterns()
        for i, pattern in enumerate(self.adamw.match):
            yield pattern, ("optimizer", "adamw", "match", i)

    def slots(self) -> tuple[str, ...]:
        return ("mean",)

    def scalars(self, step: int) -> tuple[float, float]:
        """AdamW's: Muon's mean is not corrected."""
        return self._rest().scalars(step)

    def attrs(self) -> dict[str, object]:
        return {
            "momentum": self.momentum, "nesterov": self.nesterov, "coefficients": self.ns_coefficients,
            "steps": self.ns_steps, "epsilon": self.epsilon, "weight_decay": self.weight_decay,
        }  # fmt: skip

    def tensors(self, shapes: Sequence[Shape]) -> dict[str, object]:
        """Each weight as a matrix (inputs, outputs), and its factor on the learning rate."""
        matrices = tuple((count(shape[:-1]), shape[-1]) for shape in shapes)
        return {"matrices": matrices, "factors": tuple(self._factor(*matrix) for matrix in matrices)}

    def _factor(self, inputs: int, outputs: int) -> float:
        if self.adjust_lr_fn == "original":
            return sqrt(max(1, outputs / inputs))
        return 0.2 * sqrt(max(outputs, inputs))
