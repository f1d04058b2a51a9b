"""What a schedule is."""

from __future__ import annotations

from collections.abc import Mapping

from cnnforge.fields import Spec


class Schedule(Spec):
    """Base of every schedule: the learning rate as a pure function of the step."""

    type: str

    def factor(self, step: int, steps: int) -> float:
        """What ``optimizer.lr`` is multiplied by at ``step`` (from 0) of ``steps``."""
        raise NotImplementedError

    def reaches(self) -> Mapping[str, float]:
        """By field: the epoch at which the last of what it asks for has happened, such as the end of a warm-up or the
        last milestone. A shorter run never gets there, of which ``check`` warns.
        """
        return {}
