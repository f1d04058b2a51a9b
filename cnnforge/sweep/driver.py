"""Running what has been checked: trials side by side, each in a worker process, until the budget is spent.

The study (``study.py``) says which trial is next and has, at any time, what came of each; run folders
``runs/SWEEP/trials/N`` have the trainings; ``sweep.json`` is a copy for people and programs. A driver may be killed at
any moment: the next one takes over what it was at, from the last checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing, suppress
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from cnnforge.config import run_text
from cnnforge.errors import CnnforgeError, ConfigError
from cnnforge.sweep.check import CheckedSpace
from cnnforge.sweep.ledger import Ledger
from cnnforge.sweep.parent import Parent, parent
from cnnforge.sweep.points import replicas
from cnnforge.sweep.pool import Pool, Worker, pool_of
from cnnforge.sweep.presence import Presence, present
from cnnforge.sweep.study import JOURNAL, Known, Study
from cnnforge.sweep.trials import Outcome, State, Trial, as_trial, mean_result, score, seconds_before
from cnnforge.tracking import journal_path
from cnnforge.tracking.state import locked
from cnnforge.train.folder import new_folder, point_latest, shared_folder, write_text
from cnnforge.train.signals import StopRequest

#: Points in a row that bring nothing new, after which a sampler has nothing more to say.
MOST_IN_VAIN = 100
#: Seconds after which the storage is asked again whether there is a trial, where there was none.
ASK_EVERY = 2.0
#: So many times as long as ``sweep.json`` took to write it is left alone: that of thousands of trials takes a while.
RESTS = 20
#: The lock of who writes it for the last time.
WRITING = ".sweep.lock"
#: The file that says which study the trials in a folder are of, where that is in a shared storage.
STUDY = ".study"


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
    """Make the folder of a new sweep. In a shared storage the name says which sweep it is: its drivers share it."""
    first = checked.feasible[0].spec
    assert first is not None, "a feasible point has a run"
    make = new_folder if checked.spec.storage is None else shared_folder
    return make(Path(first.run.dir), first.run.name or checked.spec.name)


def run(checked: CheckedSpace, view: View, folder: Path, *, retry: bool = False) -> Outcome:
    """Train every point, until all are done or the budget is spent. Returns what came of it.

    folder: of the sweep, new or begun before;  retry: try trials that failed once more
    Raises ConfigError where the storage cannot be opened or has another sweep, CnnforgeError where it goes away;
    InterruptedRun where a person stops it.
    """
    first = checked.feasible[0].spec
    assert first is not None, "a feasible point has a run"
    point_latest(folder)
    with present(folder) as me, StopRequest() as stop:
        where = checked.spec.storage or str(folder / JOURNAL)
        study = Study(where, folder.name, checked.spec, checked.space, _meant(checked), first.trainer.epochs)
        with closing(study), study.answering(), pool_of(checked.spec, folder) as pool:
            me.sign(study)
            points = [(point.number, point.values) for point in checked.points]
            if study.made or checked.spec.storage is None:
                study.enqueue(points, _blank(checked))
            study.wait_until_ready(points, _blank(checked))
            if checked.spec.storage is not None:
                _refuse_others(folder, study.ready)
            outcome = Outcome(folder, checked, seconds=seconds_before(folder))
            again = journal_path(folder).exists()
            with parent(outcome, first) as above:
                above.begin(again)
                _Driver(outcome, view, study, pool, stop, me, retry, above).drive()
                above.end("finished" if stop.reason is None else "interrupted")
        for note in above.notes:
            view.note(note)
        if stop.reason is not None:
            stop.reason.where = str(folder)
            stop.reason.fix = f"cnnforge sweep resume={folder.name} goes on where it stopped"
            raise stop.reason
        return outcome


def _refuse_others(folder: Path, study: str) -> None:
    """Raises ConfigError where the folder's trials are not of this study: what they left would be taken for its own."""
    file = folder / STUDY
    if file.is_file():
        if file.read_text("utf-8") == study:
            return
    elif not any((folder / name).exists() for name in (JOURNAL, "config.yaml")):
        write_text(file, study)
        return
    raise ConfigError(
        f"{folder.name} is another sweep's or run's folder", where=str(folder),
        why="the sweep of that name in sweep.storage is not the one that made it", fix="another run.name or run.dir",
    )  # fmt: skip


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
        self, outcome: Outcome, view: View, study: Study, pool: Pool, stop: StopRequest, me: Presence, retry: bool,
        parent: Parent,
    ) -> None:  # fmt: skip
        self.checked, self.folder, self.view, self.study = outcome.checked, outcome.folder, view, study
        self.pool, self.stop, self.me, self.retry, self.parent = pool, stop, me, retry, parent
        self.outcome, self.ledger = outcome, Ledger(outcome, study, me)
        self.tries: dict[int, int] = {}
        self.said: set[str] = set()
        self.began, self.before = monotonic(), outcome.seconds
        self.ask_at = self.write_at = 0.0
        self.failures = self.in_vain = 0
        self.told = False

    def drive(self) -> None:
        """Until nothing is left to do."""
        self.ledger.begin(self.retry)
        done, cut = self.outcome.count("finished", "pruned"), len(self.ledger.orphans)
        if done or cut:
            self.view.note(f"{done} trials were done before{f', {cut} half done' if cut else ''}")
        self.view.begin(self.outcome, self.pool.count)
        try:
            while True:
                if self.me.sign(self.study):
                    self.ledger.look(adopt=self._may_go_on())
                self._assign()
                if not self.pool.busy and not self._is_more():
                    break
                if (heard := self.pool.next(0.2)) is not None:
                    self._hear(*heard)
                if self.stop.reason is not None:
                    self._stop()
        finally:
            for worker in self.pool.busy:  # only where something went wrong here
                assert worker.trial is not None
                worker.trial.state = "waiting"
            with suppress(CnnforgeError), self.study.answering():
                self.ledger.let_go()
            with locked(self.folder / WRITING):  # who comes last of those that share the folder knows of all
                with suppress(CnnforgeError), self.study.answering():
                    self.ledger.look(adopt=False)
                self._write(last=True)
            self.view.end()

    def _is_more(self) -> bool:
        """Nothing is under way here: what have others done, and has a driver died over its trials?"""
        going = self._may_go_on()
        self.ledger.look(adopt=going)
        return going and bool(self.ledger.orphans)

    # What is next.

    def _assign(self) -> None:
        """Give trials to idle workers while there are any, and the budget is not spent."""
        while self._may_go_on() and (worker := self.pool.idle()) is not None:
            one = self.ledger.orphans.pop(0) if self.ledger.orphans else self._claimed()
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
        if monotonic() < self.ask_at:
            return None
        identities = {
            trial.point.identity: trial for trial in self.outcome.trials.values()
            if trial.point.feasible and trial.state != "same"
        } if not self.checked.points else {}  # fmt: skip
        while True:
            if self._endless() and not self.study.waiting():
                self.study.enqueue_blank()
            one = self.study.claim(self.me.name)
            if one is None:
                self.ask_at = monotonic() + ASK_EVERY
                return None
            trial = self.ledger.trial(one)
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
        trial = self.ledger.trial(one)
        spec = trial.point.spec
        assert spec is not None, "only points that can be trained are tried"
        self.ledger.known[one.number] = one
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
                self._failed(worker, "killed", {"what": "its process died", "why": said["why"]}, 1)

    def _epoch(self, trial: Trial, said: Mapping[str, Any]) -> bool:
        """Note where it is; is it to be given up?"""
        trial.epoch = said["epoch"]
        goal = self.checked.spec.objective[0]
        value = said["metrics"].get(goal.metric)
        trial.score = value if isinstance(value, int | float) else trial.score
        self.view.progress(trial)
        if said["run"] or value is None or len(self.checked.spec.objective) > 1:
            return False  # the first run of several stands for all
        return self.study.report(self.ledger.known[trial.number], trial.epoch, value)

    def _over(self, worker: Worker, state: State) -> None:
        trial = worker.trial
        assert trial is not None
        worker.trial, trial.state = None, state
        trial.error = None
        about = {"state": state, "result": trial.result}
        scores = self.outcome.scores(trial) if state == "finished" else None
        self.study.tell(self.ledger.known[trial.number], about, scores)
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
            self.ledger.orphans.append(self.ledger.known[trial.number])
            return
        trial.state = state
        self.failures += 1
        if state == "failed":
            about = {"state": state, "error": error, "code": code}
            self.study.tell(self.ledger.known[trial.number], about, None)
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

    def _write(self, last: bool = False) -> None:
        """Bring ``sweep.json`` up to date, for a twentieth of the time at most; ``last`` in any case."""
        self.parent.ended()
        began = monotonic()
        if not last and began < self.write_at:
            return
        self.outcome.seconds = self.before + began - self.began
        self.outcome.write()
        self.write_at = monotonic() + RESTS * (monotonic() - began)
