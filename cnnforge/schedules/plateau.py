"""The learning rate falls when training no longer gets better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from cnnforge.fields import Fraction, NonNegativeFloat, NonNegativeInt
from cnnforge.schedules.base import Course, Schedule


class PlateauSchedule(Schedule):
    """Multiplied by ``gamma`` once ``patience`` epochs in a row were no better than the best before them.

    metric: which of an epoch's numbers is looked at; without validation, the training loss
    gamma: what the learning rate is multiplied by
    patience: epochs without improvement that are borne
    threshold: how much smaller than the best, as a share of it, a loss must be to count as better
    floor: the least share of the learning rate
    """

    type: Literal["plateau"]
    metric: Literal["val_loss", "val_accuracy", "train_loss", "train_accuracy"] = "val_loss"
    gamma: Fraction = 0.1
    patience: NonNegativeInt = 10
    threshold: NonNegativeFloat = 1e-4
    floor: Fraction = 0.0

    def factor(self, step: int, steps: int, per_epoch: int) -> float:
        return 1.0

    def after_epoch(self, course: Course, metrics: Mapping[str, float]) -> Course:
        """As PyTorch's ReduceLROnPlateau with a relative threshold."""
        value = metrics.get(self.metric, metrics["train_loss"])
        if self._better(value, course.best):
            return replace(course, best=value, waited=0)
        if course.waited < self.patience:
            return replace(course, waited=course.waited + 1)
        return replace(course, scale=max(course.scale * self.gamma, self.floor), waited=0)

    def _better(self, value: float, best: float | None) -> bool:
        if best is None:
            return True
        if self.metric.endswith("accuracy"):
            return value > best * (1.0 + self.threshold)
        return value < best * (1.0 - self.threshold)
