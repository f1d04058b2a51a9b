"""Every mistake is one error, at its line, in words that help; three mistakes are three.

The mistakes come from ``mistaken.py``. What must be right of each: exit code 2, the file and the line, all four parts
of the message, and no second error that only follows from the first.
"""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from cnnforge.cli.main import main
from cnnforge.shapes import UNKNOWN_SIZE
from tests.config.mistaken import SOUND, Edit, edited, edits, triples

EDITS = list(edits())
KINDS = {kind: [edit for edit in EDITS if edit.kind == kind] for kind in sorted({edit.kind for edit in EDITS})}
MODELS = [config for config in SOUND if config.startswith("model/")]
_ERROR = re.compile(r"(?P<what>\S.*)\n  where: (?P<where>.+)\n  why:   (?P<why>.+)\n  fix:   (?P<fix>.+)")


@dataclass(frozen=True)
class Said:
    """What ``cnnforge check`` says: its exit code and its errors, each with the line it names (0: the whole file)."""

    code: int
    text: str
    lines: list[int]


Check = Callable[..., Said]


@pytest.fixture
def check(write: Callable[[str, str], Path], capsys: pytest.CaptureFixture[str]) -> Check:
    """``check("model/plain", text)`` runs the command on a config folder that holds this file."""

    def run(config: str, text: str) -> Said:
        write(f"{config}.yaml", text)
        code = main(["check", config.replace("/", "=")])
        out, err = capsys.readouterr()
        assert not (code and out)
        return Said(code, err, _lines(config, err))

    return run


def _lines(config: str, err: str) -> list[int]:
    """The line of every error, each of which must have its four parts and lie in the config's file."""
    lines = []
    for message in err.strip().split("\n\n") if err.strip() else ():
        error = _ERROR.fullmatch(message)
        assert error, message
        place = re.match(rf"configs/{config}\.yaml(?::(\d+):\d+)? \(", error["where"])
        assert place, message
        lines.append(int(place[1] or 0))
    return lines


def _sound(text: str) -> None:
    """Nothing of Python, nor sizes that stand for unknown ones, is shown."""
    for never in ("Traceback", "None", "True", "False", "Value error", "pydantic", str(UNKNOWN_SIZE)):
        assert never not in text


def test_there_are_many_of_every_kind() -> None:
    assert len(EDITS) > 900
    assert min(map(len, KINDS.values())) >= 3


@pytest.mark.parametrize("config", SOUND)
def test_the_configs_are_sound(check: Check, config: str) -> None:
    assert check(config, SOUND[config]).code == 0


@pytest.mark.parametrize("kind", KINDS)
def test_one_mistake_is_one_error_at_its_line(check: Check, kind: str) -> None:
    _one_by_one(check, random.Random(kind).sample(KINDS[kind], min(25, len(KINDS[kind]))))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_single_one(check: Check, kind: str) -> None:
    _one_by_one(check, KINDS[kind])


def _one_by_one(check: Check, some: Sequence[Edit]) -> None:
    for edit in some:
        said = check(edit.config, edited(edit.config, edit))
        assert said.code == 2, edit
        _sound(said.text)
        assert len(said.lines) == 1, (str(edit), said.text)
        assert said.lines[0] in edit.lines, (str(edit), said.text)
        (Path("configs") / f"{edit.config}.yaml").unlink()


@pytest.mark.parametrize("number", [20, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("config", MODELS)
def test_three_mistakes_are_three_errors_at_their_lines(check: Check, config: str, number: int) -> None:
    for three in triples(config, number):
        said = check(config, edited(config, *three))
        _sound(said.text)
        expected = sorted(three, key=lambda edit: min(edit.lines))
        assert len(said.lines) == 3, (list(map(str, three)), said.text)
        right = all(line in edit.lines for line, edit in zip(sorted(said.lines), expected, strict=True))
        assert right, (list(map(str, three)), said.text)


@pytest.mark.parametrize("edit", [EDITS[i] for i in (0, 300, 600, 900)], ids=str)
def test_as_a_user_runs_it(write: Callable[[str, str], Path], edit: Edit) -> None:
    write(f"{edit.config}.yaml", edited(edit.config, edit))
    command = [sys.executable, "-m", "cnnforge", "check", edit.config.replace("/", "=")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (2, "")
    (line,) = _lines(edit.config, run.stderr)
    assert line in edit.lines


def _nested(old: str, new: str) -> str:
    text = SOUND["model/nested"]
    assert text.count(old) == 1
    return text.replace(old, new)


def test_a_mistake_in_a_template_that_is_used_nine_times(check: Check) -> None:
    said = check("model/nested", _nested("activation: none}", "kernel: 0, activation: none}"))
    assert said.text == (
        "stage1.1.conv2.conv: kernel cannot be 0\n"
        "  where: configs/model/nested.yaml:18:51 (model.templates.basic.block.layers.conv2.kernel), "
        "used at configs/model/nested.yaml:21:36 (model.layers.stage1.block)\n"
        "  why:   0 is not above 0\n"
        "  fix:   a whole number above 0, or a list of 2 such\n"
    )


def test_two_layers_that_do_not_fit_are_the_mistake_of_where_they_meet(check: Check) -> None:
    said = check("model/nested", _nested("padding: =kernel // 2", "padding: 0"))
    assert said.text == (
        "stage1.1: no shortcut leads from (30, 30, 16) to (26, 26, 16)\n"
        "  where: configs/model/nested.yaml:13:5 (model.templates.basic.block), "
        "used at configs/model/nested.yaml:21:36 (model.layers.stage1.block), input (30, 30, 16)\n"
        "  why:   a 1x1 window of any stride gives ceil(size / stride) rows and columns\n"
        "  fix:   padding: same in the body, so that only its strides change height and width\n"
    )
