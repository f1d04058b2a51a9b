"""``cnnforge ui``: a real MLflow server on loopback, over runs that were really sent."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cnnforge.cli import ui
from cnnforge.errors import ConfigError
from cnnforge.tracking import Journal, mlflow_run_id, start
from tests.browser import browsing, needs_browser, strangers
from tests.serving import serving


def command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    ui.configure(parser)
    return ui.run(parser.parse_args(list(words)))


def ask(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def train(run_dir: Path, uri: str | None) -> None:
    (run_dir / "saved").mkdir(parents=True)
    (run_dir / "saved" / "weights.txt").write_text("1 2 3")
    with Journal(run_dir) as journal:
        sender = start(run_dir, uri=uri, experiment="shown", run_name=run_dir.name)
        journal.params({"lr": 0.1})
        journal.dataset("digits", "scikit-learn", "abc", {"train": 3}, (8, 8, 1), 10)
        journal.metrics({"train_loss": 0.25, "odd": float("nan")}, 7)
        journal.artifact("saved/weights.txt")
        journal.model("saved")
        journal.end("finished")
        outcome = sender.finish(timeout=60)
    assert outcome.pending == 0, outcome.reason
    assert outcome.reason == f"sent to {outcome.where}"


@pytest.mark.slow
def test_the_ui_shows_local_runs_takes_new_ones_and_stops_with_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    train(tmp_path / "before" / "local", None)
    runs = tmp_path / "moved"
    shutil.move(tmp_path / "before", runs)
    with serving(runs) as (process, lines, url):
        assert any("/before/artifacts are found again" in line for line in lines)
        assert url.startswith("http://127.0.0.1:")

        api = f"{url}/api/2.0/mlflow"
        experiments = ask(f"{api}/experiments/search", {"max_results": 10})["experiments"]
        shown = next(one for one in experiments if one["name"] == "shown")
        runs_there = ask(f"{api}/runs/search", {"experiment_ids": [shown["experiment_id"]]})["runs"]
        assert [(one["info"]["run_name"], one["info"]["status"]) for one in runs_there] == [("local", "FINISHED")]
        local_id = mlflow_run_id(runs / "local")
        with urllib.request.urlopen(f"{url}/get-artifact?path=saved/weights.txt&run_uuid={local_id}") as kept:
            assert kept.read() == b"1 2 3"  # found although the folder was moved
        with urllib.request.urlopen(url) as page:
            assert b"<title>MLflow</title>" in page.read()

        # the same server is a tracker like any other: sending over HTTP
        train(runs / "remote", url)
        runs_there = ask(f"{api}/runs/search", {"experiment_ids": [shown["experiment_id"]]})["runs"]
        assert sorted(one["info"]["run_name"] for one in runs_there) == ["local", "remote"]
        (remote,) = (one for one in runs_there if one["info"]["run_name"] == "remote")
        assert {m["key"]: m["value"] for m in remote["data"]["metrics"]} == {"train_loss": 0.25, "odd": "NaN"}
        assert len(remote["outputs"]["model_outputs"]) == 1

        with pytest.raises(ConfigError) as caught:
            command("--dir", str(runs), "--port", url.rpartition(":")[2])
        port = url.rpartition(":")[2]
        assert str(caught.value) == (
            f"port {port} is in use\n  where: cnnforge ui --port {port}\n"
            f"  why:   another program listens on 127.0.0.1:{port}, perhaps another cnnforge ui\n"
            "  fix:   another --port, or none to take the next free one"
        )

        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(url)


def test_without_a_database_it_says_what_makes_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError) as caught:
        command("--dir", str(tmp_path))
    assert str(caught.value) == (
        f"{tmp_path / 'mlflow.db'}: nothing has been trained here yet\n  where: cnnforge ui --dir\n"
        "  why:   the first training makes the database\n"
        "  fix:   cnnforge train, or cnnforge ui --dir with the folder that holds your runs"
    )
    assert caught.value.exit_code == 2


def test_a_tracking_server_has_its_own_ui(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.example.com/team")
    assert command() == 0
    assert capsys.readouterr().out.splitlines() == [
        "MLFLOW_TRACKING_URI is set: the runs are at https://***@mlflow.example.com/team",
        "for the local ones: cnnforge ui --dir runs",
    ]


def test_a_busy_first_port_means_the_next(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        first = busy.getsockname()[1]
        monkeypatch.setattr(ui, "FIRST_PORT", first)
        taken = ui._port("127.0.0.1", None)
        assert first < taken < first + ui.PORTS
        assert capsys.readouterr().out == f"port {first} is in use, taking {taken}\n"
        monkeypatch.setattr(ui, "PORTS", 1)
        with pytest.raises(ConfigError, match=f"no free port from {first} to {first}"):
            ui._port("127.0.0.1", None)


@pytest.mark.parametrize(
    ("words", "what"),
    [(("--port", "99999"), "port 99999 does not exist"), (("--host", "203.0.113.7"), "cannot listen on 203.0.113.7")],
)
def test_an_impossible_address_is_named(tmp_path: Path, words: tuple[str, ...], what: str) -> None:
    (tmp_path / "mlflow.db").touch()
    with pytest.raises(ConfigError) as caught:
        command("--dir", str(tmp_path), *words)
    assert caught.value.what == what
    assert caught.value.fix


def test_a_server_that_cannot_start_is_told_from_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mlflow.db").write_text("not a database")
    with pytest.raises(Exception, match="stopped with code") as caught:
        command("--dir", str(tmp_path))
    assert str(tmp_path / "ui.log") in str(caught.value)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small runs and a sweep, as users have them: trained by the command, sent by its sender."""
    folder = tmp_path_factory.mktemp("trained")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "CNNFORGE_"))}
    small = ["model=lenet5", "trainer.epochs=2", "trainer.batch_size=128", "data.limit=512"]
    for words in (
        ["train", *small, "tracking.register_as=digits"],
        ["train", *small, "optimizer=sgd", "optimizer.lr=0.05"],
        ["sweep", *small, "optimizer.lr=0.003,0.001", "run.name=rates"],
    ):
        subprocess.run(
            [sys.executable, "-m", "cnnforge", *words],
            cwd=folder,
            env=kept,
            check=True,
            capture_output=True,
            timeout=300,
        )
    return folder / "runs"


@pytest.mark.slow
@needs_browser
@pytest.mark.filterwarnings("ignore")
def test_the_pages_as_a_person_sees_them(trained: Path) -> None:
    run_id = mlflow_run_id(trained / "lenet5-digits")
    assert run_id is not None
    with serving(trained) as (_, _, url), browsing(1600, 1000) as page:
        page.set_default_timeout(60_000)
        table = ui.newest(trained / "mlflow.db")
        page.goto(url + table)
        for name in ("lenet5-digits", "lenet5-digits-2", "rates"):
            page.get_by_role("link", name=name, exact=True).first.wait_for()
        for column in ("test_accuracy", "optimizer.lr"):  # without our view it has no number
            page.get_by_role("columnheader", name=column).first.wait_for()

        of_run = f"{url}{table.partition('?')[0]}/{run_id}"
        page.goto(of_run)
        page.get_by_text("A convolutional network of 61,").first.wait_for()
        for text in ("optimizer.lr", "test_accuracy", "Results"):
            page.get_by_text(text).first.wait_for()

        page.goto(f"{of_run}/model-metrics")
        page.locator(".js-plotly-plot .trace").first.wait_for()

        page.goto(f"{of_run}/artifacts/plots/learning_curves.png")
        page.wait_for_function("[...document.images].some(image => image.naturalWidth > 300)")
        assert strangers(page) == []


def test_the_newest_runs_page(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    assert ui.newest(database) == ""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE runs (experiment_id INTEGER, lifecycle_stage TEXT, start_time INTEGER)")
        connection.execute("CREATE TABLE experiment_tags (experiment_id INTEGER, key TEXT)")
        connection.commit()
        assert ui.newest(database) == ""
        connection.execute("INSERT INTO runs VALUES (3, 'active', 1), (4, 'active', 2), (5, 'deleted', 3)")
        connection.commit()
        assert ui.newest(database) == "/#/experiments/4/runs?workflowType=machine_learning"
        connection.execute("INSERT INTO experiment_tags VALUES (4, 'mlflow.sharedViewState.cnnforge')")
        connection.commit()
        assert ui.newest(database).endswith("machine_learning&viewStateShareKey=cnnforge")
