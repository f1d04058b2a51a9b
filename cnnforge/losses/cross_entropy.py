"""Cross-entropies: what classifiers learn by."""

from __future__ import annotations

from typing import ClassVar, Literal

from cnnforge.losses.base import Loss, at_least_two
from cnnforge.shapes import Shape


class SoftmaxCrossEntropy(Loss):
    """-log of the probability that softmax gives the right class.

    z: (N, …, classes), labels: class numbers (N, …) int64 -> (N,), the mean over the axes in between.
    """

    fuses: ClassVar[str | None] = "softmax"
    type: Literal["softmax_cross_entropy"]

    def labels(self, y: Shape) -> tuple[Shape, str]:
        at_least_two(y)
        return y[:-1], "int64"


class SigmoidCrossEntropy(Loss):
    """-log of the probability that sigmoid gives each right yes or no, the mean over the outputs.

    z: (N, …), labels: 0 or 1, same shape -> (N,). A single unit also takes labels (N,).
    """

    fuses: ClassVar[str | None] = "sigmoid"
    type: Literal["sigmoid_cross_entropy"]

    def labels(self, y: Shape) -> tuple[Shape, str]:
        return y, ""
