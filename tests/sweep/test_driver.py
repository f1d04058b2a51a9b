"""Running a checked sweep: folders, states, failures, replicas, what is best."""

import io
import json
from pathlib import Path
from statistics import fmean, stdev

import pytest

from cnnforge.cli.console import PlainConsole
from cnnforge.config import compose_sweep, read_run, validate
from cnnforge.errors import ConfigError, DataError, DivergedError, InterruptedRun
from cnnforge.spec.sweep import Objective
from cnnforge.sweep import driver
from cnnforge.sweep.check import checked
from cnnforge.sweep.driver import Outcome, Trial
from cnnforge.sweep.points import Cost, Point
from cnnforge.train.reproduce import reproduce

QUICK = [
    "model=lenet5", "data=synthetic", "data.samples=64", "data.test_samples=16", "tracking=none",
    "trainer.max_steps=2", "trainer.batch_size=16", "trainer.backend=numpy", "trainer.threads=1",
]  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def space(*words):
    return checked(compose_sweep([*QUICK, *words]))


def go(*words):
    said = io.StringIO()
    outcome = driver.run(space(*words), PlainConsole(said))
    return outcome, json.loads((outcome.folder / "sweep.json").read_text()), said.getvalue()


def states(kept):
    return {trial["number"]: trial["state"] for trial in kept["trials"]}


def test_every_point_has_a_folder_that_train_would_have_made():
    outcome, kept, said = go("optimizer.lr=0.1,0.01", "seed=1,-1", "run.name=mine")
    assert outcome.folder == Path("runs/mine")
    assert Path("runs/latest").resolve() == outcome.folder.resolve()
    assert states(kept) == {1: "finished", 2: "dropped", 3: "finished", 4: "dropped"}
    for number, lr in ((1, 0.1), (3, 0.01)):
        folder = outcome.folder / "trials" / str(number)
        result = json.loads((folder / "result.json").read_text())
        assert kept["trials"][number - 1]["result"] == result
        own = validate(read_run(folder / "config.yaml"))
        assert (own.optimizer.lr, own.seed, own.run.dir, own.run.name) == (lr, 1, "runs/mine/trials", None)
    assert "trial 3: optimizer.lr=0.01 seed=1\n" in said
    assert kept["trials"][1]["reasons"][0]["what"] == "seed cannot be -1"
    assert kept["best"] == [min(outcome.best, key=lambda t: t.result["val_loss"]).point.number]


def test_a_trial_can_be_done_again():
    outcome, *_ = go("seed=1,2")
    compared = reproduce(outcome.folder / "trials" / "2", PlainConsole(io.StringIO()))
    assert (compared.equal, compared.again.name) == (True, "2-again")


def test_a_second_sweep_has_a_folder_of_its_own():
    assert [go("seed=1,2", "sweep.budget.trials=1")[0].folder.name for _ in range(2)] == ["sweep", "sweep-2"]


def failing(monkeypatch, **by_seed):
    """Let runs of these seeds fail: a list of errors, one for each try; None succeeds."""
    real, tries = driver.train, {}

    def train(spec, console, folder):
        errors = by_seed.get(f"s{spec.seed}", [])
        nth = tries[spec.seed] = tries.get(spec.seed, -1) + 1
        if nth < len(errors) and errors[nth] is not None:
            raise errors[nth]
        return real(spec, console, folder=folder)

    monkeypatch.setattr(driver, "train", train)
    return tries


def test_a_failure_is_written_down_and_the_sweep_goes_on(monkeypatch):
    failing(monkeypatch, s1=[DivergedError("the loss is nan", why="lr")], s2=[ZeroDivisionError("by us")])
    _, kept, said = go("seed=1,2,3")
    assert states(kept) == {1: "failed", 2: "failed", 3: "finished"}
    assert kept["trials"][0]["error"] == {"what": "the loss is nan", "where": "", "why": "lr", "fix": ""}
    assert kept["trials"][1]["error"] == {"what": "ZeroDivisionError: by us"}
    assert kept["best"] == [3]
    assert "trial 1 failed: the loss is nan" in said


def test_tried_again(monkeypatch):
    tries = failing(monkeypatch, s1=[DataError("gone"), DataError("gone"), None], s2=[DataError("gone")] * 9)
    outcome, kept, said = go("seed=1,2", "sweep.retry=2")
    assert states(kept) == {1: "finished", 2: "failed"}
    assert tries == {1: 2, 2: 2}
    assert "error" not in kept["trials"][0]
    assert said.count("trial 1 failed and is tried again: gone") == 2
    assert sorted(folder.name for folder in (outcome.folder / "trials").iterdir() if folder.name[0] == "1") == [
        "1", "1-2", "1-3",
    ]  # fmt: skip


def test_too_many_failures_end_it(monkeypatch):
    failing(monkeypatch, **{f"s{seed}": [DataError("gone")] for seed in range(5)})
    outcome, kept, said = go("seed=range(0,5)", "sweep.max_failures=1")
    assert list(states(kept).values()) == ["failed", "failed", "waiting", "waiting", "waiting"]
    assert "2 trials failed: no more are begun (max_failures: 1)" in said
    assert driver.first_failure(outcome).what == "gone"
    assert driver.first_failure(outcome).exit_code == 3


def test_a_person_stops_it(monkeypatch):
    failing(monkeypatch, s2=[InterruptedRun("interrupted")])
    with pytest.raises(InterruptedRun):
        go("seed=1,2,3")
    kept = json.loads(Path("runs/sweep/sweep.json").read_text())
    assert states(kept) == {1: "finished", 2: "interrupted", 3: "waiting"}


def test_the_time_is_up():
    _, kept, said = go("seed=1,2", "sweep.budget.time='1 ms'", "sweep.sampler=grid")
    assert "waiting" in states(kept).values()
    assert "the time is up" in said


def test_random_points_until_the_time_is_up(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(driver, "monotonic", lambda: next(clock))
    _, kept, _ = go("optimizer.lr=interval(1e-3,1e-1)", "seed=1,-1", "sweep.budget.time=6")
    found = list(states(kept).values())
    assert found.count("finished") == 3
    assert {trial["values"]["seed"] for trial in kept["trials"] if trial["state"] == "finished"} == {1}
    rates = [trial["values"]["optimizer.lr"] for trial in kept["trials"]]
    assert len(set(rates)) == len(rates)


def test_random_points_until_there_are_no_more(monkeypatch):
    monkeypatch.setattr(driver, "MOST_IN_VAIN", 20)
    _, kept, _ = go("seed=1,2,3", "sweep.sampler=random", "sweep.budget.time=1h")
    assert sorted(trial["values"]["seed"] for trial in kept["trials"]) == [1, 2, 3]


def test_replicas_are_one_trial_with_mean_and_deviation():
    outcome, kept, _ = go("optimizer.lr=0.1,0.01", "sweep.replicate={seeds: [3, 5], folds: 2}")
    folders = sorted(folder.name for folder in (outcome.folder / "trials").iterdir())
    assert folders == [f"{n}-seed-{s}-fold-{f}" for n in (1, 2) for s in (3, 5) for f in (1, 2)]
    results = [json.loads((outcome.folder / "trials" / name / "result.json").read_text()) for name in folders[:4]]
    losses = [result["val_loss"] for result in results]
    assert len(set(losses)) == 4
    whole = kept["trials"][0]["result"]
    assert (whole["runs"], whole["val_loss"]) == (4, pytest.approx(fmean(losses)))
    assert whole["val_loss_deviation"] == pytest.approx(stdev(losses))


def test_samplers_that_need_results_are_named():
    with pytest.raises(ConfigError) as caught:
        go("optimizer.lr=interval(1e-3,1e-1)", "sweep.budget.trials=2", "sweep.sampler=tpe")
    assert str(caught.value) == (
        "sampler tpe cannot run yet\n  where: <override 'sweep.sampler=tpe'> (sweep.sampler)\n"
        "  why:   points are tried in an order that is known before: grid or random\n"
        "  fix:   sweep.sampler=random, or --check to stop here"
    )
    assert not Path("runs").exists()


def outcome(objectives, *scores):
    trials = [
        Trial(Point(n, {}, (), cost=Cost(1, macs, 1)), "finished", {"val_accuracy": accuracy})
        for n, (accuracy, macs) in enumerate(scores, 1)
    ]
    return Outcome(Path(), trials, [Objective(metric=name) for name in objectives])


def test_the_best():
    scores = [(0.9, 100), (0.95, 300), (0.9, 200), (0.8, 50), (0.95, 400)]
    assert [t.point.number for t in outcome(["val_accuracy"], *scores).best] == [2]
    assert [t.point.number for t in outcome(["macs"], *scores).best] == [4]
    assert [t.point.number for t in outcome(["val_accuracy", "macs"], *scores).best] == [1, 2, 4]
    assert outcome(["val_loss"], *scores).best == []
