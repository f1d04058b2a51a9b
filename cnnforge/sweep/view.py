"""A sweep as a person watches it where there is no terminal: a line for each trial that ends."""

from __future__ import annotations

import os
from time import monotonic
from typing import TextIO

from cnnforge.sweep.table import shown, text
from cnnforge.sweep.trials import Outcome, Trial

#: Seconds between two lines that say how far everything is.
EVERY = 30.0


def make_view(stream: TextIO) -> PlainView:
    """A live view where ``stream`` is a terminal that can be drawn on, plain lines elsewhere."""
    if not stream.isatty() or os.environ.get("TERM") == "dumb":
        return PlainView(stream)
    from cnnforge.sweep.live import LiveView

    return LiveView(stream)


class PlainView:
    """Lines: one for each trial that ends, and now and then how far the others are."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._spoke = monotonic()
        self._outcome: Outcome | None = None

    def note(self, text: str) -> None:
        print(text, file=self._stream, flush=True)
        self._spoke = monotonic()

    def begin(self, outcome: Outcome, workers: int) -> None:
        self._outcome = outcome

    def trial(self, trial: Trial) -> None:
        if trial.state not in ("running", "waiting"):
            values = " ".join(f"{key}={text(value)}" for key, value in trial.point.values.items())
            self.note(f"trial {trial.number} {trial.state}  {values}  {self._end(trial)}")

    def _end(self, trial: Trial) -> str:
        """What came of a trial that is over."""
        assert self._outcome is not None
        goals = self._outcome.objective
        scores = self._outcome.scores(trial) if trial.state == "finished" else None
        if scores is not None:
            pairs = zip(goals, scores, strict=True)
            end = "  ".join(f"{goal.metric} {shown(goal.metric, value)}" for goal, value in pairs)
        elif trial.error is not None:
            end = trial.error["what"]
        else:
            end = (
                f"after {trial.epoch} of {trial.epochs} epochs, {goals[0].metric} {shown(goals[0].metric, trial.score)}"
            )
        return end + ("  *" if trial in self._outcome.best else "")

    def progress(self, trial: Trial) -> None:
        assert self._outcome is not None
        if monotonic() - self._spoke > EVERY:
            running = [t for t in self._outcome.trials.values() if t.state == "running"]
            self.note(", ".join(f"trial {t.number}: epoch {t.epoch} of {t.epochs}" for t in running))

    def end(self) -> None:
        """Nothing to clear away."""
