"""The learning rate falls along half a cosine."""

from __future__ import annotations

from math import cos, pi
from typing import Literal

from cnnforge.fields import Fraction
from cnnforge.schedules.base import Schedule


class CosineSchedule(Schedule):
    """From 1 at the first step to ``floor`` after the last (Loshchilov and Hutter, ICLR 2017, without restarts).

    floor: the share of the learning rate that is left at the end
    """

    type: Literal["cosine"]
    floor: Fraction = 0.0

    def factor(self, step: int, steps: int, per_epoch: int) -> float:
        return self.floor + (1.0 - self.floor) * 0.5 * (1.0 + cos(pi * step / steps))
