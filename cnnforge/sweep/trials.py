"""A sweep's trials: each a point on its way, and what has come of all of them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any, Literal

from cnnforge.config import run_text
from cnnforge.errors import CnnforgeError, ConfigError, DataError, DivergedError
from cnnforge.spec import RunSpec
from cnnforge.spec.sweep import PLANNED, Objective
from cnnforge.sweep.check import CheckedSpace
from cnnforge.sweep.points import Point
from cnnforge.sweep.table import point_json
from cnnforge.tracking.family import SWEEP
from cnnforge.train.folder import write_json, write_text
from cnnforge.train.folds import means
from cnnforge.train.work import Result

#: waiting, running:  not over yet, and where the sweep has ended, not begun or cut off
#: finished, pruned:  it ended by itself, or because others were better at that epoch
#: failed:            its training ended in an error;  killed: its process died
#: dropped, same:     it cannot be trained, or is the same run as an earlier one
State = Literal["waiting", "running", "finished", "pruned", "failed", "killed", "dropped", "same"]

#: States of trials that nothing more becomes of.
OVER: frozenset[State] = frozenset({"finished", "pruned", "failed", "dropped", "same"})

#: The file that says that a folder is of a sweep, and the one that has the config of the best trial.
MARK, BEST = SWEEP, "best.yaml"


@dataclass
class Trial:
    """A point on its way.

    result: means over the replicas of every number that all of them have, with ``NAME_deviation`` where there are some
    error: why it failed: what, where, why, fix;  code: the exit code that ``train`` would have ended with
    epoch, epochs: how far its run is;  score: the objective at that epoch;  runs: replicas done, of how many
    part: of the steps of its run, those that are done, 0 to 1
    """

    point: Point
    state: State = "waiting"
    result: Result = field(default_factory=dict)
    error: dict[str, str] | None = None
    code: int = 1
    epoch: int = 0
    epochs: int = 0
    score: float | None = None
    runs: tuple[int, int] = (0, 1)
    part: float = 0.0

    @property
    def number(self) -> int:
        """The point's."""
        return self.point.number

    @property
    def over(self) -> bool:
        """Will nothing more become of it?"""
        return self.state in OVER

    def to_json(self) -> dict[str, Any]:
        """As it stands in ``sweep.json``."""
        about = {**point_json(self.point), "state": self.state}
        return about | ({"result": self.result} if self.result else {}) | ({"error": self.error} if self.error else {})


@dataclass
class Outcome:
    """What has come of a sweep so far.

    folder: where it is;  trials: by number
    seconds: for how long it has been worked on, all its lives together
    """

    folder: Path
    checked: CheckedSpace
    trials: dict[int, Trial] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def objective(self) -> Sequence[Objective]:
        """What the best is best in."""
        return self.checked.spec.objective

    @property
    def finished(self) -> list[Trial]:
        """The trials that have reached a number for every objective, by number."""
        return [t for _, t in sorted(self.trials.items()) if t.state == "finished" and self.scores(t) is not None]

    @property
    def best(self) -> list[Trial]:
        """The finished trials that no other beats in every objective; with one objective the best one."""
        gains = {trial.number: self._gains(trial) for trial in self.finished}
        if len(self.objective) == 1:
            return [self.trials[max(gains, key=gains.__getitem__)]] if gains else []
        different = set(gains.values())
        front = {a for a in different if not any(_beats(b, a) for b in different)}
        return [self.trials[number] for number, own in gains.items() if own in front]

    def scores(self, trial: Trial) -> list[float] | None:
        """What a trial has reached, by objective; None where a number is missing."""
        values = [score(trial, objective) for objective in self.objective]
        return None if None in values else [value for value in values if value is not None]

    def count(self, *states: State) -> int:
        """Trials in one of these states."""
        return sum(trial.state in states for trial in self.trials.values())

    def _gains(self, trial: Trial) -> tuple[float, ...]:
        """Its scores, signed so that more is better."""
        pairs = zip(self.scores(trial) or (), self.objective, strict=True)
        return tuple(value if goal.maximizes else -value for value, goal in pairs)

    def to_json(self) -> dict[str, Any]:
        """What ``sweep.json`` holds."""
        spec = self.checked.spec
        return {
            "sweep": spec.name,
            "sampler": spec.chooses.type,
            "objective": [goal.to_json() for goal in self.objective],
            "space": {key: axis.model_dump(mode="json", exclude_defaults=True) for key, axis in spec.space.items()},
            "planned": self.checked.totals.trials,
            "seconds": round(self.seconds, 3),
            "best": [trial.number for trial in self.best],
            "duplicates": {str(number): original for number, original in self.checked.duplicates.items()},
            "trials": [trial.to_json() | self._extent(trial) for _, trial in sorted(self.trials.items())],
        }

    def _extent(self, trial: Trial) -> dict[str, int]:
        """Runs of a trial, and epochs of one of them that nothing ends early."""
        spec = trial.point.spec
        if spec is None:
            return {}
        folds = spec.data.folds if spec.data.folds and spec.data.fold is None else 1
        epochs, most = spec.trainer.epochs, spec.trainer.max_steps
        steps, done = trial.result.get("steps"), trial.result.get("epochs")
        if most and isinstance(steps, int) and isinstance(done, int) and steps and done:
            epochs = min(epochs, ceil(most * done / steps))
        return {"runs": max(1, len(self.checked.spec.replicate.seeds)) * folds, "epochs": epochs}

    def write(self) -> None:
        """Write ``sweep.json``, and ``best.yaml`` where there is a best trial: a config that ``train`` takes."""
        write_json(self.folder / MARK, self.to_json())
        for trial in self.best[:1]:
            spec = trial.point.spec
            assert spec is not None, "it has been trained"
            write_text(self.folder / BEST, run_text(as_trial(spec, self.checked)))


def _beats(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a != b and all(x >= y for x, y in zip(a, b, strict=True))


def seconds_before(folder: Path) -> float:
    """For how long a sweep has been worked on in its earlier lives."""
    try:
        return float(json.loads((folder / MARK).read_text("utf-8"))["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0  # its first


def as_trial(spec: RunSpec, checked: CheckedSpace, folder: Path | None = None) -> RunSpec:
    """A point's run as it is trained: with its share of the threads, and in ``folder`` where that is given."""
    trainer = spec.trainer
    if trainer.threads is None and checked.spec.executor == "ray":
        trainer = trainer.model_copy(update={"threads": checked.spec.ray.cpus_per_trial})
    elif trainer.threads is None and checked.spec.parallel > 1:
        share = max(1, (os.cpu_count() or 1) // checked.spec.parallel)
        trainer = trainer.model_copy(update={"threads": share})
    where = spec.run if folder is None else spec.run.model_copy(update={"dir": str(folder), "name": None})
    return spec.model_copy(update={"run": where, "trainer": trainer})


def score(trial: Trial, objective: Objective) -> float | None:
    """A trial's number for an objective."""
    if objective.metric in PLANNED:
        return None if trial.point.cost is None else float(getattr(trial.point.cost, objective.metric))
    value = trial.result.get(objective.metric)
    return float(value) if isinstance(value, int | float) else None


def mean_result(results: Sequence[Result]) -> Result:
    """The result of one run; of several the mean and the deviation (n - 1) of every number that all of them have."""
    if len(results) == 1:
        return dict(results[0])
    return {"status": "finished", "runs": len(results)} | means(results)


def failure_of(outcome: Outcome) -> CnnforgeError:
    """What ends the command where no trial has finished: the first trial's error, with its exit code."""
    for trial in outcome.trials.values():
        if trial.error is not None and trial.state in ("failed", "killed"):
            kinds = {2: ConfigError, 3: DataError, 4: DivergedError}
            error, kind = trial.error, kinds.get(trial.code, CnnforgeError)
            return kind(error["what"], where=error.get("where", ""), why=error.get("why", ""), fix=error.get("fix", ""))
    why = "every trial was ended early" if outcome.count("pruned") else "the budget was spent before one ended"
    return ConfigError("no trial has finished", where=str(outcome.folder), why=why, fix=f"see {MARK}")
