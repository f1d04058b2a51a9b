"""Plain lines of a sweep, and when a live view takes their place."""

import io

import pytest

from cnnforge.sweep.live import LiveView
from cnnforge.sweep.view import EVERY, PlainView, make_view
from tests.sweep.watched import sweep_at, tried


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_where_there_is_a_terminal_it_is_drawn(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    assert type(make_view(io.StringIO())) is PlainView
    assert type(make_view(Terminal())) is LiveView
    monkeypatch.setenv("TERM", "dumb")
    assert type(make_view(Terminal())) is PlainView


@pytest.mark.parametrize(
    ("state", "about", "line"),
    [
        ("running", {}, ""),
        ("waiting", {}, ""),
        (
            "finished",
            {"result": {"val_accuracy": 0.9375}},
            "trial 3 finished  optimizer.lr=0.03 seed=3  val_accuracy 93.75%  *\n",
        ),
        (
            "pruned",
            {"epoch": 2, "score": 0.5},
            "trial 3 pruned  optimizer.lr=0.03 seed=3  after 2 of 5 epochs, val_accuracy 50.00%\n",
        ),
        ("failed", {"error": {"what": "out of luck"}}, "trial 3 failed  optimizer.lr=0.03 seed=3  out of luck\n"),
    ],
)
def test_a_line_for_each_trial_that_ends(state, about, line):
    stream = io.StringIO()
    view, outcome = PlainView(stream), sweep_at("runs/mine")
    view.begin(outcome, 1)
    view.trial(tried(outcome, 3, state, **about))
    assert stream.getvalue() == line


def test_now_and_then_how_far_the_others_are(monkeypatch):
    stream, now = io.StringIO(), [0.0]
    monkeypatch.setattr("cnnforge.sweep.view.monotonic", lambda: now[0])
    view, outcome = PlainView(stream), sweep_at("runs/mine")
    view.begin(outcome, 2)
    trial = tried(outcome, 1, "running", epoch=1)
    tried(outcome, 2, "running", epoch=3)
    view.progress(trial)
    assert stream.getvalue() == ""
    now[0] = EVERY + 1
    view.progress(trial)
    view.progress(trial)
    assert stream.getvalue() == "trial 1: epoch 1 of 5, trial 2: epoch 3 of 5\n"
