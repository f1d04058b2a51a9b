"""``cnnforge runs``: real folders, a real MLflow database, real locks."""

from __future__ import annotations

import io
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cnnforge.cli.main import main
from cnnforge.config import compose, run_text, validate
from cnnforge.tracking import Journal, mlflow_run_id, start


@pytest.fixture(autouse=True)
def _no_tracking_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def make_run(folder: Path, *words: str, status: str = "finished", accuracy: float = 0.5) -> Path:
    spec = validate(compose([*words, f"run.dir={folder.parent}"]))
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(run_text(spec))
    (folder / "result.json").write_text(json.dumps({"status": status, "epochs": 10, "test_accuracy": accuracy}))
    with Journal(folder) as journal:
        journal.params(spec.model_dump(mode="json", exclude_none=True))
        journal.tags({"params": "62006"})
        journal.dataset("digits", "scikit-learn", "abc", {"train": 3}, (8, 8, 1), 10)
        journal.end(status)
    return folder


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs"
    make_run(folder / "one", accuracy=0.75)
    make_run(folder / "two", "optimizer.lr=0.01", "seed=3", status="interrupted")
    (folder / "latest").symlink_to("two")
    return folder


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["runs", *words]) == 0
    return capsys.readouterr().out


def mistake(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["runs", *words]) == 2
    return capsys.readouterr().err


def test_list(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [line.split()[:2] for line in said(capsys).splitlines()[2:]]
    assert sorted(rows) == [["one", "finished"], ["two", "interrupted"]]
    assert said(capsys, "list", "--sort", "test").splitlines()[2].startswith("one ")
    assert [run["name"] for run in json.loads(said(capsys, "--json", "--status", "interrupted"))] == ["two"]
    assert said(capsys, "--status", "failed", "--status", "killed") == "no runs that are failed or killed below runs\n"


def test_show(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "show", "latest")
    assert text.startswith("two\n")
    for part in (
        "optimizer.lr    0.01",
        "seed            3",
        "result.json",
        "resume two",
        "62,006 parameters",
        "50.00%",
    ):
        assert part in text
    assert "reproduce" not in text
    about = json.loads(said(capsys, "show", "two", "--json"))
    assert about["config"] == {"optimizer.type": "adam", "optimizer.lr": "0.01", "seed": "3"}
    (runs / "two" / "config.yaml").write_text("model: 3\n")
    assert "config.yaml cannot be read" in said(capsys, "show", "two")


def test_compare(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line.split() for line in said(capsys, "compare", "one", "two").splitlines()]
    assert ["optimizer.lr", "0.001", "0.01"] in lines
    assert ["test_accuracy", "75.00%", "*", "50.00%"] in lines
    assert not any(line and line[0] == "run.dir" for line in lines)
    found = json.loads(said(capsys, "compare", "one", "two", "--json"))
    assert found["differing"] == {"optimizer.lr": ["0.001", "0.01"], "seed": ["0", "3"]}


def test_delete_asks_and_needs_someone_to_ask(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mistake(capsys, "delete", "one") == (
        "runs/one/  finished, lenet\nnobody can be asked whether to delete\n  where: cnnforge runs delete\n"
        "  why:   standard input is no terminal\n  fix:   --yes deletes without asking\n"
    )

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal("no\nY \n"))
    assert said(capsys, "delete", "one") == "nothing was deleted\n"
    assert (runs / "one").is_dir()
    assert said(capsys, "delete", "one") == "deleted runs/one/\n"
    assert not (runs / "one").exists()


def test_latest_points_at_what_is_left(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "delete", "latest", "--yes") == "deleted runs/two/\n"
    assert os.readlink(runs / "latest") == "one"
    said(capsys, "delete", "one", "--yes")
    assert not os.path.lexists(runs / "latest")


def test_delete_follows_no_link_out_of_the_folder(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = make_run(tmp_path / "elsewhere" / "three")
    (runs / "link").symlink_to(elsewhere)
    for name in ("link", str(elsewhere)):
        assert mistake(capsys, "delete", name, "--yes").startswith("three does not lie in runs\n")
    assert elsewhere.is_dir()
    # nor one inside of a run
    (runs / "one" / "out").symlink_to(elsewhere)
    said(capsys, "delete", "one", "--yes")
    assert (elsewhere / "config.yaml").is_file()


def test_delete_refuses_what_is_at_work_and_parts_of_sweeps(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Journal(runs / "one"):
        assert mistake(capsys, "delete", "one", "two", "--yes").startswith("one is at work\n")
    assert (runs / "two").is_dir(), "all or nothing"
    trial = make_run(runs / "sweep" / "trials" / "0")
    Journal(runs / "sweep").close()
    assert mistake(capsys, "delete", "sweep/trials/0", "--yes").startswith("0 is a trial of the sweep sweep\n")
    with Journal(trial):
        assert mistake(capsys, "delete", "sweep", "--yes").startswith("sweep is at work\n")
    said(capsys, "delete", "sweep", "--yes")
    assert not (runs / "sweep").exists()


@pytest.mark.slow
def test_mlflow_marks_it_as_deleted_or_it_is_said(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        outcome = start(runs / name, uri=None, experiment="", run_name=name).finish(timeout=60)
        assert outcome.pending == 0, outcome.reason
    ids = {name: mlflow_run_id(runs / name) for name in ("one", "two")}
    assert said(capsys, "delete", "one", "--yes") == (
        "deleted runs/one/\nMLflow keeps its copies, marked as deleted, until: "
        f"mlflow gc --backend-store-uri sqlite:///{runs}/mlflow.db\n"
    )
    with closing(sqlite3.connect(runs / "mlflow.db")) as connection:
        stages = dict(connection.execute("SELECT run_uuid, lifecycle_stage FROM runs"))
    assert stages == {ids["one"]: "deleted", ids["two"]: "active"}
    (runs / "mlflow.db").write_text("no database any more")
    notes = said(capsys, "delete", "two", "--yes").splitlines()[:2]
    assert notes[0] == "deleted runs/two/"
    assert notes[1].startswith(f"note: two: stays in MLflow at sqlite:///{runs}/mlflow.db (run {ids['two']}): ")
    assert not (runs / "two").exists()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["lits"], "'lits' is not something that can be done with runs\n  where: cnnforge runs\n"
                   "  why:   what can be done is list, show, compare, delete\n  fix:   did you mean 'list'?\n"),
        (["show"], "show takes one RUN\n  where: cnnforge runs show\n  why:   0 were named\n"
                   "  fix:   cnnforge runs list names those there are\n"),
        (["compare", "one", "one"], "these are names of one run\n  where: cnnforge runs compare\n"
                                    "  why:   all of them mean one\n  fix:   cnnforge runs list names the others\n"),
        (["list", "--sort", "tset"], "--sort tset: there is no such column\n  where: cnnforge runs list --sort\n"
         "  why:   there are started, name, status, model, data, params, epochs, val, test, time\n"
         "  fix:   did you mean 'test'?\n"),
        (["list", "--status", "dead"], "--status dead: there is no such status\n"),
        (["list", "--yes"], "--yes is for delete\n"),
        (["list", "--dir", "nowhere"], "nowhere: no such folder\n"),
    ],
)  # fmt: skip
def test_mistakes(runs: Path, capsys: pytest.CaptureFixture[str], words: list[str], text: str) -> None:
    assert mistake(capsys, *words).startswith(text)
