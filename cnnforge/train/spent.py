"""What a run's time went into."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

#: What there is to spend time on, in the order in which it is shown.
PARTS = (
    "data", "planning", "compiling", "training", "waiting_for_data", "validation", "checkpoints", "test", "report",
)  # fmt: skip


class Spent:
    """Seconds by what they were spent on. What is spent inside of something else is not counted twice."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inside = [0.0]

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        """The time that the block takes is spent on ``what``, but for that of blocks in it."""
        began = perf_counter()
        self._inside.append(0.0)
        try:
            yield
        finally:
            whole = perf_counter() - began
            self.seconds[what] = self.seconds.get(what, 0.0) + whole - self._inside.pop()
            self._inside[-1] += whole

    def add(self, what: str, seconds: float) -> None:
        """So many went into ``what``, just now."""
        self.seconds[what] = self.seconds.get(what, 0.0) + seconds
        self._inside[-1] += seconds

    def rounded(self) -> dict[str, float]:
        """To the millisecond, in the order of ``PARTS``."""
        return {what: round(self.seconds[what], 3) for what in PARTS if what in self.seconds}
