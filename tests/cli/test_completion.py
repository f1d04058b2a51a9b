"""TAB: what ``cnnforge complete`` answers, and the scripts in the shells that are here."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cnnforge.cli.complete import answer
from cnnforge.cli.completion import SCRIPTS
from cnnforge.cli.main import COMMANDS, main

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def runs(here):
    for i, name in enumerate(["first", "second", "wide", "elsewhere/far"]):
        folder = here / ("runs" if "/" not in name else "") / name
        folder.mkdir(parents=True)
        (folder / "journal.jsonl").touch()
        os.utime(folder, (i, i))
    (here / "runs/wide/trials").mkdir()
    (here / "runs/no-run").mkdir()
    (here / "runs/latest").symlink_to("second")
    return here / "runs"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("cnnforge tr", ["train"]),
        ("cnnforge train model=lenet5", ["model=lenet5"]),
        ("cnnforge check --js", ["--json"]),
        ("cnnforge check --json --pl", ["--plan"]),
        ("cnnforge check model=lenet5 model.layers.conv3.fil", []),
        ("cnnforge check model=lenet5 model.layers.conv1.fil", ["model.layers.conv1.filters="]),
        ("cnnforge check --config-dir x mod", []),
        ("cnnforge check --compare mod", []),
        ("cnnforge check '~model.layers.pool1.k", ["~model.layers.pool1.kernel"]),
        ('cnnforge check "model=lenet5', ["model=lenet5"]),
        ("A=1 B=2 /some/where/cnnforge tr", ["train"]),
        ("cnnforge nothing mod", []),
        ("cnnforge completion f", ["fish"]),
        ("cnnforge schema opt", ["optimizer"]),
        ("cnnforge init pro", []),
        ("cnnforge resume ", []),
        ("cnnforge sweep res", ["resume="]),
        ("cnnforge sweep rep", ["report"]),
        ("cnnforge sweep sweep=lr", ["sweep=lr_search"]),
        ("cnnforge", []),
        ("", []),
        ("cnnforge check 'a \\\"", []),
    ],
)
def test_a_line(line, found):
    assert answer(line) == found


def test_commands(here):
    assert answer("cnnforge ") == [*COMMANDS, "--help", "--version"]


def test_runs_by_name(runs):
    assert set(answer("cnnforge resume ")) == {"first", "second", "wide", "latest"}
    assert answer("cnnforge resume f") == ["first"]
    assert answer("cnnforge resume first trainer.ep") == ["trainer.epochs="]
    assert answer("cnnforge resume --dir elsewhere ") == ["far"]
    assert answer("cnnforge resume --dir=elsewhere f") == ["far"]
    assert answer("cnnforge sweep report ") == ["wide"]
    assert answer("cnnforge sweep resume=") == ["resume=wide"]


def test_every_command_with_a_run_completes_it(runs):
    """Those of other rooms too: the argument's name is RUN."""
    import argparse

    from cnnforge.cli.main import module_of, parser_of

    def arguments(parser: argparse.ArgumentParser) -> list[str]:
        return [str(action.metavar) for action in parser._actions if not action.option_strings]

    named = [name for name in COMMANDS if arguments(parser_of(name, module_of(name)))[:1] == ["RUN"]]
    assert {"resume", "reproduce"} <= set(named)
    for name in named:
        assert "first" in answer(f"cnnforge {name} "), name


def test_words_that_a_commands_module_names(runs, monkeypatch):
    from cnnforge.cli import completion

    def configure(parser):
        parser.add_argument("action", nargs="?", metavar="ACTION")
        parser.add_argument("runs", nargs="*", metavar="RUN")
        parser.add_argument("--by", metavar="KEY")

    monkeypatch.setattr(completion, "configure", configure)
    monkeypatch.setattr(completion, "ACTIONS", ("list", "show"), raising=False)
    assert answer("cnnforge completion s") == ["show"]
    assert answer("cnnforge completion show f") == ["first"]
    assert answer("cnnforge completion show first w") == ["wide"]
    assert answer("cnnforge completion --by ") == []


def test_commands_of_a_command(runs, monkeypatch):
    from cnnforge.cli import completion

    def configure(parser):
        below = parser.add_subparsers()
        below.add_parser("list").add_argument("--sort", choices=["name", "time"])
        below.add_parser("show").add_argument("run", metavar="RUN")

    monkeypatch.setattr(completion, "configure", configure)
    assert answer("cnnforge completion ") == ["list", "show"]
    assert answer("cnnforge completion list --so") == ["--sort"]
    assert answer("cnnforge completion list --sort t") == ["time"]
    assert answer("cnnforge completion list --sort=n") == ["--sort=name"]
    assert answer("cnnforge completion show f") == ["first"]


def test_only_what_is_needed_is_imported():
    """A person waits: no pydantic, no NumPy, no MLflow, whatever is asked."""
    code = "import sys; from cnnforge.cli.main import main; main(sys.argv[1:]); print('\\n' + ' '.join(sys.modules))"
    for line in ("cnnforge train model=le", "cnnforge check model.layers.conv1.k", "cnnforge resume ", "cnnforge sw"):
        done = subprocess.run(
            [sys.executable, "-c", code, "complete", line], cwd=ROOT, capture_output=True, text=True, check=True
        )
        loaded = set(done.stdout.rpartition("\n\n")[2].split())
        assert not loaded & {"pydantic", "pydantic_core", "numpy", "mlflow", "hydra", "omegaconf", "rich", "PIL"}, line


def test_the_scripts_are_printed(capsys):
    for shell in SCRIPTS:
        assert main(["completion", shell]) == 0
        assert capsys.readouterr().out == SCRIPTS[shell]
    assert main(["completion", "tcsh"]) == 2
    assert "invalid choice: 'tcsh'" in capsys.readouterr().err


@pytest.fixture
def program(tmp_path):
    """A ``cnnforge`` of this very code, in a folder by itself."""
    file = tmp_path / "bin" / "cnnforge"
    file.parent.mkdir()
    file.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m cnnforge "$@"\n')
    file.chmod(0o755)
    return file


def run_in(shell: str, script: str, program: Path) -> str:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    environment = os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    done = subprocess.run([shell, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("cnnforge tr", "train"),
        ("cnnforge check model=lenet5", "lenet5"),  # bash replaces what stands behind the =
        ("cnnforge check optimizer.wei", "optimizer.weight_decay="),
        ("cnnforge check trainer.backend=nump", "numpy"),
        ("cnnforge check model=lenet5 --js", "--json"),
        ("cnnforge resume f", "first"),
    ],
)
def test_bash(line, found, program, runs):
    script = (
        'eval "$(cnnforge completion bash)"\n'
        "compopt() { :; }\n"  # works only while bash itself asks
        f"COMP_LINE={line!r}; COMP_POINT=${{#COMP_LINE}}\n"
        "$(complete -p cnnforge | sed 's/.*-F \\([^ ]*\\).*/\\1/') cnnforge\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    assert run_in("bash", script, program).split() == [found]


def test_bash_as_it_is_typed(program, runs):
    """In an interactive bash on a terminal: TAB completes the word, and goes on behind a key without a space."""
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    first, second = pty.openpty()
    termios.tcsetwinsize(second, (24, 500))
    environment = os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}", "PS1": "> ", "TERM": "dumb"}
    shell = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"], stdin=second, stdout=second, stderr=second, env=environment,
        start_new_session=True,
    )  # fmt: skip
    os.close(second)
    try:
        os.write(first, b"eval \"$(cnnforge completion bash)\"; echo rea''dy\n")
        shown_until(first, "ready\r\n")
        os.write(first, b"cnnforge che\tmodel=lenet5\toptimizer.wei\t0.5 model.layers.conv1.kern\t3")
        shown_until(first, "cnnforge check model=lenet5 optimizer.weight_decay=0.5 model.layers.conv1.kernel=3")
    finally:
        shell.kill()
        shell.wait()
        os.close(first)


def shown_until(terminal: int, wanted: str) -> None:
    """Read what a terminal shows until ``wanted`` stands there. Fails where a minute brings nothing new."""
    shown = ""
    while wanted not in shown:
        ready, _, _ = select.select([terminal], [], [], 60)
        assert ready, shown
        shown += os.read(terminal, 4096).decode(errors="replace").replace("\x07", "")


def test_zsh(program, runs):
    script = (
        "compdef() { }\n"
        'eval "$(cnnforge completion zsh)"\n'
        "compadd() { while [[ $1 != -- ]]; do shift; done; shift; print -l -- $@ }\n"
        "ask() { words=(${(z)1}); CURRENT=$#words; PREFIX=$words[-1]; _cnnforge }\n"
        "ask 'cnnforge check model=lenet5'; ask 'cnnforge check optimizer.wei'; ask 'cnnforge resume f'\n"
    )
    assert run_in("zsh", script, program).split() == ["model=lenet5", "optimizer.weight_decay=", "first"]


def test_fish(program, runs):
    script = (
        "cnnforge completion fish | source\n"
        "complete -C 'cnnforge check model=lenet5'\n"
        "complete -C 'cnnforge check optimizer.wei'\n"
        "complete -C 'cnnforge resume f'\n"
    )
    assert run_in("fish", script, program).split() == ["model=lenet5", "optimizer.weight_decay=", "first"]
