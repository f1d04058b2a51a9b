"""`cnnforge train` as a user runs it: a process of its own, real MLflow, real signals, a real kill -9."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import cnnforge
from cnnforge.backends import resolve

# MLflow's client runs inside some of these tests and warns about itself; cnnforge runs in processes of its own.
pytestmark = pytest.mark.filterwarnings("ignore")

SMALL = [
    "model=lenet5", "data.validation=0.2", "trainer.epochs=3", "trainer.batch_size=128", "trainer.log_every=2",
    "optimizer.lr=0.005", "trainer.report=false",
]  # fmt: skip


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "cnnforge", *arguments]


def environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "CNNFORGE_"))}
    # Two busy threads of BLAS beside the other tests' would wait for each other more than they work.
    return kept | {"OPENBLAS_NUM_THREADS": "1"}


def train(folder, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("train", *SMALL, *arguments), cwd=folder, env=environment(), capture_output=True, text=True, timeout=120
    )  # fmt: skip


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """One run with everything switched on."""
    folder = tmp_path_factory.mktemp("tracked")
    done = train(folder, "trainer.report=true")
    assert done.returncode == 0, done.stderr
    return folder, done


def test_it_says_where_to_look(tracked):
    _, done = tracked
    assert done.stderr == ""
    assert "\x1b" not in done.stdout, "plain lines where stdout is no terminal"
    last = done.stdout.strip().splitlines()[-5:]
    assert [line.split("  ")[0] for line in last] == ["test accuracy", "time", "run folder", "report", "look at it"]
    assert "runs/lenet5-digits/" in last[2]
    assert last[3].endswith("  runs/lenet5-digits/report.html")
    assert last[4].rstrip().endswith("ui")
    assert "pictures 8x8x1 -> 32x32x1: bilinear" in done.stdout


def test_mlflow_has_it_all(tracked):
    """Through MLflow's own API: finished, parameters, metrics by step and by epoch, artifacts, data set, tags."""
    folder, _ = tracked
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{folder}/runs/mlflow.db")
    result = json.loads((folder / "runs/latest/result.json").read_text())
    run = client.get_run(result["mlflow_run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.params["model.layers.conv1.filters"] == "6"
    assert run.data.params["optimizer.lr"] == "0.005"
    for name in ("train_loss", "val_accuracy", "test_accuracy"):
        assert run.data.metrics[name] == pytest.approx(result[name])
    assert [m.step for m in client.get_metric_history(run.info.run_id, "train_loss")] == [1, 2, 3]
    steps = [m.step for m in client.get_metric_history(run.info.run_id, "step/train_loss")]
    assert steps == [2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 27][: len(steps)]
    assert len(steps) > 8
    kept = {a.path for a in client.list_artifacts(run.info.run_id)}
    assert kept >= {"config.yaml", "plan.json", "result.json", "report.html", "plots"}
    plots = {a.path for a in client.list_artifacts(run.info.run_id, "plots")}
    assert plots >= {f"plots/{name}.png" for name in ("learning_curves", "confusion", "filters", "feature_maps_1")}
    assert [i.dataset.name for i in run.inputs.dataset_inputs] == ["digits"]
    assert run.data.tags["backend"] == resolve("auto")
    assert run.data.tags["cnnforge.version"] == cnnforge.__version__


def test_the_logged_model_predicts_the_same_numbers(tracked, monkeypatch):
    folder, _ = tracked
    import mlflow

    result = json.loads((folder / "runs/latest/result.json").read_text())
    # ``mlflow.set_tracking_uri`` would last for all tests after this one.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/runs/mlflow.db")
    loaded = mlflow.pyfunc.load_model(f"runs:/{result['mlflow_run_id']}/model")
    x = np.random.default_rng(0).normal(size=(5, 32, 32, 1)).astype(np.float32)
    own = cnnforge.Model.load(folder / "runs/latest").predict(x)
    np.testing.assert_array_equal(loaded.predict(x), own)
    assert not list((folder / "runs").rglob("*.pkl"))


def test_json_is_all_that_stdout_holds(tmp_path):
    done = train(tmp_path, "--json", "tracking=none", "trainer.epochs=1")
    answer = json.loads(done.stdout)
    assert answer["status"] == "finished"
    assert answer["run"] == "runs/lenet5-digits"
    assert "epoch 1/1" in done.stderr


def started(folder, *arguments: str) -> subprocess.Popen[str]:
    """A long run that has taken its first steps."""
    process = subprocess.Popen(
        command("train", *SMALL, "trainer.epochs=500", *arguments),
        cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    journal = folder / "runs/latest/journal.jsonl"
    deadline = time.monotonic() + 60
    while not (journal.exists() and "step/train_loss" in journal.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_ends_it_with_a_checkpoint(tmp_path, number, code, word):
    process = started(tmp_path, "tracking=none")
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == code
    assert said.startswith(word)
    assert "Traceback" not in said
    run = tmp_path / "runs/latest"
    result = json.loads((run / "result.json").read_text())
    assert result["status"] == "interrupted"
    state = json.loads((run / "checkpoints/last/state.json").read_text())
    assert state["step"] == result["steps"] > 0


def test_killing_the_tracker_does_not_kill_training(tmp_path):
    """kill -9 of the sender in the middle; the run goes on, and what was unsent is sent at the end."""
    process = started(tmp_path)
    sender = None
    deadline = time.monotonic() + 60
    while sender is None and time.monotonic() < deadline:
        children = subprocess.run(
            ["ps", "-o", "pid=,args=", "--ppid", str(process.pid)], capture_output=True, text=True
        )
        sender = next((int(line.split()[0]) for line in children.stdout.splitlines() if "tracking" in line), None)
    assert sender is not None
    os.kill(sender, signal.SIGKILL)
    journal = tmp_path / "runs/latest/journal.jsonl"
    lines = len(journal.read_text().splitlines())
    while len(journal.read_text().splitlines()) < lines + 20:
        assert process.poll() is None, "training ended with its tracker"
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    import mlflow

    result = json.loads((tmp_path / "runs/latest/result.json").read_text())
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    run = client.get_run(result["mlflow_run_id"])
    assert run.info.status == "KILLED"
    from cnnforge.tracking import read

    written = [r["step"] for r in read(journal)[0] if r["kind"] == "metrics" and "step/train_loss" in r["values"]]
    assert [m.step for m in client.get_metric_history(run.info.run_id, "step/train_loss")] == written


def test_an_unreachable_tracker_costs_seconds_not_the_run(tmp_path):
    done = train(tmp_path, "trainer.epochs=1", "tracking.uri=http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    assert "cnnforge sync" in done.stdout
    assert json.loads((tmp_path / "runs/latest/result.json").read_text())["status"] == "finished"


def test_data_that_is_not_there_is_exit_3(tmp_path):
    environ = environment() | {"XDG_CACHE_HOME": str(tmp_path / "no"), "CNNFORGE_DATA": str(tmp_path / "none")}
    done = subprocess.run(
        command("train", "data=mnist", "tracking=none"), cwd=tmp_path, env=environ, capture_output=True, text=True
    )  # fmt: skip
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert "CNNFORGE_DATA" in done.stderr


def test_a_mistake_leaves_no_folder(tmp_path):
    done = train(tmp_path, "trainer.epoch=3")
    assert done.returncode == 2
    assert "did you mean 'epochs'?" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_live_bar_in_a_terminal(tmp_path):
    """Under a pseudo-terminal the bar is drawn, and the epochs' lines stay above it."""
    import pty

    main, side = pty.openpty()
    process = subprocess.Popen(
        command("train", *SMALL, "tracking=none", "trainer.epochs=2"),
        cwd=tmp_path, env=environment() | {"TERM": "xterm-256color", "COLUMNS": "120"}, stdout=side, stderr=side,
    )  # fmt: skip
    os.close(side)
    seen = b""
    while True:
        try:
            piece = os.read(main, 4096)
        except OSError:  # how Linux says that the other end is closed
            break
        if not piece:
            break
        seen += piece
    os.close(main)
    assert process.wait() == 0
    text = seen.decode()
    assert "━" in text
    assert "epoch 2/2" in text
    assert "test accuracy" in text


def test_one_run_has_one_value_of_each(tmp_path):
    done = train(tmp_path, "optimizer.lr=0.1,0.01")
    assert done.returncode == 2
    assert "cnnforge train -m for a run of each" in done.stderr
    done = train(tmp_path, "sweep=lenet_structure")
    assert done.returncode == 2
    assert done.stderr.startswith("sweep lenet_structure is many runs, and this command trains one\n")
    assert "fix:   cnnforge sweep, or cnnforge train -m, with the same words" in done.stderr
    assert not (tmp_path / "runs").exists()
