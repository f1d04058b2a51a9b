"""The journal's way into a real MLflow database, through the real sender process."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from cnnforge.tracking import Journal, Outcome, mlflow_run_id, read, start
from cnnforge.tracking.journal import journal_path
from cnnforge.tracking.sender import send_all
from cnnforge.tracking.state import load, save
from tests.waiting import closed_port, wait_for

Query = Callable[..., list[tuple[Any, ...]]]
NewRun = Callable[[], Path]

LOADER = """
import json, pathlib

class Doubling:
    def predict(self, x, params=None):
        return x * self.factor

def _load_pyfunc(path):
    model = Doubling()
    model.factor = json.loads((pathlib.Path(path) / "model.json").read_text())["factor"]
    return model
"""


def status_of(query: Query, run_id: str | None) -> str:
    return str(query("SELECT status FROM runs WHERE run_uuid = ?", run_id)[0][0])


# ---- one run with everything in it ----


@dataclass(frozen=True)
class Sent:
    run_dir: Path
    outcome: Outcome
    run_id: str


@pytest.fixture(scope="module")
def sent(new_run: NewRun) -> Sent:
    """A whole training life: params, data, metrics, an artifact, a model, a resume with a changed param."""
    run_dir = new_run()
    (run_dir / "plots" / "deep").mkdir(parents=True)
    (run_dir / "plots" / "loss.txt").write_text("loss")
    (run_dir / "plots" / "deep" / "more.txt").write_text("more")
    (run_dir / "saved").mkdir()
    (run_dir / "saved" / "model.json").write_text('{"factor": 2}')
    (run_dir / "outside").symlink_to("/etc/hostname")
    with Journal(run_dir) as journal:
        sender = start(run_dir, uri=None, experiment="everything", run_name="lenet")
        journal.params({"optimizer": {"lr": 0.001}, "odd@name": 1, "long": "x" * 7000})
        journal.params({f"many.{i}": i for i in range(130)})
        journal.tags({"team": "vision", "long": "t" * 9000})
        journal.dataset("digits", "scikit-learn", "ab" * 32, {"train": 1437, "test": 360}, (8, 8, 1), 10)
        for step in range(1300):
            journal.metrics({"train_loss": 1 / (step + 1), "train_accuracy": step / 1300}, step)
        journal.metrics({"top@5[val]=#": 0.5, "grad_norm": math.inf, "ratio": math.nan, "low": -math.inf}, step=1300)
        journal.artifact("plots")
        journal.artifact("plots/loss.txt")
        journal.artifact("not-there.txt")
        journal.artifact("outside")
        journal.event("checkpoint", step=100)
        journal.event("checkpoint", step=200)
        journal.model("saved", input_shape=(8, 8, 1), output_shape=(10,), loader="tiny_loader")
        journal.params({"optimizer": {"lr": 0.01}})
        # neither the terminal's Ctrl-C nor a SIGTERM to every process of a job stops the sending
        assert sender.pid is not None
        assert os.getsid(sender.pid) == sender.pid
        wait_for(lambda: load(run_dir).mlflow_run_id is not None)
        pid = sender.pid
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
        journal.end("early_stopped")
        outcome = sender.finish(timeout=60)
        assert sender.pid == pid  # it lived on, no second one had to be started
    assert outcome.run_id is not None
    return Sent(run_dir, outcome, outcome.run_id)


def test_everything_was_sent_and_the_rest_is_named(sent: Sent, runs: Path) -> None:
    log = sent.run_dir / "tracking.log"
    assert sent.outcome.pending == 0
    assert sent.outcome.reason == f"sent to sqlite:///{runs}/mlflow.db, but for 2 left out and named in {log}"
    assert "artifact not-there.txt: is not there" in log.read_text()
    assert "artifact outside: lies outside the run folder" in log.read_text()
    assert mlflow_run_id(sent.run_dir) == sent.run_id


def test_the_run_has_its_name_experiment_times_and_true_status(sent: Sent, runs: Path, query: Query) -> None:
    records, _ = read(journal_path(sent.run_dir))
    rows = query(
        "SELECT r.name, e.name, e.artifact_location, r.status, r.start_time, r.end_time FROM runs r "
        "JOIN experiments e USING (experiment_id) WHERE r.run_uuid = ?",
        sent.run_id,
    )
    artifacts = (runs / "artifacts").as_uri()
    assert rows == [("lenet", "everything", artifacts, "FINISHED", records[0]["time"], records[-1]["time"])]
    assert query("PRAGMA journal_mode") == [("wal",)]


def test_the_database_file_alone_is_complete(sent: Sent, runs: Path, tmp_path: Path) -> None:
    shutil.copy(runs / "mlflow.db", tmp_path / "copy.db")
    with closing(sqlite3.connect(tmp_path / "copy.db")) as connection:
        assert connection.execute("SELECT status FROM runs WHERE run_uuid = ?", (sent.run_id,)).fetchone() == (
            "FINISHED",
        )


def test_metrics_arrive_once_with_the_journals_times(sent: Sent, query: Query) -> None:
    records, _ = read(journal_path(sent.run_dir))
    written = [
        (name, record["step"], record["time"], value)
        for record in records
        if record["kind"] == "metrics" and record["step"] < 1300
        for name, value in record["values"].items()
    ]
    rows = query("SELECT key, step, timestamp, value FROM metrics WHERE run_uuid = ? AND step < 1300", sent.run_id)
    assert sorted(rows) == sorted(written)
    assert len(rows) == 2600


def test_strange_names_and_numbers_arrive_as_mlflow_can_hold_them(sent: Sent, query: Query) -> None:
    rows = query("SELECT key, value, is_nan FROM metrics WHERE run_uuid = ? AND step = 1300", sent.run_id)
    top = sys.float_info.max
    assert sorted(rows) == [("grad_norm", top, 0), ("low", -top, 0), ("ratio", 0.0, 1), ("top_5_val___", 0.5, 0)]
    tags: dict[str, str] = dict(
        query("SELECT key, value FROM tags WHERE run_uuid = ? AND key LIKE 'not_finite%'", sent.run_id)
    )
    assert tags == {
        "not_finite.grad_norm": "inf at step 1300, drawn as 1.797e308",
        "not_finite.low": "-inf at step 1300, drawn as 1.797e308",
        "not_finite.ratio": "nan at step 1300",
    }


def test_params_are_cut_visibly_and_changes_become_tags(sent: Sent, runs: Path, query: Query) -> None:
    params: dict[str, str] = dict(query("SELECT key, value FROM params WHERE run_uuid = ?", sent.run_id))
    assert len(params) == 133
    assert params["many.129"] == "129"
    assert params["odd_name"] == "1"
    assert params["optimizer.lr"] == "0.001"
    assert len(params["long"]) == 6000
    assert params["long"].endswith("x [cut: 7,000 characters, whole in artifact params/long.txt]")
    kept = runs / "artifacts" / sent.run_id / "artifacts"
    assert (kept / "params" / "long.txt").read_text() == "x" * 7000
    tags: dict[str, str] = dict(query("SELECT key, value FROM tags WHERE run_uuid = ?", sent.run_id))
    assert tags["param_changed.optimizer.lr"] == "0.01"
    assert tags["team"] == "vision"
    assert tags["cnnforge.status"] == "early_stopped"
    assert tags["long"].endswith("t [cut: 9,000 characters, whole in journal.jsonl]")
    assert json.loads(tags["event.checkpoint"]) == {"step": 200}


def test_artifacts_and_data_are_there(sent: Sent, runs: Path, query: Query) -> None:
    kept = runs / "artifacts" / sent.run_id / "artifacts"
    assert sorted(str(path.relative_to(kept)) for path in kept.rglob("*.txt")) == [
        "params/long.txt",
        "plots/deep/more.txt",
        "plots/loss.txt",
    ]
    rows = query(
        "SELECT d.name, d.digest, d.dataset_profile, t.value FROM inputs i JOIN datasets d ON d.dataset_uuid = "
        "i.source_id JOIN input_tags t USING (input_uuid) WHERE i.destination_id = ?",
        sent.run_id,
    )
    assert [(name, digest, context) for name, digest, _, context in rows] == [("digits", "ab" * 18, "train, test")]
    assert json.loads(rows[0][2]) == {"splits": {"train": 1437, "test": 360}, "classes": 10, "digest": "ab" * 32}


def test_the_model_loads_through_mlflow(sent: Sent, runs: Path, query: Query, tmp_path: Path) -> None:
    (tmp_path / "tiny_loader.py").write_text(LOADER)
    program = (
        "import sys, numpy as np, mlflow\n"
        "mlflow.set_tracking_uri(sys.argv[1])\n"
        "model = mlflow.pyfunc.load_model(f'runs:/{sys.argv[2]}/model')\n"
        "assert (model.predict(np.ones((2, 8, 8, 1))) == 2).all()\n"
        "print(model.metadata.metadata)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, f"sqlite:///{runs}/mlflow.db", sent.run_id],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "MLFLOW_DISABLE_TELEMETRY": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "{'input_shape': '[8, 8, 1]', 'output_shape': '[10]'}"
    assert query("SELECT name, status FROM logged_models WHERE source_run_id = ?", sent.run_id) == [("model", 2)]
    requirements = next((runs / "artifacts" / "models").rglob("requirements.txt")).read_text()
    assert any(line.startswith("cnnforge") for line in requirements.splitlines())
    assert not list((runs / "artifacts").rglob("*.pkl"))


def test_a_lost_tracking_json_doubles_nothing(sent: Sent, query: Query) -> None:
    """Everything is sent again, found again by our tag, and lands on itself. Last of the tests of this run."""
    sizes = "SELECT (SELECT count(*) FROM metrics), (SELECT count(*) FROM params), (SELECT count(*) FROM tags), "
    sizes += "(SELECT count(*) FROM inputs), (SELECT count(*) FROM logged_models), (SELECT count(*) FROM runs)"
    before = query(sizes)
    (sent.run_dir / "tracking.json").write_text('{"offset": "many", "run": 7')
    ((_, outcome),) = send_all([sent.run_dir])
    assert (outcome.run_id, outcome.pending) == (sent.run_id, 0)
    assert query(sizes) == before
    assert status_of(query, sent.run_id) == "FINISHED"


# ---- trouble ----


def test_kill_9_of_the_sender_loses_and_doubles_nothing(new_run: NewRun, query: Query) -> None:
    run_dir, total = new_run(), 1500
    with Journal(run_dir) as journal:
        for step in range(total):
            journal.metrics({"train_loss": float(step)}, step)
        sender = start(run_dir, uri=None, experiment="trouble", run_name="killed sender")
        wait_for(lambda: load(run_dir).offset > 0)
        assert sender.pid is not None
        os.kill(sender.pid, signal.SIGKILL)
        # as if it had been killed between sending and noting it
        save(run_dir, replace(load(run_dir), offset=journal_path(run_dir).stat().st_size // 2, mlflow_run_id=None))
        journal.metrics({"train_loss": float(total)}, total)
        journal.end("finished")
        outcome = sender.finish(timeout=60)
    assert outcome.pending == 0
    rows = query("SELECT step FROM metrics WHERE run_uuid = ?", outcome.run_id)
    assert sorted(rows) == [(step,) for step in range(total + 1)]
    assert query("SELECT count(*) FROM runs WHERE name = 'killed sender'") == [(1,)]
    assert status_of(query, outcome.run_id) == "FINISHED"


def test_kill_9_of_the_training_is_killed_until_resumed(new_run: NewRun, query: Query) -> None:
    run_dir = new_run()
    program = (
        "import sys, time; from pathlib import Path; from cnnforge.tracking import Journal, start\n"
        "run_dir = Path(sys.argv[1]); journal = Journal(run_dir)\n"
        "sender = start(run_dir, uri=None, experiment='trouble', run_name='killed training')\n"
        "journal.metrics({'train_loss': 1.0}, 1); print('ready', flush=True); time.sleep(60)"
    )
    training = subprocess.Popen([sys.executable, "-c", program, str(run_dir)], stdout=subprocess.PIPE)
    assert training.stdout is not None
    assert training.stdout.readline() == b"ready\n"
    wait_for(lambda: load(run_dir).mlflow_run_id is not None)
    run_id = load(run_dir).mlflow_run_id
    assert status_of(query, run_id) == "RUNNING"
    training.kill()
    training.wait()
    training.stdout.close()
    wait_for(lambda: status_of(query, run_id) == "KILLED")
    assert query("SELECT step FROM metrics WHERE run_uuid = ?", run_id) == [(1,)]

    with Journal(run_dir) as journal:
        sender = start(run_dir, uri=None, experiment="trouble", run_name="killed training")
        journal.metrics({"train_loss": 0.5}, 2)
        wait_for(lambda: status_of(query, run_id) == "RUNNING")
        journal.end("diverged")
        outcome = sender.finish(timeout=60)
    assert (outcome.run_id, outcome.pending) == (run_id, 0)
    assert status_of(query, run_id) == "FAILED"
    assert sorted(query("SELECT step FROM metrics WHERE run_uuid = ?", run_id)) == [(1,), (2,)]


def test_an_unreachable_tracker_is_bounded_and_sent_later(new_run: NewRun, runs: Path, query: Query) -> None:
    run_dir, port = new_run(), closed_port()
    with Journal(run_dir) as journal:
        sender = start(run_dir, uri=f"http://me:secret@127.0.0.1:{port}", experiment="later", run_name="later")
        journal.metrics({"train_loss": 1.0}, 1)
        journal.end("finished")
        began = time.monotonic()
        outcome = sender.finish(timeout=12)
    assert time.monotonic() - began < 13
    assert (outcome.run_id, outcome.pending) == (None, 3)
    assert outcome.reason == (
        f"3 records not sent to http://***@127.0.0.1:{port}: Connection refused; cnnforge sync '{run_dir}' sends them"
    )
    assert "secret" not in (run_dir / "tracking.log").read_text()

    ((_, outcome),) = send_all([run_dir], f"sqlite:///{runs}/mlflow.db")
    assert outcome.pending == 0
    assert outcome.run_id is not None
    assert status_of(query, outcome.run_id) == "FINISHED"
    assert query("SELECT step, value FROM metrics WHERE run_uuid = ?", outcome.run_id) == [(1, 1.0)]


def test_a_locked_database_keeps_nobody_waiting(new_run: NewRun, runs: Path, sent: Sent) -> None:
    assert sent.outcome.pending == 0  # the database is there
    run_dir = new_run()
    with closing(sqlite3.connect(runs / "mlflow.db", isolation_level=None)) as other, Journal(run_dir) as journal:
        other.execute("BEGIN EXCLUSIVE")
        sender = start(run_dir, uri=None, experiment="trouble", run_name="locked")
        began = time.monotonic()
        journal.metrics({"train_loss": 1.0}, 1)
        journal.end("finished")
        assert time.monotonic() - began < 0.5
        outcome = sender.finish(timeout=4)
        assert time.monotonic() - began < 6
        other.execute("ROLLBACK")
    assert outcome.pending == 3
    assert outcome.reason.endswith(f"not done within 4 s; cnnforge sync '{run_dir}' sends them")
    assert sender.pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(sender.pid, 0)


WRITER = """
import sys
from pathlib import Path
from cnnforge.tracking import Journal, start

run_dir = Path(sys.argv[1])
run_dir.mkdir()
with Journal(run_dir) as journal:
    sender = start(run_dir, uri=None, experiment="new", run_name=run_dir.name)
    journal.params({f"p{i}": i for i in range(200)})
    for step in range(1500):
        journal.metrics({"train_loss": 1 / (step + 1)}, step)
    (run_dir / "plot.txt").write_text(run_dir.name)
    journal.artifact("plot.txt")
    journal.end(sys.argv[2])
    outcome = sender.finish(timeout=120)
assert outcome.pending == 0, outcome.reason
"""


def test_four_processes_make_and_fill_one_new_database_at_once(tmp_path: Path) -> None:
    words = {"a": "finished", "b": "interrupted", "c": "pruned", "d": "failed"}
    for name in words:
        (tmp_path / f"tmp-{name}").mkdir()
    writers = [
        # as in containers that share the runs: MLflow's own lock lies in the temporary folder
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / name), word],
            env={**os.environ, "TMPDIR": str(tmp_path / f"tmp-{name}")},
            stderr=subprocess.PIPE,
            text=True,
        )
        for name, word in words.items()
    ]
    assert [(writer.communicate()[1], writer.returncode) for writer in writers] == 4 * [("", 0)]
    assert {name: (tmp_path / name / "tracking.log").read_text() for name in words} == dict.fromkeys(words, "")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        rows = connection.execute(
            "SELECT r.name, r.status, (SELECT count(*) FROM params p WHERE p.run_uuid = r.run_uuid), "
            "(SELECT group_concat(step) FROM (SELECT step FROM metrics m WHERE m.run_uuid = r.run_uuid ORDER BY step)) "
            "FROM runs r ORDER BY r.name"
        ).fetchall()
    steps = ",".join(map(str, range(1500)))
    assert rows == [
        ("a", "FINISHED", 200, steps),
        ("b", "KILLED", 200, steps),
        ("c", "FINISHED", 200, steps),
        ("d", "FAILED", 200, steps),
    ]
    assert sorted(path.read_text() for path in (tmp_path / "artifacts").rglob("plot.txt")) == list(words)
