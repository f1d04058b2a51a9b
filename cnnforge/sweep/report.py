"""What came of a sweep, read from its folder at any time: while it runs, after its end, after a kill.

Nothing is changed there. ``sweep.json``, which the driver writes whole or not at all, has points and results; the
trials' journals have the epochs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any

from cnnforge.errors import ConfigError
from cnnforge.spec.axis import Axis
from cnnforge.spec.sweep import PLANNED, Objective
from cnnforge.sweep.trials import MARK, OVER, Outcome, State
from cnnforge.tracking.family import TRIALS, runs_of_trial
from cnnforge.tracking.journal import is_written, journal_path
from cnnforge.tracking.state import LockHeldError, acquire

#: A metric that every epoch has.
_OF_EPOCHS = "train_loss"


@dataclass(frozen=True)
class Tried:
    """A trial as its sweep's folder has it.

    values: by key of the space
    runs: replicas;  epochs: of each of them, if nothing ends it early;  trained: epochs, of all of them
    epoch: that its first run has reached;  curve: a metric of that run by epoch, see ``Report.followed``
    scores: by objective, spread: their deviations where there are replicas; None where there is no number
    error: why it failed;  reasons: why it was dropped
    """

    number: int
    values: Mapping[str, Any]
    state: State
    runs: int = 1
    epochs: int = 0
    trained: int = 0
    epoch: int = 0
    curve: Mapping[int, float] = field(default_factory=dict)
    scores: tuple[float | None, ...] = ()
    spread: tuple[float | None, ...] = ()
    error: Mapping[str, str] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()

    @property
    def scored(self) -> bool:
        """Has it finished, with a number for every objective?"""
        return self.state == "finished" and None not in self.scores

    @property
    def saved(self) -> int:
        """Epochs that were not trained because others were better."""
        return max(0, self.runs * self.epochs - self.trained) if self.state == "pruned" else 0


@dataclass(frozen=True)
class Report:
    """A sweep as its folder has it.

    goals: what the best is best in;  followed: the metric of the learning curves
    axes: by key of the space;  trials: by number;  best: the numbers of those that no other beats in every objective
    planned: trials that there will be; 0 where that is not known
    seconds: that it has been worked on, as far as it was written down;  alive: does a driver work on it?
    raw: what ``sweep.json`` says
    """

    folder: Path
    goals: tuple[Objective, ...]
    followed: str
    axes: Mapping[str, Axis]
    trials: tuple[Tried, ...]
    best: tuple[int, ...]
    planned: int
    seconds: float
    alive: bool
    raw: Mapping[str, Any]

    @cached_property
    def ranked(self) -> list[Tried]:
        """The trials with a number for every objective, those on the front first, else the best in the first first."""
        sign = -1 if self.goals[0].maximizes else 1
        done = [trial for trial in self.trials if trial.scored]
        return sorted(done, key=lambda t: (t.number not in self.best, sign * (t.scores[0] or 0.0), t.number))

    def of(self, *states: State) -> list[Tried]:
        """The trials in one of these states, by number."""
        return [trial for trial in self.trials if trial.state in states]

    @property
    def trained(self) -> int:
        """Epochs of all runs."""
        return sum(trial.trained for trial in self.trials)

    @property
    def saved(self) -> int:
        """Epochs that pruning has saved."""
        return sum(trial.saved for trial in self.trials)

    def to_json(self) -> dict[str, Any]:
        """``sweep.json`` with the states as they are, the epochs, and the learning curves by trial and epoch."""
        states = {trial.number: trial.state for trial in self.trials}
        return {
            **self.raw,
            "trials": [{**trial, "state": states[trial["number"]]} for trial in self.raw["trials"]],
            "epochs": {"trained": self.trained, "saved": self.saved},
            "curves": {
                "metric": self.followed, "trials": {str(t.number): dict(t.curve) for t in self.trials if t.curve},
            },
        }  # fmt: skip


def read_report(folder: Path) -> Report:
    """The sweep in ``folder``. Raises ConfigError where no trial has begun there."""
    try:
        raw: Any = json.loads((folder / MARK).read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{folder.name}: no trial has begun", where=str(folder / MARK), why="it is written with the first one",
            fix=f"wait a moment, or cnnforge sweep resume={folder.name}",
        ) from None  # fmt: skip
    return _report(folder, raw)


def report_of(outcome: Outcome) -> Report:
    """The same of a sweep that is at hand."""
    return _report(outcome.folder, outcome.to_json())


def _report(folder: Path, raw: Mapping[str, Any]) -> Report:
    goals = tuple(Objective.model_validate(goal) for goal in raw["objective"])
    followed = _followed(goals)
    return Report(
        folder, goals, followed, {key: Axis.model_validate(axis) for key, axis in raw["space"].items()},
        tuple(_tried(folder, about, goals, followed) for about in raw["trials"]), tuple(raw["best"]), raw["planned"],
        raw["seconds"], _alive(folder), raw,
    )  # fmt: skip


def _followed(goals: tuple[Objective, ...]) -> str:
    """The metric of the first objective that epochs have, or one like it."""
    for goal in goals:
        if goal.metric not in PLANNED:
            return goal.metric.removeprefix("best_").replace("test_", "val_")
    return "val_loss"


def _tried(folder: Path, about: Mapping[str, Any], goals: tuple[Objective, ...], followed: str) -> Tried:
    result: Mapping[str, Any] = about.get("result", {})
    of = {**result, **{name: about.get(name) for name in PLANNED}}
    folders = runs_of_trial(folder / TRIALS / str(about["number"]))
    curves = [dict(_curve(run, followed)) for run in folders]
    first = curves[0] if curves else {}
    trained = sum(max(curve, default=0) for curve in curves)
    epoch = result.get("epochs", 0) if not folders else max(first, default=0)
    return Tried(
        about["number"], about["values"], _state(about["state"], folders), about.get("runs", 1),
        about.get("epochs", 0), trained if folders else epoch, epoch,
        {number: value for number, value in first.items() if value is not None},
        tuple(_number(of.get(goal.metric)) for goal in goals),
        tuple(_number(result.get(f"{goal.metric}_deviation")) for goal in goals), about.get("error", {}),
        tuple(reason["what"] for reason in about.get("reasons", ())),
    )  # fmt: skip


def _state(written: State, folders: list[Path]) -> State:
    """The state now: what was not over when ``sweep.json`` was written runs where somebody writes its journal."""
    if written in OVER:
        return written
    if any(is_written(folder) for folder in folders):
        return "running"
    return "waiting" if written == "running" else written


def _curve(run: Path, metric: str) -> Iterator[tuple[int, float | None]]:
    """(epoch, ``metric``) of a run's epochs, from its journal, of which other lines are not parsed."""
    mark = f'"{_OF_EPOCHS}"'.encode()
    try:
        lines = journal_path(run).read_bytes().split(b"\n")[:-1]
    except OSError:  # removed meanwhile
        return
    for line in lines:
        if mark in line:
            record = json.loads(line)
            yield record["step"], _number(record["values"].get(metric))


def _number(value: Any) -> float | None:
    """A finite number; the journal has others as text."""
    return float(value) if isinstance(value, int | float) and isfinite(value) else None


def _alive(folder: Path) -> bool:
    """Does a driver of this machine hold its lock?"""
    for lock in folder.glob(".driver-*"):
        try:
            acquire(lock, timeout=0.0).close()
        except LockHeldError:
            return True
    return False
