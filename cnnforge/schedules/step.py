"""The learning rate falls in steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import field_validator

from cnnforge.fields import PositiveFloat
from cnnforge.schedules.base import Schedule


class StepSchedule(Schedule):
    """Multiplied by ``gamma`` after every ``size`` epochs.

    size: epochs between two falls
    gamma: what the learning rate is multiplied by at each
    """

    type: Literal["step"]
    size: PositiveFloat
    gamma: PositiveFloat = 0.1

    def factor(self, step: int, steps: int, per_epoch: int) -> float:
        return float(self.gamma ** (step // max(1, round(self.size * per_epoch))))

    def reaches(self) -> Mapping[str, float]:
        return {**super().reaches(), "size": self.size}


class MultiStepSchedule(Schedule):
    """Multiplied by ``gamma`` at each milestone.

    milestones: epochs after which the learning rate falls, ascending
    gamma: what it is multiplied by at each
    """

    type: Literal["multi_step"]
    milestones: tuple[PositiveFloat, ...]
    gamma: PositiveFloat = 0.1

    @field_validator("milestones")
    @classmethod
    def _ascending(cls, milestones: tuple[float, ...]) -> tuple[float, ...]:
        if not milestones or list(milestones) != sorted(set(milestones)):
            raise ValueError("milestones are epochs, each later than the one before")
        return milestones

    def factor(self, step: int, steps: int, per_epoch: int) -> float:
        passed = sum(step >= round(milestone * per_epoch) for milestone in self.milestones)
        return float(self.gamma**passed)

    def reaches(self) -> Mapping[str, float]:
        return {**super().reaches(), "milestones": self.milestones[-1]}


class ExponentialSchedule(Schedule):
    """Multiplied by ``gamma`` after every epoch.

    gamma: what the learning rate is multiplied by
    """

    type: Literal["exponential"]
    gamma: PositiveFloat = 0.95

    def factor(self, step: int, steps: int, per_epoch: int) -> float:
        return float(self.gamma ** (step // per_epoch))
