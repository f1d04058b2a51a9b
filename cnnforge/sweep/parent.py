"""The sweep as a run of its own: its journal has the space and the best so far; in MLflow it is the trials' parent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from cnnforge.spec import RunSpec, TrackingSpec
from cnnforge.sweep.plots import FOLDER, draw
from cnnforge.sweep.report import report_of
from cnnforge.sweep.summary import note
from cnnforge.sweep.table import text
from cnnforge.sweep.trials import BEST, MARK, Outcome, Trial
from cnnforge.tracking import Journal, Sender, Status, journal_path, read, start_sweep
from cnnforge.tracking.entries import NOTE_TAG
from cnnforge.tracking.family import TRIALS, runs_of_trial
from cnnforge.tracking.journal import is_written
from cnnforge.train.folder import read_result


class Parent:
    """What of a sweep is sent to the tracker beside its trials. Without a journal another driver's does it."""

    def __init__(self, outcome: Outcome, journal: Journal | None, sender: Sender | None) -> None:
        self._outcome, self._journal, self._sender = outcome, journal, sender
        self._done = -1
        self.notes: list[str] = []

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
        reached = [numbers for trial in done if (numbers := self._outcome.scores(trial)) is not None]
        for goal, scores in zip(self._outcome.objective, zip(*reached, strict=True), strict=False):  # none, or each
            values[f"best/{goal.metric}"] = max(scores) if goal.maximizes else min(scores)
        self._journal.metrics(values, len(done))

    def end(self, status: Status) -> None:
        """Keep what came of it, draw it, and send what is left, within a bound."""
        if self._journal is None:
            return
        report = report_of(self._outcome)
        try:
            drawn = draw(report)
        except Exception as error:  # the numbers are worth more than their pictures
            self.notes.append(f"the pictures could not be drawn: {type(error).__name__}: {error}")
            drawn = []
        for name in (MARK, BEST, *(FOLDER for _ in drawn[:1])):
            if (self._outcome.folder / name).exists():
                self._journal.artifact(name)
        shown = "".join(f"\n\n![{path.stem}]({FOLDER}/{path.name})" for path in drawn)
        self._journal.tags({NOTE_TAG: note(report) + shown})
        if self._outcome.best:
            self._journal.tags({"best": str(self._outcome.best[0].number)})
            if status == "finished" and self._sender is not None:
                self._register(self._outcome.best[0])
        self._journal.end(status)
        if self._sender is not None:
            outcome = self._sender.finish()
            if outcome.pending:
                self.notes.append(f"tracking: {outcome.reason}")

    def _register(self, best: Trial) -> None:
        """Ask, in the trial's own journal, for its model to be registered: there it is sent behind the model."""
        name = self._outcome.checked.spec.register_as
        if name is None:
            return
        goal = self._outcome.objective[0]
        runs = [run for run in runs_of_trial(self._outcome.folder / TRIALS / str(best.number)) if _has_model(run)]
        if not runs:
            self.notes.append(f"register_as: trial {best.number} has no model here, so nothing is registered")
            return
        run = max(runs, key=lambda run: (1 if goal.maximizes else -1) * read_result(run).get(goal.metric, 0.0))
        if not any(record["kind"] == "register" and record["name"] == name for record in read(journal_path(run))[0]):
            with Journal(run) as journal:
                journal.register(name)


def _has_model(run: Path) -> bool:
    return any(record["kind"] == "model" for record in read(journal_path(run))[0])


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
