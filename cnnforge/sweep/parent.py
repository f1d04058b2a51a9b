"""The sweep as a run of its own: its journal has the space and the best so far; in MLflow it is the trials' parent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

from cnnforge.spec import RunSpec, TrackingSpec
from cnnforge.sweep.table import text
from cnnforge.sweep.trials import BEST, MARK, Outcome
from cnnforge.tracking import Journal, Sender, Status, start_sweep
from cnnforge.tracking.journal import is_written


class Parent:
    """What of a sweep is sent to the tracker beside its trials. Without a journal another driver's does it."""

    def __init__(self, outcome: Outcome, journal: Journal | None, sender: Sender | None) -> None:
        self._outcome, self._journal, self._sender = outcome, journal, sender
        self._done = -1
        self.reason = ""

    def begin(self, again: bool) -> None:
        """Say what the sweep is; of one that was begun before, that it goes on."""
        if self._journal is None:
            return
        if again:
            self._journal.event("resumed")
            return
        spec = self._outcome.checked.spec
        about = spec.model_dump(mode="json", exclude_none=True, exclude={"space"})
        axes = {key: axis.model_dump(mode="json", exclude_defaults=True) for key, axis in spec.space.items()}
        self._journal.params({"sweep": about, "space": {key: text(axis) for key, axis in axes.items()}})
        self._journal.tags({"cnnforge.version": version("cnnforge"), "kind": "sweep"})

    def ended(self) -> None:
        """A trial is over: write down how many are, and the best numbers so far."""
        done = self._outcome.finished
        if self._journal is None or len(done) == self._done:
            return
        self._done = len(done)
        values = {"trials_finished": float(len(done)), "trials_failed": float(self._outcome.count("failed", "killed"))}
        values["trials_pruned"] = float(self._outcome.count("pruned"))
        for goal, i in zip(self._outcome.objective, range(len(self._outcome.objective)), strict=True):
            scores = [numbers[i] for trial in done if (numbers := self._outcome.scores(trial)) is not None]
            if scores:
                values[f"best/{goal.metric}"] = max(scores) if goal.maximizes else min(scores)
        self._journal.metrics(values, len(done))

    def end(self, status: Status) -> None:
        """Keep what came of it, and send what is left, within a bound."""
        if self._journal is None:
            return
        for name in (MARK, BEST):
            if (self._outcome.folder / name).is_file():
                self._journal.artifact(name)
        if self._outcome.best:
            self._journal.tags({"best": str(self._outcome.best[0].number)})
        self._journal.end(status)
        if self._sender is not None:
            outcome = self._sender.finish()
            self.reason = outcome.reason if outcome.pending else ""


@contextmanager
def parent(outcome: Outcome, run: RunSpec) -> Iterator[Parent]:
    """The sweep's journal, open, and a process that sends it and those of all trials."""
    tracking: TrackingSpec = run.tracking
    with contextlib.ExitStack() as stack:
        if is_written(outcome.folder):
            yield Parent(outcome, None, None)
            return
        journal = stack.enter_context(Journal(outcome.folder))
        sender = None
        if tracking.enabled:
            sender = start_sweep(outcome.folder, uri=tracking.uri, experiment=tracking.experiment or "")
        yield Parent(outcome, journal, sender)
