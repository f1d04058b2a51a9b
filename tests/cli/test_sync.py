"""``cnnforge sync`` against a real MLflow database."""

from __future__ import annotations

import argparse
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cnnforge.cli import sync
from cnnforge.errors import ConfigError, ConfigErrors
from cnnforge.tracking import Journal, find, mlflow_run_id
from cnnforge.tracking.state import Tracking, load, save


def command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    sync.configure(parser)
    return sync.run(parser.parse_args(list(words)))


def make_run(folder: Path, *, tracked: bool = True) -> Path:
    folder.mkdir(parents=True)
    with Journal(folder) as journal:
        journal.metrics({"train_loss": 1.0}, 1)
        journal.end("finished")
    if tracked:
        save(folder, Tracking(experiment="synced", run_name=folder.name))
    return folder


@pytest.fixture(autouse=True)
def _no_tracking_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_every_run_below_is_sent_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs"
    one, trial = make_run(runs / "one"), make_run(runs / "sweep" / "trials" / "0")
    os.mkfifo(trial / "pipe")
    (trial / "plots").mkdir()
    (trial / "plots" / "broken").symlink_to("nowhere")
    with Journal(trial) as journal:
        # neither can be kept: they are left out, and what follows gets through
        journal.artifact("pipe")
        journal.artifact("plots")
        journal.end("failed")
    make_run(runs / "untracked", tracked=False)
    (runs / "latest").symlink_to(one)
    assert command("--dir", str(runs)) == 0
    assert capsys.readouterr().out == (
        f"{one}: 3 records sent to sqlite:///{runs}/mlflow.db\n{trial}: 6 records sent to sqlite:///{runs}/mlflow.db, "
        f"but for 2 left out and named in {trial}/tracking.log\n"
    )
    said = (trial / "tracking.log").read_text()
    assert "record 3, artifact pipe: is neither a file nor a folder" in said
    assert said.count("No such file or directory") == 3  # tried three times
    with closing(sqlite3.connect(runs / "mlflow.db")) as connection:
        assert connection.execute("SELECT name, status FROM runs ORDER BY name").fetchall() == [
            ("0", "FAILED"),
            ("one", "FINISHED"),
        ]
    # the second time there is nothing to do, and no MLflow is needed to know it
    assert command("--dir", str(runs)) == 0
    assert capsys.readouterr().out == "2 of 2 runs had nothing to send\n"
    found = {find(name, runs) for name in ("one", "latest", mlflow_run_id(one) or "", str(one))}
    assert found == {one}
    assert find("0", runs) == trial


def make_sweep(folder: Path) -> list[Path]:
    """A sweep and its trials, none of it sent: its tracker was down, and its sender was killed."""
    places = ["trials/2", "trials/10/seed0", "trials/10/seed1"]
    return [make_run(folder), *(make_run(folder / place) for place in places)]


def nested(database: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(
            "SELECT parent.name, r.name FROM runs r JOIN tags t USING (run_uuid) JOIN runs parent "
            "ON parent.run_uuid = t.value WHERE t.key = 'mlflow.parentRunId' ORDER BY r.name"
        ).fetchall()


def test_a_sweep_is_sent_before_its_trials_and_they_below_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    folders = make_sweep(runs / "a-sweep")
    other = make_sweep(runs / "other")
    with pytest.raises(ConfigError) as caught:
        command("a-sweep", "--dir", str(runs), "--uri", "http://127.0.0.1:9")
    assert str(caught.value).startswith(
        "a-sweep: 12 records of 4 runs could not be sent\n  where: http://127.0.0.1:9\n  why:   Connection refused\n"
    )
    # a trial alone brings its sweep, or it would hang below nothing
    assert command("a-sweep/trials/10/seed1", "--dir", str(runs)) == 0
    assert nested(runs / "mlflow.db") == [("a-sweep", "seed1")]
    assert command("a-sweep", "--dir", str(runs)) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said] == [
        str(folder) for folder in (folders[0], folders[3], folders[1], folders[2])
    ] + ["2 of 4 runs had nothing to send"]
    assert command("--dir", str(runs)) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "4 of 8 runs had nothing to send"
    assert sorted(nested(runs / "mlflow.db")) == sorted(
        (sweep, run_dir.name) for sweep in ("a-sweep", "other") for run_dir in other[1:]
    )


def test_a_silent_tracker_is_one_clear_error_per_run_and_forgets_nothing(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    moving = make_run(tmp_path / "b")
    there = Tracking(run="0" * 32, store="default", mlflow_run_id="abc", offset=5, status="FINISHED", experiment="e")
    save(moving, there)
    with pytest.raises(ConfigErrors) as caught:
        command("--dir", str(tmp_path), "--uri", "http://127.0.0.1:9")
    first = (
        "a: 3 records could not be sent\n  where: http://127.0.0.1:9\n  why:   Connection refused\n"
        "  fix:   start the tracker or name one that answers (--uri, MLFLOW_TRACKING_URI), then sync again; "
        "nothing is lost"
    )
    assert str(caught.value) == f"{first}\n\n{first.replace('a: 3', 'b: 3', 1)}"
    assert caught.value.exit_code == 2
    assert load(moving) == there  # it stays known where the run is already


def test_an_unknown_run_is_named_with_a_guess(tmp_path: Path) -> None:
    make_run(tmp_path / "lenet-digits")
    with pytest.raises(ConfigError) as caught:
        command("lenet-digit", "--dir", str(tmp_path))
    assert str(caught.value) == (
        f"lenet-digit: no such run\n  where: {tmp_path}\n"
        "  why:   it is neither a run folder, nor a name there, nor the MLflow id of a run there\n"
        "  fix:   did you mean 'lenet-digits'?"
    )


def test_a_missing_folder_and_an_empty_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        command("--dir", str(tmp_path / "none"))
    assert command("--dir", str(tmp_path)) == 0
    assert capsys.readouterr().out == f"no runs below {tmp_path}\n"
