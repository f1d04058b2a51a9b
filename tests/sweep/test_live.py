"""The live view, as it looks on terminals of several widths and at several moments."""

import io
import time

import pytest
from rich.console import Console

from cnnforge.sweep import live
from cnnforge.sweep.live import LiveView, clock
from tests.sweep.watched import sweep_at, tried


class Watch:
    """A live view over a clock that is set by hand, and what it shows."""

    def __init__(self, monkeypatch, width=110, workers=2, **about):
        self.now = 1000.0
        monkeypatch.setattr(live, "monotonic", lambda: self.now)
        self.stream = io.StringIO()
        console = Console(file=self.stream, force_terminal=True, width=width, height=30, color_system=None)
        self.view, self.outcome = LiveView(self.stream, console), sweep_at("runs/mine", **about)
        monkeypatch.setattr(live, "RATE", 1e-3)
        self.view.begin(self.outcome, workers)

    def trial(self, number, state, seconds=10.0, **about):
        """A trial that takes so long; the clock stands there afterwards."""
        trial = tried(self.outcome, number, "running")
        self.view.trial(trial)
        self.now += seconds
        for name, value in about.items():
            setattr(trial, name, value)
        if state != "running":
            trial.state = state
            self.view.trial(trial)
        return trial

    def lines(self):
        console = Console(file=io.StringIO(), width=self.view._console.width, color_system=None)
        console.print(self.view.picture())
        return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.fixture
def watch(monkeypatch):
    made = []

    def make(**about):
        made.append(Watch(monkeypatch, **about))
        return made[-1]

    yield make
    for one in made:
        one.view.end()


def busy(one):
    one.trial(1, "finished", result={"val_accuracy": 0.9})
    one.trial(2, "finished", result={"val_accuracy": 0.95})
    one.trial(3, "pruned", epoch=2, score=0.5)
    one.trial(4, "failed", error={"what": "training diverged: the loss is nan"})
    one.trial(5, "running", 0.0, epoch=2, part=0.5, score=0.8812)
    one.trial(6, "running", 0.0, runs=(1, 3), part=0.25)
    return one


def test_what_is_to_be_seen(watch):
    one = busy(watch())
    assert one.lines() == [
        "",
        "mine  4 of 24 trials  2 finished  1 pruned  1 failed  2 running  0:40, about 1:35 left",
        "trial 5  ━━━━━━━━━━━━────────────  epoch 2/5           val_accuracy 88.12%  lr=0.05 seed=5",
        "trial 6  ━━━━━━━━━━──────────────  run 2/3, epoch 0/5                       lr=0.06 seed=6",
        "best: trial 2  val_accuracy 95.00%  lr=0.02 seed=2",
        "   0:10  trial 1 finished  val_accuracy 90.00%  *  lr=0.01 seed=1",
        "   0:20  trial 2 finished  val_accuracy 95.00%  *  lr=0.02 seed=2",
        "   0:30  trial 3 pruned  after 2 of 5 epochs, val_accuracy 50.00%  lr=0.03 seed=3",
    ]


def test_failures_stay_above_it(watch):
    one = busy(watch())
    assert "trial 4 failed  optimizer.lr=0.04 seed=4  training diverged: the loss is nan\n" in one.stream.getvalue()


def test_on_a_narrow_terminal_lines_are_cut(watch):
    lines = busy(watch(width=40)).lines()
    assert len(lines) == 8
    assert max(map(len, lines)) == 40
    assert lines[2] == "trial 5  ━━━━━─────  epoch 2/5         …"


def test_more_trials_than_can_be_shown(watch):
    one = watch(workers=40)
    for number in range(1, 41):
        one.trial(number, "running", 0.0)
    assert one.lines()[-1] == f"… and {40 - live.MOST_RUNNING} more"


def test_the_time_left(watch):
    one = watch(planned=4, workers=1)
    assert one.view.left() is None, "nothing is known yet"
    one.trial(1, "running", 10.0, part=0.5)
    assert one.view.left() == pytest.approx(70.0), "of what is under way"
    one = watch(planned=4, workers=1)
    one.trial(1, "finished", 10.0)
    one.trial(2, "running", 0.0, part=0.5)
    assert one.view.left() == pytest.approx(25.0)
    for number in (2, 3, 4):
        one.trial(number, "finished", 10.0)
    assert one.view.left() == 0.0


def test_the_time_left_of_a_budget(watch):
    one = watch(planned=0, budget={"time": "1 min"}, sampler="random")
    one.trial(1, "finished", 10.0)
    assert one.view.left() == pytest.approx(50.0)
    assert one.lines()[1] == "mine  1 trials  1 finished  0:10, about 0:50 left"
    one = watch(planned=100, budget={"time": "1 min", "trials": 100}, sampler="random")
    one.trial(1, "finished", 10.0)
    assert one.view.left() == pytest.approx(50.0), "whichever comes first"


def test_it_is_drawn_a_few_times_a_second_and_goes_when_it_ends(monkeypatch):
    drawn = []
    stream = io.StringIO()
    view = LiveView(stream, Console(file=stream, force_terminal=True, width=80))
    real = view.picture
    monkeypatch.setattr(view, "picture", lambda: drawn.append(0) or real())
    outcome = sweep_at("runs/mine")
    view.begin(outcome, 2)
    trial = tried(outcome, 1, "running")
    began = time.monotonic()
    while time.monotonic() - began < 1.0:
        view.progress(trial)
        time.sleep(0.001)
    view.end()
    view.end()
    assert 2 <= len(drawn) <= 8
    view.note("after it")
    assert stream.getvalue().endswith("after it\n")


def test_clock():
    assert [clock(seconds) for seconds in (0, 59.6, 75, 3725)] == ["0:00", "1:00", "1:15", "1:02:05"]
