"""What a sweep's own journal says at its end, and what MLflow has of it then."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cnnforge.cli.main import main
from cnnforge.sweep import parent
from cnnforge.sweep.parent import Parent
from cnnforge.tracking import Journal, read
from tests.sweep.test_driver import QUICK, go, space

TRACKED = [word for word in QUICK if not word.startswith("tracking")]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def records(folder, kind):
    return [record for record in read(folder / "journal.jsonl")[0] if record["kind"] == kind]


def registered(folder):
    """By run: the names that its model shall be registered under."""
    found: dict[str, Any] = {}
    for run in sorted((folder / "trials").glob("**/journal.jsonl")):
        names = [record["name"] for record in records(run.parent, "register")]
        if names:
            found[str(run.parent.relative_to(folder / "trials"))] = names
    return found


class Unsent:
    """A sender that has nothing left to do."""

    def finish(self):
        class Outcome:
            pending = 0

        return Outcome()


def close(outcome, status="finished", times=1):
    """End the sweep's run again, as if it were sent."""
    notes = []
    for _ in range(times):
        with Journal(outcome.folder) as journal:
            above = Parent(outcome, journal, Unsent())
            above.end(status)
            notes = above.notes
    return notes


def test_pictures_and_a_description():
    outcome, _, said = go("seed=1,2")
    assert [record["path"] for record in records(outcome.folder, "artifact")] == ["sweep.json", "best.yaml", "plots"]
    tags = {name: value for record in records(outcome.folder, "tags") for name, value in record["values"].items()}
    assert tags["mlflow.note.content"].startswith(
        "**sweep**: grid, to minimize val_loss; 2 finished\n\n| trial | seed |"
    )
    assert tags["best"] == str(outcome.best[0].number)
    assert registered(outcome.folder) == {}
    assert "pictures" not in said


def test_the_best_model_is_asked_for_once():
    outcome, *_ = go("seed=1,2", "sweep.register_as=digits")
    assert registered(outcome.folder) == {}, "nothing is sent"
    assert close(outcome, "interrupted") == []
    assert registered(outcome.folder) == {}
    assert close(outcome, times=2) == []
    assert registered(outcome.folder) == {str(outcome.best[0].number): ["digits"]}


def test_of_replicas_the_best_is_registered():
    outcome, *_ = go("optimizer.lr=0.1,0.01", "sweep.replicate.seeds=[1,2,3]", "sweep.register_as=digits")
    close(outcome)
    best = outcome.folder / "trials" / str(outcome.best[0].number)
    losses = {run.name: json.loads((run / "result.json").read_text())["val_loss"] for run in best.iterdir()}
    assert registered(outcome.folder) == {f"{best.name}/{min(losses, key=losses.get)}": ["digits"]}


def test_a_best_trial_without_a_model_here():
    outcome, *_ = go("seed=1,2", "sweep.register_as=digits", "tracking.log_model=false")
    number = outcome.best[0].number
    assert close(outcome) == [f"register_as: trial {number} has no model here, so nothing is registered"]


def test_without_tracking_the_check_says_that_nothing_is_registered():
    assert space("seed=1,2", "sweep.register_as=digits").notes == (
        "register_as: tracking is off, so nothing is registered",
    )


def test_pictures_that_fail_do_not_end_a_sweep(monkeypatch):
    monkeypatch.setattr(parent, "draw", lambda report: 1 / 0)
    outcome, kept, said = go("seed=1,2")
    assert "the pictures could not be drawn: ZeroDivisionError: division by zero" in said
    assert [trial["state"] for trial in kept["trials"]] == ["finished"] * 2
    assert records(outcome.folder, "end")[-1]["status"] == "finished"


def test_seconds_are_those_of_all_lives():
    outcome, kept, _ = go("seed=1,2")
    again, more, _ = go("seed=1,2", folder=outcome.folder)
    assert more["seconds"] > kept["seconds"]
    assert again.seconds >= outcome.seconds


@pytest.mark.slow
def test_in_mlflow():
    """A whole sweep with a database of its own."""
    assert main(["sweep", *TRACKED, "seed=1,2", "sweep.register_as=digits"]) == 0
    with closing(sqlite3.connect("runs/mlflow.db")) as connection:
        parents = "SELECT run_uuid FROM tags WHERE key = 'kind' AND value = 'sweep'"
        ((top,),) = connection.execute(parents).fetchall()
        tags = {run: dict(connection.execute("SELECT key, value FROM tags WHERE run_uuid = ?", (run,)))
                for (run,) in connection.execute("SELECT run_uuid FROM runs")}  # fmt: skip
        ((best,),) = connection.execute("SELECT run_id FROM model_versions WHERE name = 'digits'").fetchall()
    assert "| trial | seed | val_loss |" in tags[top]["mlflow.note.content"]
    assert (tags[best]["cnnforge.trial"], tags[best]["mlflow.parentRunId"]) == (tags[top]["best"], top)
    sent = {path.name for path in Path("runs/artifacts").glob(f"{top}/artifacts/**/*") if path.is_file()}
    assert sent == {"best.yaml", "sweep.json", "epochs.png", "history.png", "parallel.png"}
