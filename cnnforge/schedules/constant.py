"""The learning rate stays as it is."""

from __future__ import annotations

from typing import Literal

from cnnforge.schedules.base import Schedule


class ConstantSchedule(Schedule):
    """Factor 1 throughout."""

    type: Literal["constant"]

    def factor(self, step: int, steps: int, per_epoch: int) -> float:
        return 1.0
