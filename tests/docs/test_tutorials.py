"""The tutorials do what they say: their files are written, their commands and their Python run, in their order.

In a page, ``sh`` blocks are typed, ``python`` blocks are run, ``yaml`` blocks that begin with ``# configs/…`` are
files; ``console`` and ``text`` blocks are only looked at.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cnnforge.cli.main import COMMANDS, main
from tests.docs.shown import DOCUMENTS, ROOT

TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
_BLOCK = re.compile(r"^```(sh|python|yaml|console)\n(.*?)^```", re.M | re.S)
_PROMPT = re.compile(r"^\$ (.*)$", re.M)


def command_of(line: str) -> str:
    """``train`` of ``A=1 cnnforge train model=lenet``; nothing where the line is of another program."""
    words = [word for word in line.split() if not re.match(r"[A-Z_]+=", word)]
    return words[1] if len(words) > 1 and words[0] == "cnnforge" else ""


def lines_of(page: Path, languages: tuple[str, ...] = ("sh", "console")) -> list[str]:
    """Every command that a page shows."""
    found: list[str] = []
    for language, text in _BLOCK.findall(page.read_text("utf-8")):
        if language in languages:
            found += _PROMPT.findall(text) if language == "console" else text.splitlines()
    return found


def script_of(page: Path) -> str:
    """The page as one shell script, which stops at the first thing that goes wrong."""
    parts = ["set -eu"]
    for language, text in _BLOCK.findall(page.read_text("utf-8")):
        file = re.match(r"# (configs/\S+\.yaml)\n", text)
        if language == "yaml" and file:
            parts.append(f"mkdir -p {Path(file[1]).parent}\ncat > {file[1]} <<'END OF FILE'\n{text}END OF FILE")
        elif language == "python":
            parts.append(f"{shlex.quote(sys.executable)} - <<'END OF CODE'\n{text}END OF CODE")
        elif language == "sh":
            parts += text.splitlines()
    return "\n".join(parts)


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_pages_name_commands_that_there_are(page):
    named = {command for line in lines_of(page) if (command := command_of(line)) and not command.startswith("-")}
    assert named <= COMMANDS.keys()


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_flags_that_tutorials_show_are_there(page, capsys):
    for line in lines_of(page):
        command = command_of(line)
        if command not in COMMANDS:
            continue
        assert main([command, "--help"]) == 0
        said = capsys.readouterr().out
        for flag in re.findall(r"(?<= )--[a-z-]+", line):
            assert flag in said, line


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_runs(page, tmp_path):
    program = tmp_path / "bin" / "cnnforge"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m cnnforge "$@"\n')
    program.chmod(0o755)
    (tmp_path / "work").mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PATH": f"{program.parent}:{os.environ['PATH']}"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    script = script_of(page)
    assert "cnnforge " in script
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path / "work", env=environment, capture_output=True, text=True
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
