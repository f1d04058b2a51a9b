"""Cross-entropies: what classifiers learn by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from cnnforge.errors import ShapeError
from cnnforge.fields import Fraction, NonNegativeFloat, PositiveFloat
from cnnforge.ir.graph import Graph, Node, Value
from cnnforge.losses.base import Loss, at_least_two
from cnnforge.shapes import Shape

#: Class weights that follow from how often each class occurs in the training labels.
BALANCED = "balanced"


class SoftmaxCrossEntropy(Loss):
    """-log of the probability that softmax gives the right class.

    z: (N, …, classes), labels: class numbers (N, …) int64 -> (N,), the mean over the axes in between. Labels of samples
    that are mixed: (N, 3), two class numbers and the share of the first; the one of the larger share is the right one.

    Both options are PyTorch's, and hold in training, validation and test alike. Smoothing (Szegedy et al., CVPR 2016)
    puts 1 - label_smoothing on the right class and shares the rest out over all classes, the right one included. With
    class weights w, each class's term is multiplied by its own, and the mean is a weighted one: the sum over a batch is
    divided by the sum of its labels' weights, not by their number, in loss and gradient. The loss of an epoch is the
    mean of its batches', by their samples.

    label_smoothing: the share of a label that goes to all classes alike
    class_weights: one per class; ``balanced`` takes n / (classes * count) from the n training labels, and 0 for a class
        that none of them has
    """

    fuses: ClassVar[str | None] = "softmax"
    type: Literal["softmax_cross_entropy"]
    label_smoothing: Fraction = 0.0
    class_weights: Literal["balanced"] | tuple[NonNegativeFloat, ...] | None = None

    def labels(self, y: Shape) -> tuple[Shape, str]:
        at_least_two(y)
        if isinstance(self.class_weights, tuple):
            _one_per_class(self.class_weights, y)
        return y[:-1], "int64"

    def mixed_labels(self, y: Shape) -> tuple[Shape, str]:
        """Two class numbers and the share of the first."""
        self.labels(y)
        return ((3,), "") if len(y) == 1 else super().mixed_labels(y)

    def classes_to_count(self, y: Shape) -> int:
        return y[-1] if self.class_weights == BALANCED else 0

    def measured(self, counts: Sequence[int]) -> SoftmaxCrossEntropy:
        total = sum(counts)
        weights = tuple(total / (len(counts) * count) if count else 0.0 for count in counts)
        return self.model_copy(update={"class_weights": weights})

    def about(self) -> str:
        return f"class weights {', '.join(f'{w:.3g}' for w in self.class_weights or ())}"

    def lower(self, g: Graph, z: Value, labels: Value) -> Node:
        weights, mixed = self.class_weights, labels.dtype != "int64"
        if not self.label_smoothing and weights is None and not mixed:
            return super().lower(g, z, labels)
        if weights is None or isinstance(weights, str):  # not measured yet: any will do to plan with
            weights = (1.0,) * z.shape[-1] if weights else ()
        attrs: dict[str, Any] = {"smoothing": self.label_smoothing, "weights": weights}
        if mixed:
            targets, best = g.act("targets", g.sample_shape(z)), g.act("label", (), "int64")
            g.node("mixed_targets", (labels,), (targets, best), **attrs)
            labels = best
        else:
            targets = g.emit("class_targets", labels, out=g.sample_shape(z), **attrs)
        return g.node(
            "soft_cross_entropy", (z, targets, labels), (g.act(self.type, ()), g.act(f"{self.type}.hits", ()))
        )


class SigmoidCrossEntropy(Loss):
    """-log of the probability that sigmoid gives each right yes or no, the mean over the outputs.

    z: (N, …), labels: 0 or 1, same shape -> (N,). A single unit also takes labels (N,).

    label_smoothing: moves 0 and 1 towards 1/2: t becomes (1 - label_smoothing) t + label_smoothing / 2, as in Keras
    pos_weight: what a yes counts, where a no counts 1, as in PyTorch; the mean is still over the number of outputs
    """

    fuses: ClassVar[str | None] = "sigmoid"
    type: Literal["sigmoid_cross_entropy"]
    label_smoothing: Fraction = 0.0
    pos_weight: PositiveFloat = 1.0

    def labels(self, y: Shape) -> tuple[Shape, str]:
        return y, ""

    def lower(self, g: Graph, z: Value, labels: Value) -> Node:
        if not self.label_smoothing and self.pos_weight == 1:
            return super().lower(g, z, labels)
        outs = g.act(self.type, ()), g.act(f"{self.type}.hits", ())
        attrs = {"smoothing": self.label_smoothing, "pos_weight": self.pos_weight}
        return g.node("weighted_sigmoid_cross_entropy", (z, labels), outs, **attrs)


def _one_per_class(weights: Sequence[float], y: Shape) -> None:
    if len(weights) != y[-1]:
        raise ShapeError(
            f"{len(weights)} class weights for {y[-1]} classes",
            why=f"the output has shape {y}, and each class takes one weight",
            fix=f"class_weights: a list of {y[-1]} numbers, or balanced",
        )
    if not any(weights):
        raise ShapeError(
            "all class weights are 0",
            why="the loss would be divided by the sum of the weights",
            fix="class_weights: at least one number above 0, or balanced",
        )
