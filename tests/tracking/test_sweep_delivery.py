"""What a sweep's sender does when, with a tracker that fails to order in place of MLflow."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cnnforge.tracking import Journal, sweep
from cnnforge.tracking.delivery import Delivery
from cnnforge.tracking.entries import Batch
from cnnforge.tracking.family import trial_runs
from cnnforge.tracking.mlflow import UnreachableError, Wanted
from cnnforge.tracking.state import Settings, load, locked, sending_lock
from cnnforge.tracking.sweep import SweepDelivery

SETTINGS = Settings(follow=True, experiment="e", run_name="sweep", trials=True)


@dataclass
class Tracker:
    """Keeps what is sent. down: nothing works; broken: names of run folders whose records make it fail."""

    down: bool = False
    broken: set[str] = field(default_factory=set)
    runs: dict[str, FakeRun] = field(default_factory=dict)
    calls: int = 0

    def open_run(self, _address: str, wanted: Wanted) -> FakeRun:
        self.calls += 1
        if self.down:
            raise UnreachableError("Connection refused")
        return self.runs.setdefault(wanted.ours, FakeRun(self, wanted, wanted.ours[:8]))

    def names(self) -> list[str]:
        return [run.wanted.run_dir.name for run in self.runs.values()]


@dataclass
class FakeRun:
    """Stands for ``Store``."""

    tracker: Tracker
    wanted: Wanted
    run_id: str
    status: str = "RUNNING"
    params: dict[str, str] = field(default_factory=dict)
    metrics: int = 0

    def log(self, batch: Batch) -> list[str]:
        self.tracker.calls += 1
        if self.tracker.down or self.wanted.run_dir.name in self.tracker.broken:
            raise RuntimeError("no")
        self.metrics += sum(len(metrics) for metrics, _, _ in batch.calls(*3 * [lambda *one: one]))
        batch.clear()
        return []

    def resume(self) -> None:
        self.status = "RUNNING"

    def end(self, status: str, _word: str, _time: int) -> None:
        self.tracker.calls += 1
        self.status = status


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> Tracker:
    there = Tracker()
    monkeypatch.setattr("cnnforge.tracking.delivery.open_run", there.open_run)
    monkeypatch.setattr(sweep, "LINGER_SECONDS", 0.0)
    return there


class Clock:
    """In place of the module ``time``."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.asleep()

    def asleep(self) -> None:
        """What happens meanwhile."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    there = Clock()
    monkeypatch.setattr(sweep, "time", there)
    return there


def make_sweep(folder: Path, trials: int) -> Path:
    folder.mkdir()
    with Journal(folder):
        pass
    for number in range(trials):
        make_trial(folder, str(number))
    return folder


def make_trial(sweep_dir: Path, place: str) -> Path:
    run_dir = sweep_dir / "trials" / place
    run_dir.mkdir(parents=True)
    grow(run_dir)
    return run_dir


def grow(run_dir: Path) -> None:
    with Journal(run_dir) as journal:
        journal.metrics({"val_loss": 1.0}, 0)
        journal.end("finished")


def test_the_sweep_comes_first_and_trials_in_the_order_of_their_numbers(tmp_path: Path, tracker: Tracker) -> None:
    folder = make_sweep(tmp_path / "sweep", 12)
    make_trial(folder, "12/seed1")
    make_trial(folder, "12/seed0")
    SweepDelivery(folder, SETTINGS).send()
    assert tracker.names() == ["sweep", *map(str, range(12)), "seed0", "seed1"]
    parents = {run.wanted.parent for run in tracker.runs.values()}
    assert parents == {None, load(folder).mlflow_run_id}
    names = [run.wanted.name for run in tracker.runs.values()]
    assert names[-2:] == ["sweep-12-seed0", "sweep-12-seed1"]  # nobody gave them names


def test_no_trial_is_sent_before_the_sweep(tmp_path: Path, tracker: Tracker) -> None:
    folder = tmp_path / "sweep"
    make_trial(folder, "0")
    delivery = SweepDelivery(folder, SETTINGS)
    delivery.send()
    assert tracker.names() == []
    with Journal(folder):
        delivery.send()
    assert tracker.names() == ["sweep", "0"]


def test_what_has_ended_costs_nothing_until_it_grows(
    tmp_path: Path, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_sweep(tmp_path / "sweep", 3)
    delivery = SweepDelivery(folder, SETTINGS)
    delivery.send()
    calls = tracker.calls
    with monkeypatch.context() as patch:
        patch.setattr(sweep, "Delivery", None)  # not even a file of theirs is read
        for _ in range(3):
            delivery.send()
    assert tracker.calls == calls
    grow(folder / "trials" / "1")
    delivery.send()
    assert [run.metrics for run in tracker.runs.values()] == [0, 1, 2, 1]
    # neither does it in the next life of the sender
    calls = tracker.calls
    SweepDelivery(folder, SETTINGS).send()
    assert tracker.calls == calls


def test_many_trials_need_few_open_files_and_few_looks(
    tmp_path: Path, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_sweep(tmp_path / "sweep", 400)
    delivery = SweepDelivery(folder, SETTINGS)
    tracker.down = True
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 12, hard))
    try:
        with pytest.raises(UnreachableError):
            delivery.send()
        delivery.failed("down")
        tracker.down = False
        delivery.send()
        assert len(tracker.runs) == 401
        looks: list[Path] = []
        real = sweep.runs_of_trial
        monkeypatch.setattr(sweep, "runs_of_trial", lambda one: looks.append(one) or real(one))
        delivery.send()
        assert len(looks) == sweep.NEWEST + sweep.OTHERS
        # in turn, every one of them is looked at
        grow(folder / "trials" / "200")
        make_trial(folder, "400")
        for _ in range(3):
            delivery.send()
        assert len(set(looks)) == 401
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    sent = {run.wanted.run_dir.name: run.metrics for run in tracker.runs.values()}
    assert (sent["200"], sent["400"]) == (2, 1)


def test_a_tracker_that_is_down_for_a_while_is_not_asked_for_every_trial(
    tmp_path: Path, tracker: Tracker, clock: Clock
) -> None:
    folder = make_sweep(tmp_path / "sweep", 2)
    delivery = SweepDelivery(folder, SETTINGS)
    delivery.send()
    tracker.down = True
    for number in range(2, 30):
        make_trial(folder, str(number))
    before = tracker.calls
    with pytest.raises(UnreachableError):
        delivery.send()
    delivery.failed("down")
    assert tracker.calls == before + 1
    assert load(folder / "trials" / "2").error == "Connection refused"
    tracker.down = False
    clock.now += 5
    delivery.send()
    assert len(tracker.runs) == 31
    assert {run.metrics for run in tracker.runs.values()} == {0, 1}


def test_a_trial_that_cannot_be_sent_holds_up_no_other(tmp_path: Path, tracker: Tracker, clock: Clock) -> None:
    folder = make_sweep(tmp_path / "sweep", 3)
    tracker.broken = {"0"}
    delivery = SweepDelivery(folder, SETTINGS)
    with pytest.raises(RuntimeError):
        delivery.send()
    delivery.send()  # the others; it rests
    assert [run.metrics for run in tracker.runs.values()] == [0, 0, 1, 1]
    grow(folder / "trials" / "1")
    clock.now += 3
    with pytest.raises(RuntimeError):  # it is tried again, after the others
        delivery.send()
    assert [run.metrics for run in tracker.runs.values()] == [0, 0, 2, 1]
    tracker.broken = set()
    clock.now += 5
    delivery.send()
    assert [run.metrics for run in tracker.runs.values()] == [0, 1, 2, 1]


def test_a_dead_writer_is_noticed_a_living_one_left_alone(tmp_path: Path, tracker: Tracker, clock: Clock) -> None:
    folder = make_sweep(tmp_path / "sweep", 0)
    delivery = SweepDelivery(folder, SETTINGS)
    run_dir = folder / "trials" / "0"
    run_dir.mkdir(parents=True)
    journal = Journal(run_dir)
    journal.metrics({"val_loss": 1.0}, 0)
    with (run_dir / "journal.jsonl").open("a") as file:
        file.write('{"seq": 2, "ti')  # killed in the middle of a record
    delivery.send()
    clock.now += sweep.QUIET_SECONDS + 1
    delivery.send()
    assert load(run_dir).status == "RUNNING"
    journal.close()
    delivery.send()
    assert load(run_dir).status == "KILLED"
    calls = tracker.calls
    delivery.send()
    assert tracker.calls == calls
    grow(run_dir)
    delivery.send()
    assert load(run_dir).status == "FINISHED"


def test_at_the_end_the_dead_are_killed_and_the_living_run_on(tmp_path: Path, tracker: Tracker) -> None:
    folder = make_sweep(tmp_path / "sweep", 0)
    for name in ("0", "1"):
        (folder / "trials" / name).mkdir(parents=True)
    with Journal(folder / "trials" / "0"):
        pass
    delivery = SweepDelivery(folder, SETTINGS)
    with Journal(folder / "trials" / "1"):
        delivery.send()
        delivery.close()
    assert [run.status for run in tracker.runs.values()] == ["KILLED", "KILLED", "RUNNING"]


def test_a_trial_that_ends_just_after_its_sweep_is_waited_for(
    tmp_path: Path, tracker: Tracker, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "LINGER_SECONDS", 5.0)
    folder = make_sweep(tmp_path / "sweep", 0)
    run_dir = folder / "trials" / "0"
    run_dir.mkdir(parents=True)
    journal = Journal(run_dir)

    def end() -> None:
        if clock.now == 1002:
            journal.end("interrupted")
            journal.close()

    monkeypatch.setattr(clock, "asleep", end)
    SweepDelivery(folder, SETTINGS).close()
    assert (load(run_dir).status, clock.now) == ("KILLED", 1002.0)
    assert tracker.names() == ["sweep", "0"]


def test_what_a_writer_says_while_it_is_looked_for_counts(
    tmp_path: Path, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_sweep(tmp_path / "sweep", 0)
    run_dir = folder / "trials" / "0"
    run_dir.mkdir(parents=True)
    with Journal(run_dir) as journal:

        def is_written(_: Path) -> bool:
            journal.end("pruned")
            return False

        monkeypatch.setattr(sweep, "is_written", is_written)
        SweepDelivery(folder, SETTINGS).close()
    assert load(run_dir).status == "FINISHED"


def test_a_trial_that_another_sender_holds_is_left_to_it(tmp_path: Path, tracker: Tracker) -> None:
    folder = make_sweep(tmp_path / "sweep", 1)
    delivery = SweepDelivery(folder, SETTINGS)
    run_dir = folder / "trials" / "0"
    with locked(sending_lock(run_dir)):
        delivery.send()
        assert tracker.names() == ["sweep"]
    with Journal(run_dir) as journal:  # it goes on for a while
        journal.metrics({"val_loss": 0.5}, 1)
        delivery.send()
        assert load(run_dir).status == "RUNNING"  # whatever its last life ended as
        journal.metrics({"val_loss": 0.2}, 2)
        with locked(sending_lock(run_dir)):
            delivery.send()
            assert [run.metrics for run in tracker.runs.values()] == [0, 2]
            Delivery(run_dir, Settings(follow=False)).send()
        delivery.send()
    assert [run.metrics for run in tracker.runs.values()] == [0, 3]  # once


def test_a_trial_goes_where_its_sweep_goes(tmp_path: Path, tracker: Tracker) -> None:
    folder = make_sweep(tmp_path / "sweep", 2)
    SweepDelivery(folder, SETTINGS).send()
    moved = Settings(follow=True, uri="http://new:5000", experiment="e", run_name="sweep", trials=True)
    SweepDelivery(folder, moved).send()
    states = [load(run_dir) for run_dir in (folder, *trial_runs(folder))]
    assert {(state.store, state.uri) for state in states} == {("http://new:5000", "http://new:5000")}


def test_a_removed_folder_is_no_trouble(tmp_path: Path, tracker: Tracker, clock: Clock) -> None:
    folder = make_sweep(tmp_path / "sweep", 2)
    tracker.broken = {"0"}
    delivery = SweepDelivery(folder, SETTINGS)
    with pytest.raises(RuntimeError):
        delivery.send()
    gone = folder / "trials" / "0"
    for path in gone.iterdir():
        path.unlink()
    gone.rmdir()
    clock.now += 60
    delivery.send()
    delivery.close()
    assert not gone.exists()
    assert load(folder / "trials" / "1").status == "FINISHED"
