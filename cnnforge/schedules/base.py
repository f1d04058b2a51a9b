"""What a schedule is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from pydantic import model_validator

from cnnforge.fields import Fraction, PositiveFloat, PositiveInt, Spec


@dataclass(frozen=True)
class Course:
    """What a schedule remembers between epochs, where it looks at how training goes.

    scale: what the learning rate is multiplied by beside the schedule's own factor
    best, waited: the best value seen, and epochs since
    """

    scale: float = 1.0
    best: float | None = None
    waited: int = 0


class Warmup(Spec):
    """``warmup:`` the learning rate rises along a line before the schedule begins.

    epochs: how many it takes; or
    steps: how many it takes
    start: the share of the learning rate before the first step
    """

    epochs: PositiveFloat | None = None
    steps: PositiveInt | None = None
    start: Fraction = 0.0

    @model_validator(mode="after")
    def _one_length(self) -> Warmup:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("a warm-up takes either epochs or steps")
        return self

    def length(self, per_epoch: int) -> int:
        """Its steps."""
        return self.steps or max(1, round((self.epochs or 0) * per_epoch))


class Schedule(Spec):
    """Base of every schedule: the learning rate as a pure function of the step.

    warmup: a rise in front of it; the schedule then runs over the steps that are left
    """

    type: str
    warmup: Warmup | None = None

    #: Has it a rise of its own, so that a warm-up in front makes no sense?
    rises: ClassVar[bool] = False

    @model_validator(mode="after")
    def _one_rise(self) -> Schedule:
        if self.warmup is not None and self.rises:
            raise ValueError(f"{self.type} rises by itself, so it takes no warm-up")
        return self

    def rate(self, step: int, steps: int, per_epoch: int) -> float:
        """What ``optimizer.lr`` is multiplied by at ``step`` (from 0) of ``steps``, of which an epoch has
        ``per_epoch``.
        """
        if self.warmup is None:
            return self.factor(step, steps, per_epoch)
        length = self.warmup.length(per_epoch)
        if step >= length:
            return self.factor(step - length, max(steps - length, 1), per_epoch)
        first = self.factor(0, max(steps - length, 1), per_epoch)
        return first * (self.warmup.start + (1.0 - self.warmup.start) * (step + 1) / length)

    def factor(self, step: int, steps: int, per_epoch: int) -> float:
        """The same without the warm-up."""
        raise NotImplementedError

    def after_epoch(self, course: Course, metrics: Mapping[str, float]) -> Course:
        """What it remembers after an epoch that ended with ``metrics``."""
        return course

    def reaches(self) -> Mapping[str, float]:
        """By field: the epoch at which the last of what it asks for has happened, such as the end of a warm-up or the
        last milestone. A shorter run never gets there, of which ``check`` warns.
        """
        if self.warmup is None or self.warmup.epochs is None:
            return {}
        return {"warmup": self.warmup.epochs}
