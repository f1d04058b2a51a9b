"""The learning rate follows straight lines, or a power of one."""

from __future__ import annotations

from typing import ClassVar, Literal

from cnnforge.fields import Fraction, PositiveFloat
from cnnforge.schedules.base import Schedule


class LinearSchedule(Schedule):
    """A triangle: it rises to the whole learning rate, then falls (Smith and Topin, 2017, without the last tail).

    rise: the share of the steps over which it rises; 0 begins with the whole learning rate
    start: the share of the learning rate before the first step
    floor: the share of the learning rate after the last step
    """

    rises: ClassVar[bool] = True
    type: Literal["linear"]
    rise: Fraction = 0.2
    start: Fraction = 0.0
    floor: Fraction = 0.0

    def factor(self, step: int, steps: int, per_epoch: int) -> float:
        top = int(self.rise * steps)
        if step < top:
            return self.start + (1.0 - self.start) * (step + 1) / top
        return self.floor + (1.0 - self.floor) * (steps - step) / (steps - top)


class PolynomialSchedule(Schedule):
    """(1 - step/steps) ** power, as in PyTorch.

    power: 1 is a straight line
    floor: the share of the learning rate that is left at the end
    """

    type: Literal["polynomial"]
    power: PositiveFloat = 1.0
    floor: Fraction = 0.0

    def factor(self, step: int, steps: int, per_epoch: int) -> float:
        return float(self.floor + (1.0 - self.floor) * (1.0 - step / steps) ** self.power)
