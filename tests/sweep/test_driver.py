"""Running a checked sweep: real worker processes, states, failures, kills, replicas, pruning, what is best."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean, stdev

import pytest

from cnnforge.config import compose_sweep, read_run, validate
from cnnforge.spec.sweep import Objective, SweepSpec
from cnnforge.sweep import driver
from cnnforge.sweep.check import checked
from cnnforge.sweep.points import Cost, Point
from cnnforge.sweep.trials import Outcome, Trial, failure_of
from cnnforge.sweep.view import PlainView

QUICK = [
    "model=lenet5", "data=synthetic", "data.samples=64", "data.test_samples=16", "tracking=none",
    "trainer.max_steps=2", "trainer.batch_size=16", "trainer.backend=numpy", "trainer.threads=1",
]  # fmt: skip
LONGER = [
    "model=lenet5", "data=synthetic", "data.samples=64", "data.test_samples=16", "tracking=none", "trainer.epochs=3",
    "trainer.batch_size=16", "trainer.backend=numpy", "trainer.threads=1",
]  # fmt: skip
#: A learning rate with which nothing stays finite.
WILD = "3.0e+38"
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def space(*words):
    return checked(compose_sweep([*QUICK, *words]))


def go(*words, folder=None, retry=False):
    said = io.StringIO()
    made = space(*words)
    outcome = driver.run(made, PlainView(said), folder or driver.begin(made), retry=retry)
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
    assert not (outcome.folder / "trials" / "latest").exists()
    assert "trial 3 finished  optimizer.lr=0.01 seed=1  val_loss" in said
    assert kept["trials"][1]["reasons"][0]["what"] == "seed cannot be -1"
    assert kept["best"] == [min(outcome.finished, key=lambda t: t.result["val_loss"]).number]


def test_a_trial_can_be_done_again_and_the_best_trained_anew(capsys):
    from cnnforge.cli.main import main

    outcome, kept, _ = go("seed=1,2", "sweep.parallel=2")
    process = begin("reproduce", str(outcome.folder / "trials" / "2"), "--json")
    out, _ = process.communicate(timeout=60)
    about = json.loads(out[out.index("{") :])
    assert about["equal"] is True, about
    assert (outcome.folder / "trials" / "2-again").is_dir()
    assert main(["train", str(outcome.folder / "best.yaml"), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    best = kept["trials"][kept["best"][0] - 1]["result"]
    assert (again["val_loss"], again["test_loss"]) == (best["val_loss"], best["test_loss"])
    assert main(["train", "nowhere.yaml"]) == 2
    assert "nowhere.yaml: no such file" in capsys.readouterr().err


def test_a_second_sweep_has_a_folder_of_its_own():
    assert [go("seed=1,2", "sweep.budget.trials=1")[0].folder.name for _ in range(2)] == ["sweep", "sweep-2"]


def test_a_failure_is_written_down_and_the_sweep_goes_on():
    words = [f"optimizer.lr={WILD},0.01", "trainer.max_steps=6"]
    outcome, kept, said = go(*words)
    assert states(kept) == {1: "failed", 2: "finished"}
    assert kept["trials"][0]["error"]["what"].startswith("training diverged: the loss is ")
    assert kept["best"] == [2]
    assert "trial 1 failed  optimizer.lr=3e+38  training diverged" in said
    # It is not tried again, unless that is asked for.
    assert states(go(*words, folder=outcome.folder)[1]) == states(kept)
    _, kept, said = go(*words, folder=outcome.folder, retry=True)
    assert states(kept) == {1: "failed", 2: "finished"}
    assert "trial 1 failed" in said
    assert "trial 2 finished" not in said


def test_tried_again_at_once_and_then_too_many_failures_end_it():
    words = ["seed=range(0,5)", f"optimizer.lr={WILD}", "trainer.max_steps=6"]
    outcome, kept, said = go(*words, "sweep.max_failures=1", "sweep.retry=1")
    assert list(states(kept).values()) == ["failed", "failed", "waiting", "waiting", "waiting"]
    assert said.count("failed and is tried again: training diverged") == 2
    assert "2 trials failed: no more are begun (max_failures: 1)" in said
    error = failure_of(outcome)
    assert error.what.startswith("training diverged")
    assert error.exit_code == 4


def test_the_time_is_up():
    _, kept, said = go("seed=1,2", "sweep.budget.time='1 ms'", "sweep.sampler=grid")
    assert "waiting" in states(kept).values()
    assert said.count("the time is up: no more trials are begun") == 1


def test_random_points_until_there_are_no_more(monkeypatch):
    monkeypatch.setattr(driver, "MOST_IN_VAIN", 20)
    _, kept, said = go("seed=1,2,-3", "sweep.sampler=random", "sweep.budget.time=1h")
    finished = [trial["values"]["seed"] for trial in kept["trials"] if trial["state"] == "finished"]
    assert sorted(finished) == [1, 2]
    assert "20 points in a row brought nothing new" in said


@pytest.mark.parametrize(
    "sampler",
    [
        "tpe",
        "random",
        pytest.param("{type: cma_es, n_startup_trials: 2}", marks=pytest.mark.slow),
        pytest.param("{type: nsga2, population_size: 3}", marks=pytest.mark.slow),
    ],
)
def test_every_sampler_tries_as_many_points_as_the_budget_has_and_goes_on_with_more(sampler):
    words = ["optimizer.lr=interval(1e-3,1e-1)", "optimizer.weight_decay=interval(0.0,0.1)", f"sweep.sampler={sampler}"]
    if "nsga2" in sampler:
        words.append("sweep.objective=[{metric: val_loss}, {metric: macs}]")
    outcome, kept, _ = go(*words, "sweep.budget.trials=5")
    # A generation may bring a point that was there before, which counts for none.
    done = [trial for trial in kept["trials"] if trial["state"] == "finished"]
    assert len(done) == 5
    points = {tuple(trial["values"].values()) for trial in done}
    assert len(points) == 5
    assert all(0.001 <= rate <= 0.1 and 0 <= decay <= 0.1 for rate, decay in points)
    if sampler != "random":  # whose points are known before, so that it is another sweep with more
        _, more, said = go(*words, "sweep.budget.trials=7", folder=outcome.folder)
        assert list(states(more).values()).count("finished") == 7
        assert more["trials"][: len(kept["trials"])] == kept["trials"]
        assert "5 trials were done before" in said
        whole = go(*words, "sweep.budget.trials=7", "run.name=whole")[1]
        assert [t["values"] for t in more["trials"]] == [t["values"] for t in whole["trials"]]


def test_replicas_are_one_trial_with_mean_and_deviation():
    outcome, kept, _ = go("optimizer.lr=0.1,0.01", "sweep.replicate={seeds: [3, 5], folds: 2}", "sweep.parallel=2")
    trials = outcome.folder / "trials"
    folders = sorted(str(file.parent.relative_to(trials)) for file in trials.glob("*/*/result.json"))
    assert folders == [f"{n}/seed-{s}-fold-{f}" for n in (1, 2) for s in (3, 5) for f in (1, 2)]
    results = [json.loads((outcome.folder / "trials" / name / "result.json").read_text()) for name in folders[:4]]
    losses = [result["val_loss"] for result in results]
    assert len(set(losses)) == 4
    whole = kept["trials"][0]["result"]
    assert (whole["runs"], whole["val_loss"]) == (4, pytest.approx(fmean(losses)))
    assert whole["val_loss_deviation"] == pytest.approx(stdev(losses))


def test_what_is_worse_than_others_were_is_given_up():
    """The rate that learns nothing, once two others have run to their ends."""
    words = ["trainer.epochs=4", "trainer.max_steps=null", "optimizer=sgd", "optimizer.lr=0.05,0.04,1e-9,0.06"]
    _, kept, said = go(*words, "sweep.pruner={type: median, n_startup_trials: 2}")
    assert states(kept)[3] == "pruned"
    gone = kept["trials"][2]["result"]
    assert (gone["status"], gone["epochs"]) == ("pruned", 1)
    assert "test_loss" not in gone
    assert "trial 3 pruned  optimizer.lr=1e-09  after 1 of 4 epochs, val_loss" in said
    assert 3 not in kept["best"]


def test_the_study_is_mended_where_a_kill_left_half_a_line():
    outcome, kept, _ = go("seed=1,2", "sweep.budget.trials=2")
    journal = outcome.folder / "optuna.journal"
    with journal.open("ab") as file:
        file.write(b'{"op_code": 6, "wor')
    assert states(go("seed=1,2", "sweep.budget.trials=2", folder=outcome.folder)[1]) == states(kept)


# Whole commands, and what kills them.


def command(*words):
    return [sys.executable, "-m", "cnnforge.cli.main", *words]


def begin(*words):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command(*words), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finished(*words):
    process = begin(*words)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out


def numbers(name):
    """What must be equal however often a sweep was killed."""
    kept = json.loads(Path(f"runs/{name}/sweep.json").read_text())
    timings = {"wall_seconds", "peak_memory_bytes", "samples_per_second", "first_step_seconds", "data_wait", "seconds"}
    return {
        trial["number"]: (trial["state"], {k: v for k, v in trial.get("result", {}).items() if k not in timings})
        for trial in kept["trials"]
    }


SWEEP = [*LONGER, "optimizer.lr=0.01,0.02", "seed=1,2,3", "sweep.parallel=2", "trainer.checkpoint_every=3"]


def workers_of(pid):
    children = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in children.read_text().split()] if children.exists() else []


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds worker processes in /proc")
@pytest.mark.parametrize("rounds", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_at_random_and_resumed_every_trial_is_done_once(rounds):
    """``kill -9`` of the driver and of workers: nothing lost, nothing doubled, every number as if it had never been."""
    finished("sweep", *SWEEP, "run.name=whole")
    chance = random.Random(rounds)
    for number in range(rounds):
        name = f"killed{number}"
        process = begin("sweep", *SWEEP, f"run.name={name}")
        for _ in range(4):
            time.sleep(chance.uniform(1.0, 2.5))
            if process.poll() is not None:
                break
            workers = workers_of(process.pid)
            if workers and chance.random() < 0.5:
                os.kill(chance.choice(workers), signal.SIGKILL)
                continue
            process.kill()
            process.communicate()
            known = Path(f"runs/{name}/begun.json").exists()
            process = begin("sweep", f"resume={name}") if known else begin("sweep", *SWEEP, f"run.name={name}")
        process.communicate(timeout=120)
        while any(state != "finished" for state, _ in numbers(name).values()):
            finished("sweep", f"resume={name}")
        assert numbers(name) == numbers("whole")


def test_ctrl_c_ends_trials_with_checkpoints_and_resume_goes_on():
    process = begin("sweep", *SWEEP, "trainer.epochs=60", "run.name=stopped")
    while not list(Path("runs").glob("stopped/trials/*/checkpoints/last")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130, out
    assert "fix:   cnnforge sweep resume=stopped goes on where it stopped" in out
    assert "running" not in {state for state, _ in numbers("stopped").values()}
    ended = [json.loads(p.read_text())["status"] for p in Path("runs/stopped/trials").glob("*/result.json")]
    assert "interrupted" in ended
    process = begin("sweep", "resume=stopped", "sweep.parallel=1")
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 0, out
    assert {state for state, _ in numbers("stopped").values()} == {"finished"}
    assert {result["epochs"] for _, result in numbers("stopped").values()} == {60}


@pytest.mark.slow
def test_drivers_without_a_shared_disk_share_the_trials():
    """Each has a folder of its own, with what it trained; what is known of the others' is in the storage."""
    words = [*QUICK, "seed=range(0,8)", "sweep.storage=study.journal", "run.name=shared"]
    processes = [begin("sweep", *words, f"run.dir=host{i}") for i in range(3)]
    for process in processes:
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0, out
    done = sorted(int(p.parent.name) for p in Path().glob("host*/shared/trials/*/result.json"))
    assert done == list(range(1, 9))
    known = [states(json.loads(file.read_text())) for file in Path().glob("host*/shared/sweep.json")]
    assert dict.fromkeys(range(1, 9), "finished") in known, "whose trial was the last to end knows of all"


def test_a_sweep_that_is_not_there():
    process = begin("sweep", "resume=nothing")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "nothing: no such sweep" in out


def outcome(objectives, *scores):
    trials = {
        n: Trial(Point(n, {}, (), cost=Cost(1, macs, 1)), "finished", {"val_accuracy": accuracy})
        for n, (accuracy, macs) in enumerate(scores, 1)
    }

    class Checked:
        spec = SweepSpec(objective=[Objective(metric=name) for name in objectives])

    return Outcome(Path(), Checked(), trials)


def test_the_best():
    scores = [(0.9, 100), (0.95, 300), (0.9, 200), (0.8, 50), (0.95, 400)]
    assert [t.number for t in outcome(["val_accuracy"], *scores).best] == [2]
    assert [t.number for t in outcome(["macs"], *scores).best] == [4]
    assert [t.number for t in outcome(["val_accuracy", "macs"], *scores).best] == [1, 2, 4]
    assert outcome(["val_loss"], *scores).best == []


@pytest.mark.filterwarnings("ignore")
def test_in_mlflow_a_sweep_is_the_parent_of_its_trials(monkeypatch):
    """With their true ends: one finished, one diverged, one given up."""
    import mlflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    words = ["trainer.epochs=3", "trainer.max_steps=null", f"optimizer.lr=0.01,0.02,1e-9,{WILD}", "tracking=mlflow"]
    outcome, kept, said = go(*words, "sweep.pruner={type: median, n_startup_trials: 2}", "run.name=nested")
    assert states(kept) == {1: "finished", 2: "finished", 3: "pruned", 4: "failed"}
    assert "tracking:" not in said
    client = mlflow.MlflowClient("sqlite:///runs/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "cnnforge"]
    runs = client.search_runs([experiment.experiment_id])
    (above,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = {run.data.tags["cnnforge.trial"]: run for run in runs if run is not above}
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {above.info.run_id}
    assert (above.info.run_name, above.info.status) == ("nested", "FINISHED")
    assert above.data.params["space.optimizer.lr"] == "{choices: [0.01, 0.02, 1e-09, 3e+38]}"
    assert above.data.metrics["trials_finished"] == 2
    best = min(trial.result["val_loss"] for trial in outcome.finished)
    assert above.data.metrics["best/val_loss"] == best
    ends = {number: (run.info.status, run.data.tags["cnnforge.status"]) for number, run in children.items()}
    assert ends == {
        "1": ("FINISHED", "finished"), "2": ("FINISHED", "finished"),
        "3": ("FINISHED", "pruned"), "4": ("FAILED", "diverged"),
    }  # fmt: skip
    # A second life is the same run: nothing is doubled.
    go(*words, "sweep.pruner={type: median, n_startup_trials: 2}", "run.name=nested", folder=outcome.folder)
    assert len(client.search_runs([experiment.experiment_id])) == 5
