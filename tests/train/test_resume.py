"""A run that is stopped and resumed, however it was stopped, is the run that was never stopped."""

import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from cnnforge.cli.console import PlainConsole
from cnnforge.config import compose, validate
from cnnforge.errors import CheckpointError, ConfigError, ConfigErrors, DataError, InterruptedRun
from cnnforge.tracking import read
from cnnforge.train import checkpoint, work
from cnnforge.train.record import is_timing, read_record
from cnnforge.train.reproduce import reproduce
from cnnforge.train.run import resume, run
from tests.train.test_command import command, environment

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

QUICK = [
    "model=lenet5", "data=synthetic", "data.samples=200", "data.test_samples=30", "data.noise=1", "tracking=none",
    "trainer.batch_size=32", "trainer.epochs=4", "trainer.log_every=2", "trainer.stats_every=3", "augment=flip_crop",
    "augment.crop.padding=2", "augment.mixup.alpha=0.5", "optimizer=adamw",
]  # fmt: skip
#: Of a result: what depends on the machine and the moment.
MOMENT = {
    "wall_seconds", "peak_memory_bytes", "samples_per_second", "data_wait", "first_step_seconds", "mlflow_run_id",
    "seconds",
}  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def spec(*overrides):
    return validate(compose([*QUICK, *overrides]))


def go(*overrides):
    return run(spec(*overrides), PlainConsole(io.StringIO()))


def go_on(folder, *overrides, **options):
    out = io.StringIO()
    return *resume(folder, overrides, PlainConsole(out), **options), out.getvalue()


def numbers(folder):
    """Everything that must be equal: results, metrics, and the bytes of weights and optimizer."""
    result = json.loads((folder / "result.json").read_text())
    metrics = [
        (r["step"], name, value)
        for r in read(folder / "journal.jsonl")[0]
        if r["kind"] == "metrics"
        for name, value in r["values"].items()
        if not is_timing(name)
    ]
    files = ["model/model.safetensors", "checkpoints/last/optimizer.safetensors", "checkpoints/best/model.safetensors"]
    digests = [hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in files]
    return {key: value for key, value in result.items() if key not in MOMENT}, sorted(metrics), digests


def stop_after(monkeypatch, *steps):
    """Ask runs to stop, as Ctrl-C does: the first after so many steps, then the next."""
    limits, real = list(steps), work.Life.step

    def step(self, progress, metrics):
        real(self, progress, metrics)
        self.done = getattr(self, "done", 0) + 1
        if limits and self.done == limits[0]:
            limits.pop(0)
            self.stop.reason = InterruptedRun("interrupted", why="Ctrl-C")

    monkeypatch.setattr(work.Life, "step", step)


@pytest.mark.parametrize("steps", [(1,), (5, 1, 2), (6, 6), (12,)])
def test_stopped_anywhere_and_resumed_it_is_the_same_run(monkeypatch, steps):
    whole, _ = go("run.name=whole")
    stop_after(monkeypatch, *steps)
    with pytest.raises(InterruptedRun) as error:
        go("run.name=pieces")
    assert "cnnforge resume runs/pieces" in str(error.value)
    folder = Path("runs/pieces")
    for _ in steps[1:]:
        with pytest.raises(InterruptedRun):
            go_on(folder)
    _, result, said = go_on(folder)
    assert result["status"] == "finished"
    assert f"resumed at step {sum(steps)}" in said
    assert "otherwise" not in said
    assert numbers(folder) == numbers(whole)


@pytest.mark.parametrize(
    "words", [["trainer.ema={decay: 0.9}"], ["trainer.swa={start: 0.3}", "model=small_mnist"],
              ["trainer.accumulate=2", "optimizer.clip={norm: 0.5}"],
              ["trainer.ema={decay: 0.9}", "trainer.accumulate=3", "model=lenet", "model.input=[32,32,1]"],
              ["optimizer=lamb", "trainer.ema={decay: 0.9}", "optimizer.clip={norm: 0.5}"],
              ["optimizer=muon", "trainer.ema={decay: 0.9}", "trainer.accumulate=2", "optimizer.clip={norm: 0.5}"]],
)  # fmt: skip
def test_averages_and_gathered_gradients_are_resumed_too(monkeypatch, words):
    whole, _ = go("run.name=whole", *words)
    stop_after(monkeypatch, 3, 2)
    for begin in (lambda: go("run.name=pieces", *words), lambda: go_on(Path("runs/pieces"))):
        with pytest.raises(InterruptedRun):
            begin()
    assert "otherwise" not in go_on(Path("runs/pieces"))[2]
    assert numbers(Path("runs/pieces")) == numbers(whole)


def test_what_stopped_early_is_over(monkeypatch):
    words = [
        "trainer.early_stop={patience: 1}",
        "schedule=plateau",
        "schedule.patience=0",
        "trainer.epochs=30",
        "optimizer.lr=0.02",
    ]
    whole, result = go("run.name=whole", *words)
    assert result["status"] == "early_stopped"
    assert result["epochs"] < 30
    stop_after(monkeypatch, 8, 5)
    for begin in (lambda: go("run.name=pieces", *words), lambda: go_on(Path("runs/pieces"))):
        with pytest.raises(InterruptedRun):
            begin()
    assert go_on(Path("runs/pieces"))[1]["status"] == "early_stopped"
    assert numbers(Path("runs/pieces")) == numbers(whole)
    with pytest.raises(ConfigError, match="pieces has stopped early: there is nothing to resume"):
        go_on(Path("runs/pieces"))


def test_without_a_checkpoint_it_begins_again():
    whole, _ = go("run.name=whole")
    folder, _ = go("run.name=cut")
    shutil.rmtree(folder / "checkpoints")
    shutil.rmtree(folder / "model")
    lines = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    kept = next(i for i, line in enumerate(lines) if b'"metrics"' in line) + 1
    (folder / "journal.jsonl").write_bytes(b"".join(lines[:kept]) + lines[kept][:20])
    go_on(folder)
    assert numbers(folder) == numbers(whole)


def test_a_checkpoint_comes_every_so_many_steps(monkeypatch):
    made, real = [], checkpoint.Checkpoints.save
    monkeypatch.setattr(
        checkpoint.Checkpoints,
        "save",
        lambda self, progress, *a, **k: made.append(progress.step) or real(self, progress, *a, **k),
    )
    go("trainer.checkpoint_every=2", "trainer.epochs=2")
    assert made == [2, 4, 6, 8, 10, 12]  # at 6 and 12 an epoch ends: one checkpoint, not two


@pytest.mark.parametrize("left", ["temporary", "swapped", "no best"])
def test_what_a_kill_left_half_done_is_mended(monkeypatch, left):
    whole, _ = go("run.name=whole")
    stop_after(monkeypatch, 15)
    with pytest.raises(InterruptedRun):
        go("run.name=cut")
    folder = Path("runs/cut/checkpoints")
    last = (folder / "last").resolve()
    if left == "temporary":
        shutil.copytree(last, folder / ".step-16.99.tmp")
        (folder / ".last.99.tmp").symlink_to("step-16")
    elif left == "swapped":  # between two renames
        last.rename(folder / f".{last.name}.99.old")
    else:
        (folder / "best").unlink()
    go_on(folder.parent)
    assert numbers(folder.parent) == numbers(whole)
    assert not list(folder.glob(".*"))


def test_a_full_disk_leaves_the_checkpoint_before(monkeypatch):
    whole, _ = go("run.name=whole")
    real, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 12:  # within the second checkpoint
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(CheckpointError, match="cannot write step-12: No space left on device") as error:
        go("run.name=full")
    assert "earlier checkpoints are untouched" in str(error.value)
    monkeypatch.setattr(checkpoint.os, "fsync", real)
    _, _, said = go_on(Path("runs/full"))
    assert "resumed at step 6" in said
    assert numbers(Path("runs/full")) == numbers(whole)


def test_a_finished_run_has_nothing_to_resume_but_may_train_longer():
    folder, _ = go("run.name=a")
    with pytest.raises(ConfigError, match="a has finished: there is nothing to resume") as error:
        go_on(folder)
    assert "trainer.epochs=8 --changed" in str(error.value)
    _, result, said = go_on(folder, "trainer.epochs=6", changed=True)
    assert "changed: trainer.epochs was 4, is 6" in said
    assert (result["epochs"], result["steps"]) == (6, 36)
    # What was changed once is the run's config from then on.
    assert read_record(folder).changes == ()
    longer, _ = go("run.name=b", "trainer.epochs=6")
    # But for the test after epoch 4 they are one, because the learning rate here does not depend on the epochs.
    for index in (0, 2):
        assert numbers(folder)[index] == numbers(longer)[index]


def test_changes_are_named_and_refused_unless_asked_for(monkeypatch):
    stop_after(monkeypatch, 7)
    with pytest.raises(InterruptedRun):
        go("run.name=a")
    folder = Path("runs/a")
    before = (folder / "journal.jsonl").read_bytes(), (folder / "config.yaml").read_bytes()
    with pytest.raises(ConfigErrors) as error:
        go_on(folder, "optimizer.lr=0.01", "seed=3")
    said = str(error.value)
    assert "optimizer.lr is 0.01, and was 0.001 when the run began" in said
    assert "seed is 3, and was 0" in said
    assert "--changed" in said
    with pytest.raises(ConfigErrors, match=r"did you mean|unknown"):
        go_on(folder, "optimizer.lrr=0.01")
    assert before == ((folder / "journal.jsonl").read_bytes(), (folder / "config.yaml").read_bytes())
    (folder / "config.yaml").write_text(before[1].decode().replace("epochs: 4", "epochs: 3"))
    with pytest.raises(ConfigErrors, match=r"trainer\.epochs is 3, and was 4"):
        go_on(folder)
    (folder / "config.yaml").write_bytes(before[1])
    _, result, said = go_on(folder, "optimizer.lr=0.01", "trainer.keep=1", changed=True)
    assert "changed: optimizer.lr was 0.001, is 0.01" in said
    assert "keep" not in said, "what changes no number needs no word"
    assert result["status"] == "finished"
    with pytest.raises(ConfigError, match="a is not what one config says"):
        reproduce(folder, PlainConsole(io.StringIO()))


def test_other_data_are_refused(monkeypatch):
    np.savez("own.npz", x=np.random.default_rng(0).normal(size=(80, 32, 32, 1)).astype("float32"), y=np.arange(80) % 10)
    own = ["data=npz", "data.path=own.npz", "data.classes=10", "~data.samples", "~data.test_samples", "~data.noise"]
    words = [word for word in QUICK if not word.startswith("data")] + own[:3]
    stop_after(monkeypatch, 3)
    with pytest.raises(InterruptedRun):
        run(validate(compose([*words, "run.name=a"])), PlainConsole(io.StringIO()))
    np.savez("own.npz", x=np.random.default_rng(1).normal(size=(80, 32, 32, 1)).astype("float32"), y=np.arange(80) % 10)
    with pytest.raises(DataError, match="not those that the run began with"):
        go_on(Path("runs/a"))
    assert go_on(Path("runs/a"), changed=True)[1]["status"] == "finished"


def test_no_config_no_run(monkeypatch):
    folder, _ = go("run.name=a")
    (folder / "config.yaml").unlink()
    with pytest.raises(ConfigErrors, match="its config is not there"):
        go_on(folder)


def test_a_run_done_again_is_equal_and_another_seed_is_not(monkeypatch):
    folder, _ = go("run.name=a")
    compared = reproduce(folder, PlainConsole(io.StringIO()))
    assert compared.equal
    assert compared.again == Path("runs/a-again")
    assert len(compared.metrics) > 50
    other, _ = go("run.name=b", "seed=1")
    assert numbers(other)[2] != numbers(folder)[2]
    # A record of other numbers is found out.
    lines = (folder / "journal.jsonl").read_text().splitlines(keepends=True)
    i = next(i for i, line in enumerate(lines) if '"val_loss"' in line)
    record = json.loads(lines[i])
    record["values"]["val_loss"] += 1e-9
    lines[i] = json.dumps(record) + "\n"
    (folder / "journal.jsonl").write_text("".join(lines))
    again = reproduce(folder, PlainConsole(io.StringIO()))
    assert not again.equal
    assert again.differing == [("val_loss", 1)]
    assert again.weights


def test_only_what_reached_its_end_can_be_done_again(monkeypatch):
    stop_after(monkeypatch, 3)
    with pytest.raises(InterruptedRun):
        go("run.name=a")
    with pytest.raises(ConfigError, match="a did not reach its end") as error:
        reproduce(Path("runs/a"), PlainConsole(io.StringIO()))
    assert "cnnforge resume a" in str(error.value)


def test_what_several_processes_trained_is_not_done_again_by_one(monkeypatch):
    folder, _ = go("run.name=a")
    plan = json.loads((folder / "plan.json").read_text())
    (folder / "plan.json").write_text(json.dumps(plan | {"ranks": 4}))
    with pytest.raises(ConfigError, match="a was trained by 4 processes") as error:
        reproduce(folder, PlainConsole(io.StringIO()))
    assert "mpiexec -n 4 cnnforge train" in str(error.value)


KILLED = [
    "model=lenet5", "data=digits", "trainer.batch_size=32", "optimizer=adamw", "augment=flip_crop",
    "augment.crop.padding=2", "trainer.checkpoint_every=7", "trainer.stats_every=20",
]  # fmt: skip


def history(folder):
    """What MLflow has of a run: every metric point but the timings."""
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{folder.parent}/mlflow.db")
    found = client.get_run(json.loads((folder / "tracking.json").read_text())["mlflow_run_id"])
    names = sorted(name for name in found.data.metrics if not is_timing(name))
    points = {name: [(m.step, m.value) for m in client.get_metric_history(found.info.run_id, name)] for name in names}
    return found.info.status, points


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kills", "epochs"), [(2, 20), pytest.param(25, 300, marks=pytest.mark.slow)], ids=["twice", "25 times"]
)
def test_killed_at_random_and_resumed_each_time(tmp_path, kills, epochs):
    """``kill -9`` of the whole command: weights, metrics and MLflow's history come out as if it had never been."""

    def begin(*words):
        return subprocess.Popen(
            command(*words),
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    words = ["train", *KILLED, f"trainer.epochs={epochs}"]
    assert begin(*words, "run.name=whole").wait(300) == 0
    folder, moments, done = tmp_path / "runs" / "killed", random.Random(0), 0
    process = begin(*words, "run.name=killed")
    while done < kills:
        time.sleep(moments.uniform(0.2, 1.6))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        done += 1
        known = (folder / "journal.jsonl").exists()
        if not known:
            shutil.rmtree(folder, ignore_errors=True)
        process = begin("resume", "killed") if known else begin(*words, "run.name=killed")
    _, complaint = process.communicate(timeout=300)
    assert process.returncode == 0 or "has finished" in complaint, complaint
    assert done > kills / 2
    assert numbers(folder) == numbers(tmp_path / "runs" / "whole")
    assert subprocess.run(command("sync"), cwd=tmp_path, env=environment(), capture_output=True).returncode == 0
    assert history(folder) == history(tmp_path / "runs" / "whole")
    assert not [f for f in (*folder.iterdir(), *(folder / "checkpoints").iterdir()) if f.name.endswith(".tmp")]


@pytest.mark.filterwarnings("ignore")
def test_the_commands(tmp_path):
    def said(*words):
        done = subprocess.run(command(*words), cwd=tmp_path, env=environment(), capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    code, _, complaint = said("train", *QUICK, "run.name=a")
    assert code == 0, complaint
    code, out, complaint = said("reproduce", "a")
    assert code == 0, complaint
    assert "recorded numbers are equal; every weight is equal to the bit" in out
    code, out, _ = said("reproduce", "latest", "--json")
    assert json.loads(out)["equal"] is True
    code, _, complaint = said("resume", "a")
    assert (code, "nothing to resume" in complaint) == (2, True)
    code, out, _ = said("resume", "a", "trainer.epochs=5", "--changed", "--json")
    assert (code, json.loads(out)["epochs"]) == (0, 5)
    code, _, complaint = said("resume", "nobody")
    assert (code, "nobody: no such run" in complaint) == (2, True)
