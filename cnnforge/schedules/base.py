"""What a schedule is."""

from __future__ import annotations

from cnnforge.fields import Spec


class Schedule(Spec):
    """Base of every schedule: the learning rate as a pure function of the step."""

    type: str

    def factor(self, step: int, steps: int) -> float:
        """What ``optimizer.lr`` is multiplied by at ``step`` (from 0) of ``steps``."""
        raise NotImplementedError
