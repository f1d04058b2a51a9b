"""``cnnforge doctor``: what it finds, what it makes of trouble, and that it never stands in the way itself."""

from __future__ import annotations

import http.server
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnnforge.cli import doctor, machine
from cnnforge.cli.finding import Finding
from cnnforge.cli.main import main
from cnnforge.tracking import Journal
from cnnforge.tracking.state import Tracking, save
from tests.waiting import closed_port


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MLFLOW_TRACKING_URI", "CNNFORGE_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def test_a_sound_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "--json"])
    about = json.loads(capsys.readouterr().out)
    assert code == (2 if about["problems"] else 0)
    names = [finding["name"] for finding in about["findings"]]
    assert [name for name in dict.fromkeys(names) if name not in machine.EXTRAS] == [
        "python", "cnnforge", "packages", "cpu", "cores", "memory", "blas", "numba", "kernels", "gpu", "data", "runs",
        "tracker", "disk",
    ]  # fmt: skip
    assert not [f for f in about["findings"] if "could not be looked at" in f["text"]]
    assert all(finding["fix"] for finding in about["findings"] if finding["state"] == "problem")
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "cache").exists(), "it changes nothing"


def test_lines_with_their_fixes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Finding("disk", "problem", "full", "make room"), Finding("cpu", "ok", "fast")]
    monkeypatch.setattr(doctor, "examine", lambda folder: found)
    assert main(["doctor"]) == 2
    assert capsys.readouterr().out == (
        "problem  disk  full\n               fix: make room\nok       cpu   fast\n\n1 problem, 0 notes\n"
    )
    monkeypatch.setattr(doctor, "examine", lambda folder: found[1:])
    assert main(["doctor"]) == 0


def test_a_check_that_fails_is_a_note(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken() -> Iterator[Finding]:
        raise OSError("no\nsuch thing")
        yield

    monkeypatch.setattr(doctor, "blas", broken)
    (found,) = [f for f in doctor.examine(tmp_path) if f.name == "blas"]
    assert (found.state, found.text) == ("note", "could not be looked at: OSError: no such thing")


@pytest.fixture
def server() -> Iterator[str]:
    """Answers as its path says."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response({"/good/health": 200, "/closed/health": 401}.get(self.path, 404))
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as one:
        threading.Thread(target=one.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{one.server_port}"
        one.shutdown()


def test_the_tracker(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def look(uri: str) -> Finding:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        (found,) = doctor.tracker(tmp_path)
        return found

    assert look(f"{server}/good").state == look(f"{server}/closed/").state == "ok"
    other = look(f"{server}/other")
    assert (other.state, other.text) == ("problem", f"{server}/other: answers, but not as MLflow does: 404 Not Found")
    secret = look(f"http://me:secret@127.0.0.1:{closed_port()}")
    assert secret.state == "problem"
    assert "secret" not in secret.text
    assert secret.text.endswith(": Connection refused")
    assert look(f"sqlite:///{tmp_path}/none/here.db").state == "problem"
    assert look(f"sqlite:///{tmp_path}/here.db").state == "ok"
    assert look("databricks").state == "note"


def test_a_tracker_that_says_nothing_is_not_waited_for() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        assert doctor.answers(f"http://127.0.0.1:{silent.getsockname()[1]}", 0.2) in (
            "no answer within 0.2 s",
            "timed out",
        )


def test_runs_that_were_not_sent_and_a_broken_database(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    (runs / "one").mkdir(parents=True)
    Journal(runs / "one").close()
    save(runs / "one", Tracking())
    (runs / "mlflow.db").write_text("no database")
    there, unsent, database = doctor.runs(runs)
    assert there.text == f"1 run in {runs}/"
    assert (unsent.state, unsent.fix) == ("note", f"cnnforge sync --dir {runs}")
    assert database.state == "problem"
    assert f"cnnforge sync --dir {runs} --uri sqlite:///{runs}/mlflow.db" in database.fix
    (found,) = doctor.runs(runs / "mlflow.db")
    assert found.state == "problem"


def test_data_of_which_the_environment_tells_nothing_true(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "data" / "mnist").mkdir(parents=True)
    (tmp_path / "data" / "mnist" / "train-images-idx3-ubyte").touch()
    monkeypatch.setenv("CNNFORGE_DATA", str(tmp_path / "data"))
    (found,) = doctor.data()
    assert "mnist in data/mnist ($CNNFORGE_DATA/mnist)" in found.text
    monkeypatch.setenv("CNNFORGE_DATA", "nowhere")
    problem, _ = doctor.data()
    assert (problem.state, problem.text) == ("problem", "CNNFORGE_DATA is nowhere, which is no folder")


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_folder_of_kernels_that_others_may_write_to(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "cnnforge" / "kernels"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    found = list(machine.numba())[-1]
    assert (found.name, found.state, found.fix) == ("kernels", "problem", f"chmod 700 {folder}")
    folder.chmod(0o700)
    assert list(machine.numba())[-1].state == "ok"


@pytest.mark.parametrize(("text", "cpus"), [("150000 100000", 1.5), ("max 100000", None), ("-1", None), ("", None)])
def test_what_a_container_may_use(
    text: str, cpus: float | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cpu.max").write_text(text)
    monkeypatch.setattr(machine, "_CPU_LIMITS", (str(tmp_path / "cpu.max"),))
    assert machine.container_cpus() == cpus
    monkeypatch.setattr(machine, "_CPU_LIMITS", ())
    assert machine.container_cpus() is None


def test_little_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for free, state in ((1 << 20, "problem"), (1 << 30, "note"), (1 << 40, "ok")):
        monkeypatch.setattr("shutil.disk_usage", lambda path, free=free: type("Usage", (), {"free": free}))
        (found,) = machine.disk(tmp_path / "not" / "there", tmp_path)
        assert found.state == state
