"""A sweep's way into a real MLflow database: one process, one parent run, its trials below it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cnnforge.tracking import Journal, Outcome, Status, announce, mlflow_run_id, start, start_sweep
from cnnforge.tracking.family import trial_runs
from cnnforge.tracking.finding import with_family
from cnnforge.tracking.sender import send_all
from cnnforge.tracking.state import load
from tests.waiting import closed_port, wait_for

Query = Callable[..., list[tuple[Any, ...]]]
NewRun = Callable[[], Path]


def write_trial(sweep_dir: Path, place: str, status: Status | None, *, uri: str | None = None) -> Path:
    """A trial's whole life; ``None``: it dies without a word."""
    run_dir = sweep_dir / "trials" / place
    run_dir.mkdir(parents=True)
    announce(run_dir, uri=uri, experiment="sweeps", run_name=f"{sweep_dir.name}-{place}")
    with Journal(run_dir) as journal:
        journal.params({"lr": len(place)})
        for step in range(3):
            journal.metrics({"val_loss": 1 / (step + 1)}, step)
        if status is not None:
            journal.end(status)
    return run_dir


def children(query: Query, parent: str | None) -> dict[str, tuple[str, str | None]]:
    """By name: MLflow's status and our word, of the runs below."""
    rows = query(
        "SELECT r.name, r.status, w.value FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid "
        "LEFT JOIN tags w ON w.run_uuid = r.run_uuid AND w.key = 'cnnforge.status' "
        "WHERE t.key = 'mlflow.parentRunId' AND t.value = ?",
        parent,
    )
    assert len({name for name, _, _ in rows}) == len(rows), "a trial is there twice"
    return {name: (status, word) for name, status, word in rows}


def tags(query: Query, run_id: str | None) -> dict[str, str]:
    return dict(query("SELECT key, value FROM tags WHERE run_uuid = ? AND key LIKE 'cnnforge.%'", run_id))


def status_of(query: Query, run_dir: Path) -> str:
    run_id = mlflow_run_id(run_dir)
    found = query("SELECT status FROM runs WHERE run_uuid = ?", run_id) if run_id is not None else []
    return str(found[0][0]) if found else ""  # the id is known an instant before another connection sees the run


ALIVE = """
import sys, time
from pathlib import Path
from cnnforge.tracking import Journal
with Journal(Path(sys.argv[1])) as journal:
    journal.metrics({"val_loss": 0.5}, 0)
    print("ready", flush=True)
    time.sleep(100)
"""


@dataclass(frozen=True)
class Swept:
    sweep_dir: Path
    outcome: Outcome


@pytest.fixture(scope="module")
def swept(new_run: NewRun, query: Query) -> Swept:
    """A whole sweep: every way for a trial to end, replicas, one that is killed and goes on, one that outlives it."""
    sweep_dir = new_run()
    with Journal(sweep_dir) as journal, pytest.MonkeyPatch.context() as environment:
        environment.delenv("MLFLOW_TRACKING_URI", raising=False)  # set before a test's own fixtures see to that
        sender = start_sweep(sweep_dir, uri=None, experiment="sweeps", run_name="my sweep")
        journal.params({"space": {"lr": [0.1, 0.01]}})
        killed = write_trial(sweep_dir, "5", None)
        for place, status in [("0", "finished"), ("1", "pruned"), ("2", "diverged"), ("4", "interrupted")]:
            write_trial(sweep_dir, place, status)  # type: ignore[arg-type]
        for place, status in [("3/seed0", "finished"), ("3/seed1", "failed")]:
            write_trial(sweep_dir, place, status)  # type: ignore[arg-type]
        (sweep_dir / "trials" / "notes").mkdir()
        unannounced = sweep_dir / "trials" / "10"
        unannounced.mkdir()
        living = subprocess.Popen([sys.executable, "-c", ALIVE, str(unannounced)], stdout=subprocess.PIPE)
        try:
            wait_for(lambda: status_of(query, killed) == "KILLED", seconds=60)
            assert status_of(query, sweep_dir) == "RUNNING"
            with Journal(killed) as again:
                again.metrics({"val_loss": 0.1}, 3)
                wait_for(lambda: status_of(query, killed) == "RUNNING")
                again.end("early_stopped")
            wait_for(lambda: status_of(query, killed) == "FINISHED")
            write_trial(sweep_dir, "11", None)
            journal.metrics({"best_val_loss": 0.1}, 3)
            journal.end("finished")
            outcome = sender.finish(timeout=60)
            assert living.poll() is None
        finally:
            living.kill()
            living.communicate()
    return Swept(sweep_dir, outcome)


def test_the_sweep_is_the_parent_of_its_trials_with_true_status(swept: Swept, query: Query) -> None:
    name = swept.sweep_dir.name
    assert (swept.outcome.pending, swept.outcome.trouble) == (0, "")
    assert query("SELECT name, status FROM runs WHERE run_uuid = ?", swept.outcome.run_id) == [("my sweep", "FINISHED")]
    assert children(query, swept.outcome.run_id) == {
        f"{name}-0": ("FINISHED", "finished"),
        f"{name}-1": ("FINISHED", "pruned"),
        f"{name}-2": ("FAILED", "diverged"),
        f"{name}-3/seed0": ("FINISHED", "finished"),
        f"{name}-3/seed1": ("FAILED", "failed"),
        f"{name}-4": ("KILLED", "interrupted"),
        f"{name}-5": ("FINISHED", "early_stopped"),
        f"{name}-10": ("RUNNING", None),  # it is written by a process that lives
        f"{name}-11": ("KILLED", "killed"),
    }
    assert (swept.sweep_dir / "tracking.log").read_text() == ""


def test_a_trial_bears_its_number_and_that_of_its_replica(swept: Swept, query: Query) -> None:
    found = tags(query, mlflow_run_id(swept.sweep_dir / "trials" / "3" / "seed1"))
    assert found["cnnforge.sweep"] == swept.sweep_dir.name
    assert (found["cnnforge.trial"], found["cnnforge.replica"]) == ("3", "seed1")
    assert "cnnforge.replica" not in tags(query, mlflow_run_id(swept.sweep_dir / "trials" / "4"))
    assert "cnnforge.trial" not in tags(query, swept.outcome.run_id)


def test_a_resumed_sweep_goes_on_in_the_same_runs_and_doubles_nothing(swept: Swept, query: Query) -> None:
    """Even where what was noted of the sweep and of a trial is lost. Changes what the tests before it look at."""
    below = "FROM tags t WHERE t.key = 'cnnforge.sweep' AND t.value = ?"
    count = f"SELECT (SELECT count(*) {below}), (SELECT count(*) FROM metrics m JOIN tags t USING (run_uuid) "
    count += "WHERE t.key = 'cnnforge.sweep' AND t.value = ?)"
    name = swept.sweep_dir.name
    before = query(count, name, name)[0]
    assert before == (9, 3 * 7 + 1 + 4 - 3 + 3)
    known = {run_dir: mlflow_run_id(run_dir) for run_dir in trial_runs(swept.sweep_dir)}
    for run_dir in (swept.sweep_dir, swept.sweep_dir / "trials" / "2"):
        (run_dir / "tracking.json").unlink()
    with Journal(swept.sweep_dir) as journal:
        sender = start_sweep(swept.sweep_dir, uri=None, experiment="sweeps", run_name="my sweep")
        journal.event("resumed")
        with Journal(swept.sweep_dir / "trials" / "4") as trial:
            trial.metrics({"val_loss": 0.1}, 3)
            trial.end("finished")
        write_trial(swept.sweep_dir, "12", "finished")
        journal.end("finished")
        outcome = sender.finish(timeout=60)
    assert (outcome.run_id, outcome.pending) == (swept.outcome.run_id, 0)
    assert {run_dir: mlflow_run_id(run_dir) for run_dir in known} == known
    assert query(count, name, name)[0] == (before[0] + 1, before[1] + 1 + 3)
    statuses = children(query, outcome.run_id)
    assert statuses[f"{name}-4"] == ("FINISHED", "finished")
    assert statuses[f"{name}-10"] == ("KILLED", "killed")  # it has died since
    assert statuses[f"{name}-12"] == ("FINISHED", "finished")


def test_the_best_trials_model_is_registered_once(new_run: NewRun, runs: Path, query: Query) -> None:
    """The record comes after the trial's end, and is sent behind its model; sent again it changes nothing."""
    sweep_dir = new_run()
    with Journal(sweep_dir) as journal:
        sender = start_sweep(sweep_dir, uri=None, experiment="sweeps")
        write_trial(sweep_dir, "1", "finished")
        best = write_trial(sweep_dir, "0", None)
        (best / "model").mkdir()
        (best / "model" / "weights").write_text("7")
        with Journal(best) as trial:
            trial.model("model", loader="json")
            trial.end("finished")
        wait_for(lambda: status_of(query, best) == "FINISHED", seconds=60)
        with Journal(best) as trial:
            trial.register("mine")
        with Journal(sweep_dir / "trials" / "1") as other:
            other.register("mine")
        journal.end("finished")
        outcome = sender.finish(timeout=60)
    versions = "SELECT v.version, v.run_id, v.status, m.artifact_location = v.storage_location FROM model_versions v "
    versions += "JOIN logged_models m ON v.source = 'models:/' || m.model_id WHERE v.name = 'mine'"
    assert outcome.pending == 0
    assert query(versions) == [(1, mlflow_run_id(best), "READY", 1)]
    assert status_of(query, best) == "FINISHED"
    log = (sweep_dir / "trials" / "1" / "tracking.log").read_text()
    assert "left out, and not tried again: record 6, register : the run has no model in MLflow" in log
    (best / "tracking.json").unlink()
    assert [outcome.pending for _, outcome in send_all([best])] == [0]
    assert query(versions) == [(1, mlflow_run_id(best), "READY", 1)]
    assert status_of(query, best) == "FINISHED"


def test_kill_9_of_the_sender_loses_nothing(new_run: NewRun, query: Query) -> None:
    sweep_dir = new_run()
    with Journal(sweep_dir) as journal:
        sender = start_sweep(sweep_dir, uri=None, experiment="sweeps")
        first = write_trial(sweep_dir, "0", "finished")
        wait_for(lambda: status_of(query, first) == "FINISHED", seconds=60)
        assert sender.pid is not None
        os.kill(sender.pid, signal.SIGKILL)
        write_trial(sweep_dir, "1", "pruned")
        write_trial(sweep_dir, "2", None)
        journal.end("failed")
        outcome = sender.finish(timeout=60)
    name = sweep_dir.name
    assert outcome.pending == 0
    assert query("SELECT name, status FROM runs WHERE run_uuid = ?", outcome.run_id) == [(name, "FAILED")]
    assert children(query, outcome.run_id) == {
        f"{name}-0": ("FINISHED", "finished"),
        f"{name}-1": ("FINISHED", "pruned"),
        f"{name}-2": ("KILLED", "killed"),
    }


DRIVER = """
import sys, time
from pathlib import Path
from cnnforge.tracking import Journal, announce, start_sweep
sweep_dir = Path(sys.argv[1])
journal = Journal(sweep_dir)
sender = start_sweep(sweep_dir, uri=None, experiment="sweeps")
trial_dir = sweep_dir / "trials" / "0"
trial_dir.mkdir(parents=True)
announce(trial_dir, uri=None, experiment="sweeps", run_name="orphan")
trial = Journal(trial_dir)
trial.metrics({"val_loss": 0.5}, 0)
print("ready", flush=True)
time.sleep(100)
"""


def test_kill_9_of_the_driver_ends_the_sweep_and_its_trials_as_killed(new_run: NewRun, query: Query) -> None:
    sweep_dir = new_run()
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(sweep_dir)], stdout=subprocess.PIPE)
    assert driver.stdout is not None
    assert driver.stdout.readline() == b"ready\n"
    wait_for(lambda: status_of(query, sweep_dir / "trials" / "0") == "RUNNING", seconds=60)
    driver.kill()
    driver.communicate()
    wait_for(lambda: status_of(query, sweep_dir) == "KILLED")
    assert children(query, mlflow_run_id(sweep_dir)) == {"orphan": ("KILLED", "killed")}


@pytest.mark.slow
def test_a_sweep_deleted_in_mlflow_gets_no_more_trials_but_ends_those_it_has(
    new_run: NewRun, runs: Path, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep_dir = new_run()
    with Journal(sweep_dir) as journal:
        sender = start_sweep(sweep_dir, uri=None, experiment="sweeps")
        first = write_trial(sweep_dir, "0", None)
        wait_for(lambda: mlflow_run_id(first) is not None, seconds=60)
        parent = mlflow_run_id(sweep_dir)
        stage = "UPDATE runs SET lifecycle_stage = ? WHERE run_uuid = ?"
        with closing(sqlite3.connect(runs / "mlflow.db", timeout=10)) as connection:
            connection.execute(stage, ("deleted", parent))
            connection.commit()
        second = write_trial(sweep_dir, "1", "finished")
        with Journal(first) as again:
            again.end("pruned")
        journal.metrics({"best_val_loss": 0.1}, 1)
        journal.end("finished")
        outcome = sender.finish(timeout=60)
    assert outcome.pending == 8
    assert f"deleted in MLflow; mlflow runs restore --run-id {parent}; cnnforge sync '{sweep_dir}'" in outcome.reason
    assert children(query, parent) == {f"{sweep_dir.name}-0": ("FINISHED", "pruned")}
    assert mlflow_run_id(second) is None
    assert "its sweep was deleted in MLflow" in (second / "tracking.log").read_text()

    with closing(sqlite3.connect(runs / "mlflow.db", timeout=10)) as connection:
        connection.execute(stage, ("active", parent))
        connection.commit()
    monkeypatch.setattr("cnnforge.tracking.sender.AT_ONCE", 2)
    assert [outcome.pending for _, outcome in send_all(with_family([sweep_dir]))] == [0, 0, 0]
    assert set(children(query, parent)) == {f"{sweep_dir.name}-0", f"{sweep_dir.name}-1"}


@pytest.mark.slow
def test_an_unreachable_tracker_is_bounded_and_all_is_sent_nested_later(
    new_run: NewRun, runs: Path, query: Query
) -> None:
    sweep_dir, uri = new_run(), f"http://127.0.0.1:{closed_port()}"
    with Journal(sweep_dir) as journal:
        sender = start_sweep(sweep_dir, uri=uri, experiment="sweeps")
        trials = [write_trial(sweep_dir, str(number), "finished", uri=uri) for number in range(3)]
        journal.end("finished")
        began = time.monotonic()
        outcome = sender.finish(timeout=20)
    assert time.monotonic() - began < 21
    assert outcome.pending == 2 + 3 * 6
    assert outcome.reason.startswith(f"20 records not sent to {uri}: ")
    assert [load(trial).mlflow_run_id for trial in trials] == 3 * [None]
    outcomes = [outcome for _, outcome in send_all(with_family([sweep_dir]), f"sqlite:///{runs}/mlflow.db")]
    assert [outcome.pending for outcome in outcomes] == 4 * [0]
    assert len(children(query, outcomes[0].run_id)) == 3


def test_a_trial_trained_by_hand_has_a_sender_of_its_own_and_stays_in_its_sweep(
    swept: Swept, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed_port()}")  # the sweep went elsewhere
    run_dir = swept.sweep_dir / "trials" / "13"
    run_dir.mkdir()
    with Journal(run_dir) as journal:
        sender = start(run_dir, uri=None, experiment="sweeps", run_name="by hand")
        journal.end("finished")
        assert sender.finish(timeout=60).pending == 0
    assert children(query, swept.outcome.run_id)["by hand"] == ("FINISHED", "finished")
