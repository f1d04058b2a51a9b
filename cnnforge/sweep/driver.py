"""Running what has been checked: trials side by side, each in a worker process, until the budget is spent.

The study (``study.py``) says which trial is next and has, at any time, what came of each; run folders
``runs/SWEEP/trials/N`` have the trainings; ``sweep.json`` is a copy for people and programs. A driver may be killed at
any moment: the next one takes over what it was at, from the last checkpoints.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from cnnforge.config import run_text
from cnnforge.sweep.check import CheckedSpace
from cnnforge.sweep.parent import Parent, parent
from cnnforge.sweep.points import Point, replicas
from cnnforge.sweep.study import JOURNAL, Known, Study
from cnnforge.sweep.trials import Outcome, State, Trial, as_trial, mean_result, score, seconds_before
from cnnforge.sweep.workers import Worker, Workers
from cnnforge.tracking import journal_path
from cnnforge.tracking.state import LockHeldError, acquire
from cnnforge.train.folder import new_folder, point_latest, write_text
from cnnforge.train.signals import StopRequest

#: Points in a row that bring nothing new, after which a sampler has nothing more to say.
MOST_IN_VAIN = 100


class View(Protocol):
    """Where a person watches a sweep."""

    def note(self, text: str) -> None:
        """A line worth knowing."""

    def begin(self, outcome: Outcome, workers: int) -> None:
        """Trials are about to run; ``outcome`` changes as they do."""

    def trial(self, trial: Trial) -> None:
        """A trial has another state."""

    def progress(self, trial: Trial) -> None:
        """A trial is further on."""

    def end(self) -> None:
        """The sweep is over, one way or another."""


def begin(checked: CheckedSpace) -> Path:
    """Make the folder of a new sweep."""
    first = checked.feasible[0].spec
    assert first is not None, "a feasible point has a run"
    return new_folder(Path(first.run.dir), first.run.name or checked.spec.name)


def run(checked: CheckedSpace, view: View, folder: Path, *, retry: bool = False) -> Outcome:
    """Train every point, until all are done or the budget is spent. Returns what came of it.

    folder: of the sweep, new or begun before;  retry: try trials that failed once more
    Raises ConfigError where the storage does not answer or has another sweep; InterruptedRun where a person stops it.
    """
    first = checked.feasible[0].spec
    assert first is not None, "a feasible point has a run"
    point_latest(folder)
    with _lock(folder) as owner, StopRequest() as stop, Workers(checked.spec.parallel, folder / "workers.log") as pool:
        where = checked.spec.storage or str(folder / JOURNAL)
        study = Study(where, folder.name, checked.spec, checked.space, _meant(checked), first.trainer.epochs)
        if study.made or checked.spec.storage is None:
            study.enqueue([(point.number, point.values) for point in checked.points], _blank(checked))
        study.wait_until_ready()
        outcome = Outcome(folder, checked, seconds=seconds_before(folder))
        again = journal_path(folder).exists()
        with parent(outcome, first) as above:
            above.begin(again)
            _Driver(outcome, view, study, pool, stop, owner, retry, above).drive()
            above.end("finished" if stop.reason is None else "interrupted")
        for note in above.notes:
            view.note(note)
        if stop.reason is not None:
            stop.reason.where = str(folder)
            stop.reason.fix = f"cnnforge sweep resume={folder.name} goes on where it stopped"
            raise stop.reason
        return outcome


def _meant(checked: CheckedSpace) -> str:
    """Differs for sweeps that must not be mixed: of another space, with other objectives, of other runs."""
    spec = checked.spec
    about = spec.model_dump_json(include={"space", "objective", "sampler", "replicate"})
    first = checked.feasible[0].spec
    assert first is not None, "a feasible point has a run"
    anywhere = first.model_dump_json(include={"model", "data", "augment", "trainer"})
    return sha256(f"{about}\n{anywhere}".encode()).hexdigest()


def _blank(checked: CheckedSpace) -> int:
    """Trials whose points are chosen while the sweep runs."""
    return 0 if checked.points else checked.spec.budget.trials or 0


class _Driver:
    """One life of a sweep."""

    def __init__(
        self, outcome: Outcome, view: View, study: Study, pool: Workers, stop: StopRequest, owner: str, retry: bool,
        parent: Parent,
    ) -> None:  # fmt: skip
        self.checked, self.folder, self.view, self.study = outcome.checked, outcome.folder, view, study
        self.pool, self.stop, self.owner, self.retry, self.parent = pool, stop, owner, retry, parent
        self.outcome = outcome
        self.known: dict[int, Known] = {}
        checked = outcome.checked
        self.points = {point.number: point for point in (*checked.points, *checked.dropped) if checked.points}
        self.orphans: list[Known] = []
        self.tries: dict[int, int] = {}
        self.said: set[str] = set()
        self.began, self.before = monotonic(), outcome.seconds
        self.failures = self.in_vain = 0
        self.told = False

    def drive(self) -> None:
        """Until nothing is left to do."""
        self._remember()
        self.view.begin(self.outcome, self.pool.count)
        try:
            while True:
                self._assign()
                if not self.pool.busy:
                    break
                if (heard := self.pool.next(0.2)) is not None:
                    self._hear(*heard)
                if self.stop.reason is not None:
                    self._stop()
        finally:
            for worker in self.pool.busy:  # only where something went wrong here
                assert worker.trial is not None
                worker.trial.state = "waiting"
            for number, one in self.known.items():
                if not self.outcome.trials[number].over:
                    self.study.take_over(one, "")
            self._learn()
            self._write()
            self.view.end()

    # What was before.

    def _remember(self) -> None:
        """What the storage knows of; trials whose drivers are dead, and with ``retry`` failed ones, are ours."""
        for trial in [Trial(point, "dropped") for point in self.checked.dropped if self.checked.points]:
            self.outcome.trials[trial.number] = trial
        for point in self.checked.points:
            self.outcome.trials[point.number] = Trial(point)
        known = self.study.trials()
        later = {one.number for one in known if not one.over}
        for one in known:
            if one.over and self.retry and one.about.get("state") == "failed" and one.number not in later:
                self.study.again(one)
                later.add(one.number)
            elif one.claimed and (not one.owner or self._is_dead(one.owner)):
                self.study.take_over(one, self.owner)
                self.orphans.append(one)
            elif one.over:
                self._take(one)
        done, cut = self.outcome.count("finished", "pruned"), len(self.orphans)
        if done or cut:
            self.view.note(f"{done} trials were done before{f', {cut} half done' if cut else ''}")

    def _take(self, one: Known) -> None:
        """A trial that is over, perhaps by another driver's work."""
        trial = self._trial(one)
        about = one.about
        trial.state, trial.result = about["state"], dict(about.get("result", {}))
        trial.error, trial.code = about.get("error"), about.get("code", 1)

    def _learn(self) -> None:
        """What other drivers have done in the meantime, and are at."""
        for one in self.study.trials():
            if one.number in self.known:
                continue
            if one.over:
                self._take(one)
            elif one.claimed and one.values:
                self._trial(one).state = "running"

    def _trial(self, one: Known) -> Trial:
        trial = self.outcome.trials.get(one.number)
        if trial is None:
            trial = Trial(self._point(one))
            self.outcome.trials[one.number] = trial
        return trial

    def _point(self, one: Known) -> Point:
        return self.points.get(one.number) or self.checked.resolve(one.values, one.number)

    def _is_dead(self, owner: str) -> bool:
        """Has the driver of that name let go of its lock? One without a lock here works elsewhere."""
        lock = self.folder / owner
        if not lock.is_file():
            return False
        try:
            acquire(lock, timeout=0.0).close()
        except LockHeldError:
            return False
        return True

    # What is next.

    def _assign(self) -> None:
        """Give trials to idle workers while there are any, and the budget is not spent."""
        while self._may_go_on() and (worker := self.pool.idle()) is not None:
            one = self.orphans.pop(0) if self.orphans else self._claimed()
            if one is None:
                return
            self._begin(worker, one)

    def _may_go_on(self) -> bool:
        spec = self.checked.spec
        if self.stop.reason is not None:
            return False
        if spec.max_failures is not None and self.failures > spec.max_failures:
            return False
        over = spec.budget.seconds is not None and monotonic() - self.began >= spec.budget.seconds
        if over and not self.told:
            self.told = True
            self.view.note("the time is up: no more trials are begun")
        return not over

    def _claimed(self) -> Known | None:
        """The next trial that can be trained and is new; others are told at once."""
        identities = {
            trial.point.identity: trial for trial in self.outcome.trials.values()
            if trial.point.feasible and trial.state != "same"
        } if not self.checked.points else {}  # fmt: skip
        while True:
            if not self.study.waiting() and self._endless():
                self.study.enqueue_blank()
            one = self.study.claim(self.owner)
            if one is None:
                return None
            trial = self._trial(one)
            same = identities.get(trial.point.identity) if trial.point.feasible else None
            if trial.point.feasible and (same is None or same.number == one.number):
                self.in_vain = 0
                return one
            self._in_vain(one, trial, same)

    def _endless(self) -> bool:
        """Does the sampler go on until the time is up?"""
        return not self.checked.points and self.checked.spec.budget.trials is None and self.in_vain < MOST_IN_VAIN

    def _in_vain(self, one: Known, trial: Trial, same: Trial | None) -> None:
        """A point that cannot be trained or was there before: another is drawn for it."""
        trial.state = "dropped" if same is None else "same"
        about: dict[str, Any] = {"state": trial.state}
        if same is not None:
            about["result"] = trial.result = {**same.result, "same_as": same.number}
        self.study.tell(one, about, None)
        self.in_vain += 1
        if self.in_vain == MOST_IN_VAIN:
            self.view.note(f"{MOST_IN_VAIN} points in a row brought nothing new: the sampler is done")
        elif self.in_vain < MOST_IN_VAIN and self.checked.spec.budget.trials is not None:
            self.study.enqueue_blank()

    def _begin(self, worker: Worker, one: Known) -> None:
        trial = self._trial(one)
        spec = trial.point.spec
        assert spec is not None, "only points that can be trained are tried"
        self.known[one.number] = one
        runs = replicas(spec, self.checked.spec.replicate)
        folders = []
        for name, own in runs.items():
            folder = self.folder / "trials" / str(one.number) / name
            if not (folder / "config.yaml").is_file():
                folder.mkdir(parents=True, exist_ok=True)
                write_text(folder / "config.yaml", run_text(as_trial(own, self.checked, folder.parent)))
            folders.append(folder)
        trial.state, trial.runs, trial.epochs = "running", (0, len(runs)), spec.trainer.epochs
        worker.order(trial, folders)
        self._write()
        self.view.trial(trial)

    # What workers say.

    def _hear(self, worker: Worker, said: Mapping[str, Any]) -> None:
        trial = worker.trial
        if trial is None:
            return
        match said["kind"]:
            case "note":
                if said["text"] not in self.said:  # what all trials have to say is worth hearing once
                    self.said.add(said["text"])
                    self.view.note(said["text"])
            case "begin":
                trial.runs, trial.epochs = (said["run"], trial.runs[1]), said["epochs"]
                trial.epoch, trial.part = 0, 0.0
            case "step":
                trial.part = said["step"] / max(said["steps"], 1)
                self.view.progress(trial)
            case "epoch":
                worker.tell({"prune": self._epoch(trial, said)})
            case "done":
                trial.result = mean_result(said["results"])
                self._over(worker, "finished")
            case "pruned":
                trial.result = dict(said["results"][0])
                self._over(worker, "pruned")
            case "failed":
                self._failed(worker, "failed", said["error"], said["code"])
            case "interrupted":
                self._interrupted(worker)
            case "died" if worker.stopping:
                self._interrupted(worker)
            case "died":
                number = said["signal"]
                why = "it ended by itself, see workers.log" if number <= 0 else f"signal {number}"
                why += ": not enough memory, or kill -9" if number == 9 else ""
                self._failed(worker, "killed", {"what": "its process died", "why": why}, 1)

    def _epoch(self, trial: Trial, said: Mapping[str, Any]) -> bool:
        """Note where it is; is it to be given up?"""
        trial.epoch = said["epoch"]
        goal = self.checked.spec.objective[0]
        value = said["metrics"].get(goal.metric)
        trial.score = value if isinstance(value, int | float) else trial.score
        self.view.progress(trial)
        if said["run"] or value is None or len(self.checked.spec.objective) > 1:
            return False  # the first run of several stands for all
        return self.study.report(self.known[trial.number], trial.epoch, value)

    def _over(self, worker: Worker, state: State) -> None:
        trial = worker.trial
        assert trial is not None
        worker.trial, trial.state = None, state
        trial.error = None
        about = {"state": state, "result": trial.result}
        scores = self.outcome.scores(trial) if state == "finished" else None
        self.study.tell(self.known[trial.number], about, scores)
        goal = self.checked.spec.objective[0]
        trial.score = score(trial, goal) if state == "finished" else trial.score
        self._write()
        self.view.trial(trial)

    def _failed(self, worker: Worker, state: State, error: dict[str, str], code: int) -> None:
        """Tried again while the config allows it; then told. What was killed stays open, for a later life."""
        trial = worker.trial
        assert trial is not None
        tries = self.tries[trial.number] = self.tries.get(trial.number, 0) + 1
        worker.trial, trial.error, trial.code = None, error, code
        if tries <= self.checked.spec.retry:
            self.view.note(f"trial {trial.number} failed and is tried again: {error['what']}")
            trial.state = "waiting"
            self.orphans.append(self.known[trial.number])
            return
        trial.state = state
        self.failures += 1
        if state == "failed":
            about = {"state": state, "error": error, "code": code}
            self.study.tell(self.known[trial.number], about, None)
        self._write()
        self.view.trial(trial)
        most = self.checked.spec.max_failures
        if most is not None and self.failures == most + 1:
            self.view.note(f"{self.failures} trials failed: no more are begun (max_failures: {most})")

    def _interrupted(self, worker: Worker) -> None:
        assert worker.trial is not None
        worker.trial.state = "waiting"
        self.view.trial(worker.trial)
        worker.trial = None

    def _stop(self) -> None:
        for worker in self.pool.busy:
            if not worker.stopping:
                worker.stop()

    def _write(self) -> None:
        self.parent.ended()
        self.outcome.seconds = self.before + monotonic() - self.began
        self.outcome.write()


@contextmanager
def _lock(folder: Path) -> Iterator[str]:
    """A lock of this driver's own, by whose name others see whether it lives."""
    name = f".driver-{socket.gethostname()}-{os.getpid()}"
    with acquire(folder / name, timeout=1.0):
        try:
            yield name
        finally:
            (folder / name).unlink(missing_ok=True)
