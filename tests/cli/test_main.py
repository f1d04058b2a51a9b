"""The command line itself: finding commands, mixing flags and overrides, errors and exit codes."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from cnnforge.cli import main as main_module
from cnnforge.cli.main import COMMANDS, main
from cnnforge.errors import ConfigError, DataError, InterruptedRun

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def imports_of(*argv: str) -> set[str]:
    """What a fresh process has imported after a command."""
    code = "import sys; from cnnforge.cli.main import main; main(sys.argv[1:]); print('\\n' + ' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code, *argv], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("\n\n")[2].split())


def test_help_lists_the_commands_and_imports_none(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in ([], ["--help"], ["-h"], ["help"]):
        assert main(argv) == 0
        out = capsys.readouterr().out
        assert all(f"\n  {name}" in out for name in COMMANDS)
    loaded = imports_of("--help")
    assert not loaded & {"pydantic", "hydra", "omegaconf", "yaml", "numpy", "mlflow", "rich", "cnnforge.spec"}
    assert not any(f"cnnforge.cli.{name}" in loaded for name in COMMANDS)


def test_check_imports_nothing_heavy() -> None:
    """What keeps ``check`` under half a second: no Hydra for plain overrides, no NumPy ever."""
    loaded = imports_of("check", "model=lenet5", "optimizer.lr=0.1")
    assert "pydantic" in loaded
    assert not loaded & {"numpy", "mlflow", "rich", "hydra", "omegaconf", "antlr4", "sklearn", "scipy", "safetensors"}
    assert not imports_of("check", "model.input=[32,32,3]") & {"numpy", "mlflow", "rich"}


def test_every_command_can_be_imported_and_says_what_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    for name, command in COMMANDS.items():
        assert main([name, "--help"]) == 0
        out = capsys.readouterr().out
        assert out.startswith(f"usage: cnnforge {name} ")
        # The other data of evaluate are composed, behind the run that comes first.
        assert ("--config-dir DIR" in out) == (command.composes or name == "evaluate")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("cnnforge ")


def test_python_dash_m() -> None:
    done = subprocess.run([sys.executable, "-m", "cnnforge", "chek"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "'chek' is not a command\n  where: cnnforge\n"
        f"  why:   the commands are {', '.join(COMMANDS)}\n"
        "  fix:   did you mean 'check'?\n"
    )


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (
            ["check", "--jsn", "model=lenet"],
            "--jsn is not a flag of cnnforge check\n  where: cnnforge check --jsn\n"
            "  why:   its flags are --help, --config-dir, --json, --plan, --strict, --time, --wide, --versus-fc, "
            "--depth, --compare\n  fix:   did you mean '--json'?\n",
        ),
        (
            ["check", "--js"],
            "--js is not a flag of cnnforge check\n  where: cnnforge check --js\n"
            "  why:   its flags are --help, --config-dir, --json, --plan, --strict, --time, --wide, --versus-fc, "
            "--depth, --compare\n  fix:   did you mean '--json'?\n",
        ),
        (
            ["check", "--config-dir"],
            "argument --config-dir: expected one argument\n  where: cnnforge check\n"
            "  fix:   cnnforge check --help shows what it takes\n",
        ),
        (
            ["ui", "extra"],
            "'extra' is one argument too many\n  where: cnnforge ui extra\n"
            "  why:   its flags are --help, --dir, --port, --host, --open\n"
            "  fix:   cnnforge ui --help\n",
        ),
    ],
)
def test_mistakes_in_flags(argv: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert capsys.readouterr() == ("", text)


@pytest.mark.parametrize(
    "argv",
    [
        ["--json", "model=lenet5", "--config-dir", "configs", "optimizer.lr=1"],
        ["model=lenet5", "optimizer.lr=1", "--json", "--config-dir=configs"],
        ["--config-dir", "configs", "optimizer.lr=1", "--json", "model=lenet5"],
        ["optimizer.lr=1", "--json", "~optimizer.type", "model=lenet5", "+optimizer.type=adam"],
    ],
)
def test_flags_and_overrides_mix(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *argv]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "lenet5"


def test_errors_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "optimizer.lr=-1", "--json", "seed=x"]) == 2
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out) == [
        {
            "what": "optimizer: lr cannot be -1",
            "where": "<override 'optimizer.lr=-1'> (optimizer.lr)",
            "why": "-1 is not above 0",
            "fix": "a number above 0; 0.001 where it is left out",
        },
        {
            "what": "seed cannot be 'x'",
            "where": "<override 'seed=x'> (seed)",
            "why": "text is not a whole number of 0 or more",
            "fix": "a whole number of 0 or more; 0 where it is left out",
        },
    ]


class _Failing(ModuleType):
    """A command that ends as it is told to."""

    def __init__(self, error: BaseException | None) -> None:
        super().__init__("cnnforge.cli.check")
        self.error = error

    def configure(self, parser: object) -> None:
        pass

    def run(self, args: object) -> int:
        if self.error is not None:
            raise self.error
        return 0


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (None, 0, ""),
        (
            ConfigError("wrong", where="here", why="so", fix="this"),
            2,
            "wrong\n  where: here\n  why:   so\n  fix:   this\n",
        ),
        (DataError("no file"), 3, "no file\n"),
        (InterruptedRun("stopped"), 130, "stopped\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_exit_codes(
    error: BaseException | None,
    code: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "cnnforge.cli.check", _Failing(error))
    assert main(["check"]) == code
    assert capsys.readouterr().err == text


@pytest.mark.parametrize(
    ("number", "why", "fix"),
    [
        (errno.EACCES, "this user may not read or write it", "another folder, or other permissions"),
        (errno.EROFS, "this user may not read or write it", "another folder, or other permissions"),
        (errno.ENOSPC, "there is no room for it", "room on the disk, or a folder on another"),
    ],
)
def test_what_the_machine_refuses_is_no_bug(
    number: int, why: str, fix: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = OSError(number, os.strerror(number), "runs/mine/journal.jsonl")
    monkeypatch.setitem(sys.modules, "cnnforge.cli.check", _Failing(error))
    assert main(["check"]) == 2
    assert capsys.readouterr().err == (
        f"runs/mine/journal.jsonl: {os.strerror(number)}\n  where: cnnforge check\n  why:   {why}\n  fix:   {fix}\n"
    )
    error.errno = errno.EIO
    assert main(["check"]) == 1
    assert "bug in cnnforge" in capsys.readouterr().err


def test_a_bug_shows_its_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "cnnforge.cli.check", _Failing(ZeroDivisionError("by us")))
    assert main(["check"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last):")
    assert err.endswith(
        "ZeroDivisionError: by us\n\nThis is a bug in cnnforge. Please report it with the lines above.\n"
    )


def test_a_reader_that_goes_away() -> None:
    command = f"{sys.executable} -m cnnforge check --plan --json | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "{", "")


def test_the_collector_is_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    import gc

    before = gc.get_threshold()
    main(["--help"])
    assert gc.get_threshold() == before
    assert main_module.INTERRUPTED == 130
