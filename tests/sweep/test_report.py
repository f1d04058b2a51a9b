"""What is read from a sweep's folder: of one that is over, that runs, that was killed."""

import json
import os
from pathlib import Path

import pytest

from cnnforge.errors import ConfigError
from cnnforge.sweep.report import read_report
from cnnforge.tracking import Journal
from cnnforge.tracking.state import locked
from tests.sweep.folders import LOSS, MACS, mixed, trial, write_sweep
from tests.sweep.test_driver import LONGER, begin

SEED = {"seed": {"choices": [1]}}


def test_epochs_are_read_from_the_journals(tmp_path):
    report = read_report(mixed(tmp_path / "mine"))
    trials = {trial.number: trial for trial in report.trials}
    assert dict(trials[3].curve) == {1: 0.1, 2: 0.3}
    assert [trials[n].epoch for n in (1, 3, 4, 6, 7)] == [5, 2, 0, 1, 2]
    assert (report.trained, report.saved) == (5 + 5 + 2 + 1 + 2, 3)
    assert [trial.number for trial in report.ranked] == [2, 1]


def test_a_trial_runs_where_somebody_writes_its_journal(tmp_path):
    folder = mixed(tmp_path / "mine")
    report = read_report(folder)
    assert (report.trials[6].state, report.trials[8].state, report.alive) == ("waiting", "waiting", False)
    before = (folder / "sweep.json").read_bytes()
    (folder / "trials" / "9").mkdir()
    with Journal(folder / "trials" / "9"), locked(folder / ".driver-host-1"):
        report = read_report(folder)
        assert (report.trials[6].state, report.trials[8].state, report.alive) == ("waiting", "running", True)
    assert (folder / "sweep.json").read_bytes() == before


def test_replicas_count_and_the_first_has_the_curve(tmp_path):
    result = {"val_loss": 0.5, "val_loss_deviation": 0.1}
    trials = [trial(1, "finished", {"seed": 1}, runs=3, result=result), trial(2, "pruned", {"seed": 2}, runs=3)]
    curves = {"1/seed-1": [3, 2, 1, 1, 1], "1/seed-2": [4, 4, 4, 4, 4], "1/seed-3": [4, 4, 4, 4], "2/seed-1": [9]}
    folder = write_sweep(tmp_path / "s", {"seed": {"choices": [1, 2]}}, trials, objective=[LOSS], curves=curves)
    report = read_report(folder)
    assert (report.trials[0].trained, report.trials[0].spread, report.trials[0].curve[1]) == (14, (0.1,), 3.0)
    assert (report.trained, report.saved) == (15, 14)


@pytest.mark.parametrize(
    ("metrics", "followed"),
    [
        (["val_accuracy"], "val_accuracy"),
        (["best_val_loss"], "val_loss"),
        (["test_accuracy"], "val_accuracy"),
        (["macs", "train_loss"], "train_loss"),
        (["macs"], "val_loss"),
    ],
)
def test_the_metric_of_the_curves(tmp_path, metrics, followed):
    goals = [{"metric": metric, "direction": "minimize"} for metric in metrics]
    assert read_report(write_sweep(tmp_path / "s", SEED, [], objective=goals)).followed == followed


def test_what_was_trained_elsewhere_has_its_result_alone(tmp_path):
    """On another machine of the same storage: there is no folder of it here."""
    gone = trial(1, "pruned", {"seed": 1}, result={"val_accuracy": 0.5, "epochs": 2})
    report = read_report(write_sweep(tmp_path / "s", SEED, [gone]))
    assert (report.trials[0].epoch, report.trained, report.saved, report.trials[0].curve) == (2, 2, 3, {})


def test_numbers_that_are_none(tmp_path):
    """A loss that was not finite is null in a result and text in a journal."""
    one = trial(1, "finished", {"seed": 1}, result={"val_loss": None})
    folder = write_sweep(tmp_path / "s", SEED, [one], objective=[LOSS], curves={"1": [2.0, "nan"]})
    report = read_report(folder)
    assert (report.ranked, dict(report.trials[0].curve), report.trials[0].epoch) == ([], {1: 2.0}, 2)


def test_known_before_training(tmp_path):
    one = trial(3, "finished", {"seed": 1}, result={"val_loss": 0.5})
    report = read_report(write_sweep(tmp_path / "s", SEED, [one], objective=[LOSS, MACS]))
    assert report.ranked[0].scores == (0.5, 3000.0)


def test_json_has_the_states_as_they_are(tmp_path):
    shown = read_report(mixed(tmp_path / "mine")).to_json()
    assert shown["trials"][6]["state"] == "waiting"
    assert shown["epochs"] == {"trained": 15, "saved": 3}
    assert (shown["curves"]["metric"], shown["curves"]["trials"]["3"]) == ("val_accuracy", {1: 0.1, 2: 0.3})
    json.dumps(shown, allow_nan=False)


def test_before_the_first_trial(tmp_path):
    with pytest.raises(ConfigError) as caught:
        read_report(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path.name}: no trial has begun\n  where: {tmp_path / 'sweep.json'}\n"
        f"  why:   it is written with the first one\n"
        f"  fix:   wait a moment, or cnnforge sweep resume={tmp_path.name}"
    )


def test_read_all_the_time_while_it_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    process = begin("sweep", *LONGER, "seed=1,2,3", "trainer.epochs=20", "sweep.parallel=2")
    folder, seen, alive = Path("runs/sweep"), set(), False
    while process.poll() is None:
        if (folder / "sweep.json").exists():
            report = read_report(folder)
            seen |= {trial.state for trial in report.trials}
            alive |= report.alive
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    assert {"running", "waiting", "finished"} <= seen
    assert alive
    report = read_report(folder)
    assert [trial.state for trial in report.trials] == ["finished"] * 3
    assert (report.trained, report.alive) == (60, False)
    assert not [name for name in os.listdir(folder) if name.startswith(".driver")]
