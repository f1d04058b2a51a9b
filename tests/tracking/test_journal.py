"""The journal: what is written is what is read, whatever happens in between."""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnnforge.errors import CnnforgeError, ConfigError
from cnnforge.tracking.journal import Journal, count, flatten, is_written, journal_path, read, scan


def whole_journal(run_dir: Path) -> bytes:
    with Journal(run_dir) as journal:
        journal.params({"optimizer": {"lr": 1e-3, "type": "adam"}, "text": "line one\nline two ü"})
        journal.metrics({"train_loss": 0.5, "grad_norm": math.inf}, step=1)
        journal.tags({"note": 'a {brace} and a "quote"'})
        journal.event("resumed", step=3)
        journal.end("finished")
    return journal_path(run_dir).read_bytes()


def fill(journal: Journal) -> None:
    for step in range(100):
        journal.metrics({"train_loss": 0.25}, step)


def test_records_come_back_in_order_with_their_numbers(tmp_path: Path) -> None:
    whole_journal(tmp_path)
    records, offset = read(journal_path(tmp_path))
    assert [record["seq"] for record in records] == list(range(6))
    assert [record["kind"] for record in records] == ["run", "params", "metrics", "tags", "event", "end"]
    assert records[1]["values"] == {"optimizer.lr": "0.001", "optimizer.type": "adam", "text": "line one\nline two ü"}
    assert records[2]["step"] == 1
    assert records[2]["values"] == {"train_loss": 0.5, "grad_norm": math.inf}
    assert records[4]["name"] == "resumed"
    assert records[4]["data"] == {"step": 3}
    assert offset == journal_path(tmp_path).stat().st_size
    assert read(journal_path(tmp_path), offset) == ([], offset)


def test_non_finite_numbers_stay_valid_json(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.metrics({"a": math.nan, "b": -math.inf, "c": 1.5}, step=0)
        journal.event("diverged", loss=math.nan, seen=(1, 2.5, None, True, math.inf), where=Path("x"))
    lines = journal_path(tmp_path).read_text().splitlines()

    def refuse(word: str) -> object:
        raise AssertionError(f"{word} is not JSON")

    strict = [json.loads(line, parse_constant=refuse) for line in lines]
    assert strict[1]["values"] == {"a": "nan", "b": "-inf", "c": 1.5}
    assert strict[2]["data"] == {"loss": "nan", "seen": [1, 2.5, None, True, "inf"], "where": "x"}
    (_, metrics, _), _ = read(journal_path(tmp_path))
    assert math.isnan(metrics["values"]["a"])
    assert metrics["values"]["b"] == -math.inf


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_cut_at_any_byte_gives_exactly_the_whole_records(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    run_dir = tmp_path_factory.mktemp("run")
    complete = whole_journal(run_dir)
    cut = data.draw(st.integers(0, len(complete)), label="cut")
    path = journal_path(run_dir)
    path.write_bytes(complete[:cut])
    expected = complete[:cut].count(b"\n")

    records, offset = read(path)
    assert [record["seq"] for record in records] == list(range(expected))
    assert offset == complete[:cut].rfind(b"\n") + 1
    assert count(path, 0) == expected

    # reopening mends the end and goes on counting; nothing whole is lost
    with Journal(run_dir) as journal:
        journal.metrics({"train_loss": 1.0}, step=9)
    again, _ = read(path)
    assert again[:expected] == records
    assert [record["seq"] for record in again] == list(range(len(again)))
    assert again[-1]["values"] == {"train_loss": 1.0}
    assert again[0]["kind"] == "run"


@settings(max_examples=60, deadline=None)
@given(limit=st.integers(1, 700), starts=st.integers(0, 5))
def test_reading_by_pieces_equals_reading_at_once(
    tmp_path_factory: pytest.TempPathFactory, limit: int, starts: int
) -> None:
    run_dir = tmp_path_factory.mktemp("run")
    whole_journal(run_dir)
    everything, _ = read(journal_path(run_dir))
    offset, pieces = 0, []
    while found := scan(journal_path(run_dir), offset, limit):
        pieces += [record for record, _ in found]
        offset = found[-1][1]
    assert pieces == everything
    middle = scan(journal_path(run_dir), 0, None)[starts][1]
    assert read(journal_path(run_dir), middle)[0] == everything[starts + 1 :]


def test_a_long_last_record_is_found_when_reopening(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.params({"long": "x" * 300_000})
        name = journal.run_id
    with journal_path(tmp_path).open("ab") as file:
        file.write(b"y" * 200_000)
    with Journal(tmp_path) as journal:
        assert journal.run_id == name
        journal.end("finished")
    records, _ = read(journal_path(tmp_path))
    assert [record["seq"] for record in records] == [0, 1, 2]


def test_a_bad_line_does_not_hide_the_good_ones(tmp_path: Path) -> None:
    whole_journal(tmp_path)
    path = journal_path(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2:2] = [b"\0" * 40 + b"\n", b"[1, 2]\n", b'{"seq": 1, "kind": "metrics", "values": {"a": "x"}}\n', b"\n"]
    path.write_bytes(b"".join(lines))
    kinds = [record["kind"] for record in read(path)[0]]
    assert kinds == ["run", "params", *4 * ["damaged"], "metrics", "tags", "event", "end"]


def test_kill_9_loses_no_finished_call(tmp_path: Path) -> None:
    program = (
        "import os, sys, signal; from pathlib import Path; from cnnforge.tracking.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "for step in range(500): journal.metrics({'train_loss': 0.5}, step)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False).returncode == -9
    assert count(journal_path(tmp_path), 0) == 501


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with Journal(tmp_path), pytest.raises(ConfigError) as caught:
        Journal(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path.name}: another process is running this run\n"
        f"  where: {tmp_path / 'journal.jsonl'}\n"
        "  why:   two writers would mix their records\n"
        "  fix:   wait for it or stop it, then resume; or choose another run.name"
    )
    Journal(tmp_path).close()  # let go of by closing


def test_whether_a_journal_is_written_is_asked_without_a_trace(tmp_path: Path) -> None:
    with Journal(tmp_path):
        assert is_written(tmp_path)
    assert not is_written(tmp_path)
    assert not is_written(tmp_path / "gone")
    assert not (tmp_path / "gone").exists()


def test_a_full_disk_leaves_whole_lines_and_a_clear_error(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal(tmp_path) as journal:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # a file that can grow no further is a full disk
        try:
            with pytest.raises(CnnforgeError) as caught:
                fill(journal)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert caught.value.what == f"{tmp_path.name}: the journal cannot be written"
        assert caught.value.fix == "free some space, then cnnforge resume"
        assert journal_path(tmp_path).read_bytes().endswith(b"}\n")
        journal.end("failed")
    records, _ = read(journal_path(tmp_path))
    assert [record["seq"] for record in records] == list(range(len(records)))


def test_params_are_flat_text_as_yaml_spells_it() -> None:
    values = {"a": {"b": {"c": 1e-3}}, "flag": True, "none": None, "size": (5, 5), "empty": {}, "rows": [{"x": 1}]}
    assert flatten({"uri": "http://me:secret@host/x@y", "text": "a@b"}) == {"uri": "http://***@host/x@y", "text": "a@b"}
    assert flatten(values) == {
        "a.b.c": "0.001",
        "flag": "true",
        "none": "null",
        "size": "[5, 5]",
        "empty": "{}",
        "rows": '[{"x": 1}]',
    }


@pytest.mark.parametrize("path", ["/etc/passwd", "../other", "a/../../b", ""])
def test_artifacts_lie_inside_the_run_folder(tmp_path: Path, path: str) -> None:
    with Journal(tmp_path) as journal, pytest.raises(ValueError, match="inside the run folder"):
        journal.artifact(path)


def test_the_status_is_one_of_the_known(tmp_path: Path) -> None:
    with (
        Journal(tmp_path) as journal,
        pytest.raises(ValueError, match="known: finished, failed, diverged, interrupted, early_stopped, pruned"),
    ):
        journal.end("done")  # type: ignore[arg-type]


def test_importing_the_room_brings_nothing_heavy() -> None:
    program = (
        "import sys, cnnforge.tracking, cnnforge.cli.ui, cnnforge.cli.sync\n"
        "heavy = {'mlflow', 'numpy', 'sqlalchemy', 'pydantic', 'yaml', 'pandas'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or None)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_model_is_registered_after_the_end_by_reopening(tmp_path: Path) -> None:
    whole_journal(tmp_path)
    with Journal(tmp_path) as journal:
        journal.register("digits")
    with journal_path(tmp_path).open("ab") as file:
        file.write(b'{"seq":7,"time":0,"kind":"register"}\n')
    *_, end, register, damaged = read(journal_path(tmp_path))[0]
    assert (end["kind"], register["kind"], register["seq"], register["name"]) == ("end", "register", 6, "digits")
    assert damaged["kind"] == "damaged"
