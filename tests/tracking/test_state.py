"""Where a run is sent and what is remembered of it."""

from __future__ import annotations

import json
import stat
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from cnnforge.tracking.state import (
    LockHeldError,
    Settings,
    Tracking,
    address,
    destination,
    load,
    locked,
    mlflow_run_id,
    restated,
    runs_dir_of,
    save,
    shown,
    state_path,
)

SENT = Tracking(
    run="1" * 32, experiment="e", run_name="r", store="default", mlflow_run_id="abc", offset=40, status="FINISHED"
)


def test_the_config_comes_before_the_environment_before_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert destination(None) == "default"
    assert address("default", tmp_path / "runs" / "lenet") == f"sqlite:///{tmp_path}/runs/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracker:5000")
    assert destination(None) == "http://tracker:5000"
    monkeypatch.chdir(tmp_path)
    assert destination("sqlite:///mine.db") == f"sqlite:///{tmp_path}/mine.db"


def test_trials_share_the_database_of_all_runs(tmp_path: Path) -> None:
    assert runs_dir_of(tmp_path / "runs" / "sweep" / "trials" / "3") == tmp_path / "runs"
    assert runs_dir_of(tmp_path / "runs" / "sweep" / "trials" / "3" / "seed1") == tmp_path / "runs"
    assert runs_dir_of(tmp_path / "runs" / "lenet") == tmp_path / "runs"
    assert runs_dir_of(tmp_path / "trials" / "lenet") == tmp_path / "trials"
    assert runs_dir_of(tmp_path / "trials" / "runs" / "lenet") == tmp_path / "trials" / "runs"


def test_a_run_stays_where_it_is_unless_the_config_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://other:5000")
    resumed = restated(SENT, Settings(follow=True, uri=None, experiment="e", run_name="r"))
    assert resumed == SENT
    moved = restated(SENT, Settings(follow=True, uri="http://new:5000", experiment="e", run_name="r"))
    assert (moved.store, moved.mlflow_run_id, moved.offset, moved.status) == ("http://new:5000", None, 0, None)
    assert moved.run == SENT.run
    # what was never sent goes where today's environment says; a sync without --uri keeps what the config said
    unsent = replace(SENT, store=None, mlflow_run_id=None, offset=0)
    assert restated(unsent, Settings(follow=False)).store == "http://other:5000"
    assert restated(replace(unsent, uri="http://config:1"), Settings(follow=False)).store == "http://config:1"


def test_a_trial_goes_where_its_sweep_went(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://other:5000")
    settings = Settings(follow=True, uri=None, experiment="e", run_name="r")
    unsent = replace(SENT, store=None, mlflow_run_id=None, offset=0)
    assert restated(unsent, settings, SENT).store == "default"
    assert restated(unsent, settings, unsent).store == "http://other:5000"  # nor was the sweep sent
    assert restated(SENT, settings, SENT) == SENT
    moved = restated(SENT, settings, replace(SENT, store="http://new:5000"))
    assert (moved.store, moved.mlflow_run_id, moved.offset) == ("http://new:5000", None, 0)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save(tmp_path, SENT)
    assert load(tmp_path) == SENT
    assert mlflow_run_id(tmp_path) == "abc"
    assert [path.name for path in tmp_path.iterdir()] == ["tracking.json"]


def test_an_address_with_a_password_is_for_the_owner_alone_and_never_shown(tmp_path: Path) -> None:
    save(tmp_path, replace(SENT, uri="https://me:secret@tracker/x"))
    assert stat.S_IMODE(state_path(tmp_path).stat().st_mode) == 0o600
    assert shown("https://me:secret@tracker/x") == "https://***@tracker/x"
    assert shown("sqlite:////a b/mlflow.db") == "sqlite:////a b/mlflow.db"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "7",
        "[" * 100_000,
        *(json.dumps({**asdict(SENT), "offset": bad}) for bad in (-1, "4", None, True)),
    ],
)
def test_a_damaged_file_means_starting_over(tmp_path: Path, text: str) -> None:
    state_path(tmp_path).write_text(text)
    assert load(tmp_path) == Tracking()


def test_unknown_keys_are_of_a_newer_version_and_left_alone(tmp_path: Path) -> None:
    state_path(tmp_path).write_text(json.dumps({**asdict(SENT), "later": 1}))
    assert load(tmp_path) == SENT


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    with locked(tmp_path / "lock"), pytest.raises(LockHeldError), locked(tmp_path / "lock", timeout=0.0):
        pass
    with locked(tmp_path / "lock", timeout=0.0):
        pass
