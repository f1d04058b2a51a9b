"""What a loss is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from cnnforge.errors import ShapeError
from cnnforge.fields import Spec
from cnnforge.ir.graph import Graph, Node, Value
from cnnforge.shapes import Shape


class Loss(Spec):
    """Base of every loss.

    fuses: the last activation that this loss computes itself, from the value before it, so that no exponential
        overflows and no logarithm meets a zero
    """

    fuses: ClassVar[str | None] = None

    type: str

    def labels(self, y: Shape) -> tuple[Shape, str]:
        """Shape (per sample) and dtype of the labels for an output of shape ``y``; dtype ``""`` means the model's own.

        Raises ShapeError where the loss makes no sense for ``y``.
        """
        raise NotImplementedError

    def mixed_labels(self, y: Shape) -> tuple[Shape, str]:
        """As ``labels``, where those of two samples are mixed: numbers are, class numbers are not.

        Raises ShapeError where there is more than one label to a picture, whose parts do not move with it.
        """
        shape, dtype = self.labels(y)
        if len(y) > 1:
            raise ShapeError(
                f"labels of shape {shape} do not follow pictures that are mixed",
                why=f"the output has shape {y}: mixup and cutmix share out one label to a picture",
                fix="augment.mixup: null, augment.cutmix: null",
            )
        if dtype:
            raise ShapeError(
                f"the labels of {self.type} cannot be mixed", why=f"they are {dtype}, and two of them are not a number",
                fix="augment.mixup: null, augment.cutmix: null",
            )  # fmt: skip
        return shape, dtype

    def scores_hits(self) -> bool:
        """Does the loss node's second output (share of right answers per sample) mean anything?"""
        return True

    def classes_to_count(self, y: Shape) -> int:
        """How many classes to count in the training labels for ``measured``; 0 where the loss asks for nothing."""
        return 0

    def measured(self, counts: Sequence[int]) -> Loss:
        """The loss with what it takes from the training labels. counts: of each class"""
        return self

    def about(self) -> str:
        """What was measured, in words, for whoever watches."""
        return ""

    def lower(self, g: Graph, z: Value, labels: Value) -> Node:
        """Append the loss node: (z, labels) -> loss per sample (N,), share of right answers per sample (N,)."""
        loss, hits = g.act(self.type, ()), g.act(f"{self.type}.hits", ())
        return g.node(self.type, (z, labels), (loss, hits))

    def predict(self, g: Graph, z: Value) -> Value:
        """Append what turns ``z`` into the prediction (probabilities, or ``z`` itself)."""
        if self.fuses is None:
            return z
        return g.emit(self.fuses, z, out=g.sample_shape(z))


def at_least_two(y: Shape) -> None:
    """Softmax over one unit is always 1."""
    if y[-1] < 2:
        raise ShapeError(
            "softmax over one unit is always 1",
            why=f"the output has shape {y}",
            fix="activation: sigmoid for one unit, or one unit per class",
        )
