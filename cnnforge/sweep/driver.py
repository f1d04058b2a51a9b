"""Running what has been checked: one trial after another in this process, each through the door of ``cnnforge train``.

``runs/SWEEP/sweep.json`` says at any time which trial is where; the trials' own folders are ``runs/SWEEP/trials/N``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from time import monotonic
from typing import Any, Literal

from cnnforge.errors import CnnforgeError, ConfigError, ConfigErrors, InterruptedRun
from cnnforge.spec import RunSpec
from cnnforge.spec.samplers import Random
from cnnforge.spec.sweep import PLANNED, Objective
from cnnforge.sweep.check import CheckedSpace
from cnnforge.sweep.points import Point, replicas
from cnnforge.sweep.table import point_json, text
from cnnforge.train.folder import new_folder, point_latest, write_json
from cnnforge.train.run import run as train
from cnnforge.train.work import Console, Result

State = Literal["waiting", "running", "finished", "failed", "interrupted", "dropped"]

#: The file that says that a folder is of a sweep.
MARK = "sweep.json"
#: Draws in a row that bring nothing new, after which a random sweep is over.
MOST_IN_VAIN = 1000


@dataclass
class Trial:
    """A point on its way.

    result: means over the replicas of every number that all of them have, with ``NAME_deviation`` where there are some
    error: why it failed: what, where, why, fix
    failure: the same as it was raised
    """

    point: Point
    state: State = "waiting"
    result: Result = field(default_factory=dict)
    error: dict[str, str] | None = None
    failure: Exception | None = None

    def to_json(self) -> dict[str, Any]:
        """As it stands in ``sweep.json``."""
        about = {**point_json(self.point), "state": self.state}
        return about | ({"result": self.result} if self.result else {}) | ({"error": self.error} if self.error else {})


@dataclass
class Outcome:
    """A sweep that ran. ``trials``: in order, those included that were dropped; ``folder``: where it is."""

    folder: Path
    trials: list[Trial]
    objective: Sequence[Objective]
    seconds: float = 0.0

    @property
    def best(self) -> list[Trial]:
        """The finished trials that no other beats in every objective; with one objective the best one."""
        done = [trial for trial in self.trials if trial.state == "finished" and self.scores(trial) is not None]
        return [a for a in done if not any(self._beats(b, a) for b in done)][: None if len(self.objective) > 1 else 1]

    def scores(self, trial: Trial) -> list[float] | None:
        """What a trial has reached, by objective; None where a number is missing."""
        values = [score(trial, objective) for objective in self.objective]
        return None if None in values else [value for value in values if value is not None]

    def _beats(self, a: Trial, b: Trial) -> bool:
        pairs = zip(self.scores(a) or (), self.scores(b) or (), self.objective, strict=True)
        gains = [(x - y) if objective.maximizes else (y - x) for x, y, objective in pairs]
        return all(gain >= 0 for gain in gains) and any(gain > 0 for gain in gains)

    def to_json(self, checked: CheckedSpace) -> dict[str, Any]:
        """What ``sweep.json`` holds."""
        return {
            "sweep": checked.spec.name,
            "sampler": checked.spec.chooses.type,
            "objective": [
                {"metric": goal.metric, "direction": "maximize" if goal.maximizes else "minimize"}
                for goal in self.objective
            ],
            "seconds": round(self.seconds, 3),
            "best": [trial.point.number for trial in self.best],
            "duplicates": {str(number): original for number, original in checked.duplicates.items()},
            "trials": [trial.to_json() for trial in self.trials],
        }


def score(trial: Trial, objective: Objective) -> float | None:
    """A trial's number for an objective."""
    if objective.metric in PLANNED:
        return None if trial.point.cost is None else float(getattr(trial.point.cost, objective.metric))
    value = trial.result.get(objective.metric)
    return float(value) if isinstance(value, int | float) else None


def run(checked: CheckedSpace, console: Console) -> Outcome:
    """Train every point, in order, until the budget is spent. Returns what came of it.

    Raises ConfigError for samplers that choose by results, InterruptedRun where a person stops a trial.
    """
    spec = checked.spec
    if spec.chooses.type not in ("grid", "random"):
        raise ConfigError(
            f"sampler {spec.chooses.type} cannot run yet",
            where=checked.sweep.where("sampler"),
            why="points are tried in an order that is known before: grid or random",
            fix="sweep.sampler=random, or --check to stop here",
        )
    first = checked.feasible[0].spec
    assert first is not None, "a feasible point has a run"
    folder = new_folder(Path(first.run.dir), first.run.name or spec.name)
    point_latest(folder)
    dropped = [Trial(point, "dropped") for point in checked.dropped if checked.points]  # of draws, else of probes
    outcome = Outcome(folder, dropped, spec.objective)
    began = monotonic()
    waiting = [Trial(point) for point in checked.points]
    outcome.trials += waiting
    failures = 0
    for trial in waiting or _drawn(checked, outcome):
        if spec.budget.seconds is not None and monotonic() - began >= spec.budget.seconds:
            console.note("the time is up")
            break
        if spec.max_failures is not None and failures > spec.max_failures:
            console.note(f"{failures} trials failed: no more are begun (max_failures: {spec.max_failures})")
            break
        values = " ".join(f"{key}={text(value)}" for key, value in trial.point.values.items())
        console.note(f"trial {trial.point.number}: {values}")
        trial.state = "interrupted"  # if nothing else becomes of it
        done = False
        try:
            for tries in range(1 + spec.retry):
                if tries:
                    console.note(f"trial {trial.point.number} failed and is tried again: {trial.failure}")
                _write(outcome, checked, running=trial)
                if done := _attempt(trial, checked, folder, console):
                    break
        finally:
            outcome.seconds = monotonic() - began
            _write(outcome, checked)
        if not done:
            failures += 1
            console.note(f"trial {trial.point.number} failed: {trial.failure}")
    return outcome


def _drawn(checked: CheckedSpace, outcome: Outcome) -> Iterator[Trial]:
    """Random points, each run once, until many draws in a row bring nothing new."""
    sampler = checked.spec.chooses
    assert isinstance(sampler, Random), "a grid has points"
    known: set[str] = set()
    number = in_vain = 0
    while in_vain < MOST_IN_VAIN:
        trial = Trial(checked.resolve(checked.space.sample(sampler.seed, number), number + 1))
        number, in_vain = number + 1, in_vain + 1
        if not trial.point.feasible:
            trial.state = "dropped"
            outcome.trials.append(trial)
        elif trial.point.identity not in known:
            in_vain = 0
            known.add(trial.point.identity)
            outcome.trials.append(trial)
            yield trial


def _attempt(trial: Trial, checked: CheckedSpace, folder: Path, console: Console) -> bool:
    """Train all replicas of a trial, and write down their mean or why there is none. Did it finish?"""
    assert trial.point.spec is not None, "only points that can be trained are tried"
    results: list[Result] = []
    try:
        for name, spec in replicas(trial.point.spec, checked.spec.replicate).items():
            results.append(train(_in(folder, spec), console, folder=_own_folder(folder, trial.point.number, name))[1])
    except (InterruptedRun, KeyboardInterrupt):
        raise
    except Exception as error:  # a bug in one trial is no reason to lose the others
        what = f"{type(error).__name__}: {error}"
        trial.state, trial.failure = "failed", error
        trial.error = error.to_dict() if isinstance(error, CnnforgeError) else {"what": what}
        return False
    trial.state, trial.result = "finished", mean_result(results)
    trial.error = trial.failure = None
    return True


def _in(folder: Path, spec: RunSpec) -> RunSpec:
    own = spec.run.model_copy(update={"dir": str(folder / "trials"), "name": None})
    return spec.model_copy(update={"run": own})


def _own_folder(folder: Path, number: int, replica: str) -> Path:
    """``trials/N``, or ``trials/N-seed-1-fold-2``; a further try has a suffix."""
    return new_folder(folder / "trials", f"{number}-{replica}" if replica else str(number))


def mean_result(results: Sequence[Result]) -> Result:
    """The result of one run; of several the mean and the deviation (n - 1) of every number that all of them have."""
    if len(results) == 1:
        return dict(results[0])
    about: Result = {"status": "finished", "runs": len(results)}
    for name, value in results[0].items():
        values = [result.get(name) for result in results]
        numbers = [float(one) for one in values if isinstance(one, int | float) and not isinstance(one, bool)]
        if isinstance(value, float) and len(numbers) == len(results):
            about |= {name: fmean(numbers), f"{name}_deviation": stdev(numbers)}
    return about | {"wall_seconds": sum(float(result["wall_seconds"]) for result in results)}


def _write(outcome: Outcome, checked: CheckedSpace, running: Trial | None = None) -> None:
    outcome.trials.sort(key=lambda trial: trial.point.number)
    about = outcome.to_json(checked)
    for trial, shown in zip(outcome.trials, about["trials"], strict=True):
        if trial is running:
            shown["state"] = "running"
    write_json(outcome.folder / MARK, about)


def first_failure(outcome: Outcome) -> CnnforgeError:
    """What ends the command where no trial has finished."""
    failures = [trial.failure for trial in outcome.trials if trial.failure is not None]
    known = [error for error in failures if isinstance(error, CnnforgeError)]
    if known:
        return known[0]
    why = str(failures[0]) if failures else "the budget was spent before one ended"
    return ConfigErrors(
        [ConfigError("no trial has finished", where=str(outcome.folder), why=why, fix="see sweep.json")]
    )
