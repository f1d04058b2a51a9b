"""One rise and one long fall, deep at the end."""

from __future__ import annotations

from math import cos, pi
from typing import ClassVar, Literal

from cnnforge.fields import Fraction, PositiveFloat
from cnnforge.schedules.base import Schedule


class OneCycleSchedule(Schedule):
    """From lr / div up to lr, then down to lr / div / final_div (Smith and Topin, 2017; PyTorch's, rate only).

    rise: the share of the steps over which it rises
    anneal: along half a cosine, or a line
    div: how many times smaller it begins
    final_div: how many times smaller than that it ends
    """

    rises: ClassVar[bool] = True
    type: Literal["one_cycle"]
    rise: Fraction = 0.3
    anneal: Literal["cos", "linear"] = "cos"
    div: PositiveFloat = 25.0
    final_div: PositiveFloat = 1e4

    def factor(self, step: int, steps: int, per_epoch: int) -> float:
        # PyTorch's phases end on steps: the rise on rise*steps - 1, the fall on the last one.
        top, end = self.rise * steps - 1.0, steps - 1.0
        first = 1.0 / self.div
        if step <= top:
            return self._between(first, 1.0, step / top if top > 0 else 1.0)
        return self._between(1.0, first / self.final_div, (step - top) / (end - top) if end > top else 1.0)

    def _between(self, a: float, b: float, share: float) -> float:
        if self.anneal == "linear":
            return a + (b - a) * share
        return b + (a - b) * 0.5 * (1.0 + cos(pi * share))
