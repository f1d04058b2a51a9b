"""``trainer.early_stop:`` when a run is over before its epochs are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cnnforge.fields import NonNegativeFloat, PositiveInt, Spec


@dataclass(frozen=True)
class Patience:
    """best, waited: the best value seen, and epochs since."""

    best: float | None = None
    waited: int = 0


class EarlyStop(Spec):
    """The run ends, as ``early_stopped``, once so many epochs in a row were no better than the best before them.

    metric: which of an epoch's numbers is looked at; without validation, the same of training
    patience: epochs without improvement after which it ends
    min_delta: how much better than the best a value must be to count
    """

    metric: Literal["val_loss", "val_accuracy"] = "val_loss"
    patience: PositiveInt = 5
    min_delta: NonNegativeFloat = 0.0

    def after_epoch(self, seen: Patience, metrics: Mapping[str, float]) -> Patience:
        """What is remembered after an epoch that ended with ``metrics``."""
        value = metrics.get(self.metric, metrics.get(self.metric.replace("val_", "train_")))
        if value is None:  # a regression has no accuracy
            value = -metrics.get("val_loss", metrics["train_loss"])
        gain = 0.0 if seen.best is None else seen.best - value if self.metric == "val_loss" else value - seen.best
        if seen.best is None or gain > self.min_delta:
            return Patience(value, 0)
        return Patience(seen.best, seen.waited + 1)

    def is_over(self, seen: Patience) -> bool:
        """Is it time to end the run?"""
        return seen.waited >= self.patience
