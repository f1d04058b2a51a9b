"""Runs as their folders tell: alive, over, cut, resumed; sweeps and trials; folders that are damaged."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnforge.tracking import Journal
from cnnforge.tracking.history import differing, history, told
from cnnforge.tracking.journal import head, journal_path, read, tail

PARAMS = {"model": {"name": "lenet"}, "data": {"type": "digits"}, "trainer": {"epochs": 3}, "run": {"dir": "runs"}}


def begin(folder: Path, **params: object) -> Journal:
    folder.mkdir(parents=True)
    journal = Journal(folder)
    journal.params({**PARAMS, **params})
    journal.tags({"params": "1234", "model": "lenet"})
    journal.dataset("digits", "scikit-learn", "abc", {"train": 3}, (8, 8, 1), 10)
    return journal


def finish(journal: Journal, result: dict[str, object]) -> None:
    (journal.run_dir / "result.json").write_text(json.dumps(result))
    journal.end(result["status"])
    journal.close()


def test_a_finished_run(tmp_path: Path) -> None:
    journal = begin(tmp_path / "one")
    journal.metrics({"train_loss": 0.5, "val_accuracy": 0.75}, 1)
    finish(journal, {"status": "finished", "epochs": 3, "test_accuracy": 0.5, "wall_seconds": 12.5})
    run = told(tmp_path / "one")
    assert (run.name, run.kind, run.status, run.seconds) == ("one", "run", "finished", 12.5)
    assert run.params["model.name"] == "lenet"
    assert run.result["test_accuracy"] == 0.5
    assert run.data["splits"] == {"train": 3}
    assert 0 < run.started <= run.last
    assert run.mlflow_run_id is None


def test_what_comes_after_the_end_is_no_new_life(tmp_path: Path) -> None:
    journal = begin(tmp_path / "one")
    journal.end("finished")
    journal.register("digits")
    journal.artifact("report.html")
    journal.close()
    assert told(tmp_path / "one").status == "finished"
    with Journal(tmp_path / "one") as journal:
        journal.event("resumed", step=3)
    assert told(tmp_path / "one").status == "killed"


def test_a_cut_run_tells_its_last_epoch_and_not_the_result_of_its_life_before(tmp_path: Path) -> None:
    journal = begin(tmp_path / "one")
    finish(journal, {"status": "interrupted", "epochs": 1, "val_accuracy": 0.1})
    with Journal(tmp_path / "one") as journal:
        journal.event("resumed", step=3)
        journal.metrics({"train_loss": 0.5, "val_accuracy": 0.75}, 2)
        journal.metrics({"step/train_loss": 0.4}, 30)
        alive = told(tmp_path / "one")
    assert (alive.status, alive.result) == ("running", {"train_loss": 0.5, "val_accuracy": 0.75, "epochs": 2})
    cut = told(tmp_path / "one")
    assert (cut.status, cut.result) == ("killed", alive.result)


def test_sweeps_trials_and_links(tmp_path: Path) -> None:
    sweep = begin(tmp_path / "s", sweep={"name": "rates"})
    sweep.metrics({"trials_finished": 2, "best/val_loss": 0.25}, 2)
    sweep.end("finished")
    sweep.close()
    for place in ("s/trials/0", "s/trials/1/seed0", "lenet"):
        begin(tmp_path / place).close()
    (tmp_path / "latest").symlink_to("s")
    assert [(run.name, run.kind) for run in history(tmp_path)] == [("lenet", "run"), ("s", "sweep")]
    assert told(tmp_path / "s").result == {"trials_finished": 2, "best/val_loss": 0.25}
    every = [run.name for run in history(tmp_path, trials=True)]
    assert every == ["lenet", "s", "s/trials/0", "s/trials/1/seed0"]


@pytest.mark.parametrize("content", ["", "nonsense\n", '{"kind": "end"}\n', "[1]\n", "{" * 100_000 + "\n"])
@pytest.mark.parametrize("result", [None, "", "[1, 2]", "{" * 100_000, '{"status": 3'])
def test_a_damaged_folder_is_told_all_the_same(tmp_path: Path, content: str, result: str | None) -> None:
    (tmp_path / "bad").mkdir()
    journal_path(tmp_path / "bad").write_text(content)
    if result is not None:
        (tmp_path / "bad" / "result.json").write_text(result)
    run = told(tmp_path / "bad")
    assert (run.status, dict(run.params), run.started) == ("killed", {}, 0)


def test_differing_values_are_those_of_the_present(tmp_path: Path) -> None:
    begin(tmp_path / "a", seed=1, optimizer={"type": "adam"}).close()
    with begin(tmp_path / "b", seed=1, optimizer={"type": "sgd", "momentum": 0.9}) as journal:
        journal.event("changed", now={"trainer.epochs": "9", "optimizer.momentum": "nothing"})
    assert differing([told(tmp_path / "a"), told(tmp_path / "b")]) == {
        "trainer.epochs": ["3", "9"],
        "optimizer.type": ["adam", "sgd"],
    }


@given(st.lists(st.integers(0, 300), max_size=40), st.booleans())
@settings(max_examples=60)
def test_head_and_tail_are_the_journal_from_both_ends(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], torn: bool
) -> None:
    folder = tmp_path_factory.mktemp("run")
    with Journal(folder) as journal:
        for number, size in enumerate(sizes):
            journal.event("padding", number=number, text="x" * (size * size))
    if torn:
        with journal_path(folder).open("ab") as file:
            file.write(b'{"seq": 99')
    whole = read(journal_path(folder))[0]
    assert list(head(journal_path(folder))) == whole
    last = list(tail(journal_path(folder)))
    assert last == whole[::-1][: len(last)]
    assert last
    assert len(last) == len(whole) or os.path.getsize(journal_path(folder)) > 1 << 16


def test_no_journal_has_no_ends(tmp_path: Path) -> None:
    assert list(head(tmp_path / "none")) == list(tail(tmp_path / "none")) == []
