"""The course in a terminal."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cnnforge.cli.main import main
from cnnforge.course import TOPICS, lesson_on
from cnnforge.course.terminal import show

ROOT = Path(__file__).parents[2]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def shown(topic: str, stream: io.StringIO, *overrides: str, answers: bool = False) -> str:
    show(lesson_on(topic, overrides), stream, answers=answers)
    return stream.getvalue()


def test_the_list_of_topics(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[2:]] == list(TOPICS)


@pytest.mark.parametrize("topic", ["edges", "padding", "lenet", "field"])
def test_a_page_in_plain_text(topic: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", topic]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{TOPICS[topic].title}\n{TOPICS[topic].about}\nfrom configs/{TOPICS[topic].file}\n")
    assert "\x1b" not in out
    assert not re.search(r"`|\]\(", out), "no Markdown is left"
    prose = [line for line in out.splitlines() if "cnnforge explain" not in line]
    assert max(map(len, prose)) <= 100


def test_numbers_follow_the_readers_changes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "padding", "model.layers.conv1.padding=2"]) == 0
    out = capsys.readouterr().out
    assert "from configs/model/course/padding.yaml model.layers.conv1.padding=2\n" in out
    assert "conv1 has f = 3, p = 2, s = 1: 6x6 pixels in, 8x8 out." in out
    assert main(["explain", "model=lenet5", "lenet"]) == 0
    assert "61,706" in capsys.readouterr().out


def test_colours_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = shown("edges", Terminal())
    assert "▀" in out
    assert "\x1b[37;48;2;33;102;172m" in out, "30 is blue"
    assert "38;2;" in out
    monkeypatch.setenv("NO_COLOR", "1")
    plain = shown("edges", Terminal())
    assert "▀" not in plain
    assert "48;2;" not in plain


def test_a_narrow_terminal_puts_grids_below_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "50")
    out = shown("padding", Terminal())
    grid = next(line for line in out.splitlines() if line.startswith("[ ·][ ·][ ·]"))
    assert "[-20]" not in grid
    assert "[-20]" in out


def test_answers_are_there_when_they_are_asked_for() -> None:
    assert "The result is" not in (out := shown("padding", io.StringIO()))
    assert out.endswith("cnnforge explain padding --answers has the answers\n")
    out = shown("padding", io.StringIO(), answers=True)
    assert "6 + 2 + 2 - 3 + 1 = 8: the result is 8x8" in out
    assert "--answers" not in out


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (
            ["explain", "paddin"],
            "there is no topic 'paddin'\n  where: cnnforge explain paddin\n"
            f"  why:   the topics are {', '.join(TOPICS)}\n  fix:   did you mean 'padding'?\n",
        ),
        (
            ["explain", "padding", "stride"],
            "2 topics: padding, stride\n  where: cnnforge explain\n  why:   a page speaks of one thing\n"
            "  fix:   cnnforge explain lists the topics\n",
        ),
        (
            ["explain", "model.layers.conv1.padding=2"],
            "no topic is named\n  where: cnnforge explain\n"
            "  why:   model.layers.conv1.padding=2 changes a topic's config\n"
            "  fix:   cnnforge explain lists the topics\n",
        ),
        (
            ["explain", "padding", "model.layers.conv1.kernel=9"],
            "conv1: a 9x9 window does not fit a 6x6 input\n"
            "  where: configs/model/course/padding.yaml:6:3 with <override 'model.layers.conv1.kernel=9'> "
            "(model.layers.conv1), input (6, 6, 1)\n"
            "  why:   6 + 2*1 < 9\n"
            "  fix:   kernel <= 8, or padding: same, or one pool fewer before it\n",
        ),
        (
            ["explain", "pooling", "model=lenet"],
            "the page 'pooling' cannot speak of this model\n  where: cnnforge explain pooling\n"
            "  why:   conv1 is a conv\n  fix:   a pool as the first layer\n",
        ),
    ],
)
def test_mistakes(argv: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == text


def test_a_page_needs_nothing_heavy() -> None:
    """What keeps a page under a second: no compiler, no plotting, no tracker, no Hydra for plain changes."""
    code = (
        "import json, sys; from cnnforge.cli.main import main; main(sys.argv[1:]); "
        "print('\\n' + json.dumps(sorted(sys.modules)))"
    )
    argv = [sys.executable, "-c", code, "explain", "padding", "model.layers.conv1.padding=2"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "numpy" in loaded
    assert not loaded & {"numba", "matplotlib", "mlflow", "hydra", "sklearn", "PIL", "optuna"}
    done = subprocess.run([*argv[:3], "explain"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not set(json.loads(done.stdout.splitlines()[-1])) & {"numpy", "rich", "pydantic"}
