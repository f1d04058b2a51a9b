"""Runs, sweeps and trials by their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnforge.errors import ConfigError
from cnnforge.tracking import Journal, find
from cnnforge.tracking.family import Trial, runs_of_trial, trial_of, trial_runs
from cnnforge.tracking.finding import find_model, find_run, run_folders, with_family
from cnnforge.tracking.state import Tracking, save


def make_run(folder: Path) -> Path:
    folder.mkdir(parents=True)
    Journal(folder).close()
    save(folder, Tracking(mlflow_run_id=f"id of {folder.name}"))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A run, two sweeps with trials of the same names, a trial that never began, and what is no trial."""
    for name in ("lenet", "s", "s/trials/2", "s/trials/10/seed1", "s/trials/10/seed0", "s/trials/7", "t", "t/trials/2"):
        make_run(tmp_path / name)
    (tmp_path / "s" / "trials" / "11").mkdir()
    make_run(tmp_path / "s" / "trials" / "best")
    (tmp_path / "latest").symlink_to("s")
    return tmp_path


def test_a_folder_is_a_trial_by_its_place(tmp_path: Path) -> None:
    assert trial_of(tmp_path / "s" / "trials" / "3") == Trial(tmp_path / "s", 3)
    replica = trial_of(tmp_path / "s" / "trials" / "3" / "seed1")
    assert replica == Trial(tmp_path / "s", 3, "seed1")
    assert replica.name == "s-3-seed1"
    for place in ("lenet", "trials", "trials/lenet", "trials/runs/lenet", "s/trials/3/a/b", "3"):
        assert trial_of(tmp_path / place) is None


def test_trials_come_in_the_order_of_their_numbers(runs: Path) -> None:
    places = [str(run.relative_to(runs)) for run in trial_runs(runs / "s")]
    assert places == ["s/trials/2", "s/trials/7", "s/trials/10/seed0", "s/trials/10/seed1"]
    assert list(trial_runs(runs / "lenet")) == []
    assert runs_of_trial(runs / "s" / "trials" / "11") == []
    assert runs_of_trial(runs / "nowhere") == []


def test_a_sweep_comes_before_its_trials(runs: Path) -> None:
    places = [str(run.relative_to(runs)) for run in run_folders(runs)]
    assert places == [
        "lenet", "s", "s/trials/best", "s/trials/2", "s/trials/7", "s/trials/10/seed0", "s/trials/10/seed1",
        "t", "t/trials/2",
    ]  # fmt: skip


def test_names_mean_sweeps_and_trials(runs: Path) -> None:
    for name, place in {
        "s": "s",
        "latest": "s",
        "id of t": "t",
        "s/trials/7": "s/trials/7",
        "7": "s/trials/7",
        "seed1": "s/trials/10/seed1",
        "id of seed0": "s/trials/10/seed0",
    }.items():
        assert find(name, runs) == runs / place


def test_a_name_of_several_is_named_with_all_of_them(runs: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        find("2", runs)
    assert str(caught.value) == (
        f"2: 2 runs have this name\n  where: {runs}\n  why:   s/trials/2, t/trials/2\n  fix:   say which: s/trials/2"
    )


def test_a_name_of_none_says_what_helps(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(name: str, where: Path) -> tuple[str, str]:
        with pytest.raises(ConfigError) as caught:
            find(name, where)
        return caught.value.why, caught.value.fix

    known = "it is neither a run folder, nor a name there, nor the MLflow id of a run there"
    assert said("quite other", runs) == (known, f"cnnforge runs list --dir {runs} says what is there")
    assert said("lennet", runs) == (known, "did you mean 'lenet'?")
    monkeypatch.chdir(runs.parent)
    runs.rename("runs")
    assert said("quite other", Path("runs")) == (known, "cnnforge runs list says what is there")
    first = "cnnforge train makes the first; --dir FOLDER where the runs are elsewhere"
    assert said("x", Path("nowhere")) == ("there is no such folder", first)
    Path("empty").mkdir()
    assert said("x", Path("empty")) == ("no run is there", first)


def test_where_one_run_is_needed_a_sweep_says_which_is_its_best(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_run("s/trials/7", runs) == runs / "s/trials/7"
    assert find_run("lenet", runs) == runs / "lenet"

    def said(name: str, where: Path) -> str:
        with pytest.raises(ConfigError) as caught:
            find_run(name, where)
        return str(caught.value)

    before = f"s is a sweep\n  where: {runs / 's'}\n  why:   this is done with one run, and a sweep has many\n  fix:   "
    assert said("s", runs) == f"{before}one of its trials: cnnforge sweep report s says which there are"
    (runs / "s" / "sweep.json").write_text('{"best": [10, 2]}')
    assert said("latest", runs) == f"{before}s/trials/10/seed0 instead, the best of its trials"
    monkeypatch.chdir(runs.parent)
    here = f"{runs.name}/s"
    assert said(here, Path("runs")) == f"{before}{here}/trials/10/seed0 instead, the best of its trials"


def test_a_saved_model_stands_for_a_run_where_a_model_is_enough(runs: Path) -> None:
    saved = runs / "saved"
    saved.mkdir()
    (saved / "model.json").write_text("{}")
    assert find_model(str(saved), runs) == saved
    assert find_model("lenet", runs) == runs / "lenet"
    with pytest.raises(ConfigError, match="s is a sweep"):
        find_model("s", runs)
    with pytest.raises(ConfigError, match="it is a saved model: predict, export and serve take one"):
        find_run(str(saved), runs)


def test_a_cross_validation_names_its_folds(runs: Path) -> None:
    make_run(runs / "cv" / "cv-fold-1")
    make_run(runs / "cv" / "cv-fold-2")
    (runs / "cv" / "folds.json").write_text("{}")
    with pytest.raises(ConfigError) as caught:
        find("cv", runs)
    assert str(caught.value) == (
        f"cv is a cross-validation, and no single run\n  where: {runs / 'cv'}\n"
        f"  why:   each fold is a run: cv-fold-1, cv-fold-2\n  fix:   {runs / 'cv' / 'cv-fold-1'}, or another of them"
    )
    assert find("cv-fold-2", runs) == runs / "cv" / "cv-fold-2"


def test_a_sweep_means_its_trials_and_a_trial_its_sweep(runs: Path) -> None:
    s = runs / "s"
    assert with_family([s / "trials" / "7", runs / "lenet"]) == [s, s / "trials" / "7", runs / "lenet"]
    assert with_family([s / "trials" / "7", s]) == [s, s / "trials" / "7", *[
        s / "trials" / place for place in ("2", "10/seed0", "10/seed1")
    ]]  # fmt: skip
    (s / "tracking.json").unlink()  # it was not tracked, and is not tracked behind anyone's back
    assert with_family([s / "trials" / "7"]) == [s / "trials" / "7"]
