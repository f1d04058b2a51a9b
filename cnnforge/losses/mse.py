"""Mean squared error: what regressions learn by."""

from __future__ import annotations

from typing import Literal

from cnnforge.losses.base import Loss
from cnnforge.shapes import Shape


class Mse(Loss):
    """The mean of (y - target)^2 over the outputs.  y, targets: (N, …) -> (N,)."""

    type: Literal["mse"]

    def labels(self, y: Shape) -> tuple[Shape, str]:
        return y, ""

    def scores_hits(self) -> bool:
        return False
