"""What a person sees while kernels are compiled."""

import io
import re

import pytest

from cnnforge.cli import console as module
from cnnforge.cli.console import LiveConsole, PlainConsole, make_console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("every", [10.0, 0.0])
def test_plain_lines_at_both_ends_and_now_and_then_between(monkeypatch, every):
    monkeypatch.setattr(module, "PLAIN_EVERY", every)
    console = make_console(stream := io.StringIO())
    assert type(console) is PlainConsole
    for done in range(4):
        console.compiling(done, 3)
    first, *between, last = stream.getvalue().splitlines()
    assert first == "compiling 3 kernels for this machine, which happens once"
    assert between == ([] if every else ["compiling kernels 1/3", "compiling kernels 2/3"])
    assert re.fullmatch(r"compiled 3 kernels in \d+\.\d s", last)


def test_a_bar_in_a_terminal_and_one_line_when_it_is_gone(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    console = make_console(stream := Terminal())
    assert type(console) is LiveConsole
    for done in range(4):
        console.compiling(done, 3)
        assert (console._bar is None) == (done == 3)
    assert "compiling kernels" in stream.getvalue()
    assert re.search(r"compiled 3 kernels in \d+\.\d s\n$", stream.getvalue())
    console.begin(1, 2, 2)
    assert console._bar is not None
    console.end()
