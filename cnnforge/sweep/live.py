"""A sweep as a person watches it in a terminal: a few lines that are drawn anew a few times a second."""

from __future__ import annotations

from collections import Counter, deque
from time import monotonic
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from cnnforge.sweep.table import short_names, shown, text
from cnnforge.sweep.trials import Outcome, State, Trial
from cnnforge.sweep.view import PlainView

#: Times a second that it is drawn.
RATE = 4.0
#: Trials that are shown while they run, and lines of what happened last.
MOST_RUNNING, MOST_EVENTS = 16, 4
#: Columns of a bar on narrow and on wide terminals, and of a terminal from which on it is wide.
BAR, WIDE = (10, 24), 90
_ENDED: tuple[State, ...] = ("finished", "pruned", "failed", "killed")
_COLOURS: dict[State, str] = {
    "finished": "green",
    "pruned": "yellow",
    "failed": "red",
    "killed": "red",
    "running": "cyan",
}


class LiveView(PlainView):
    """Counts, a bar for each running trial, the best so far, the time left, what happened last.

    Notes, and trials that failed, stay in the terminal above it; the rest goes when the sweep ends.
    """

    def __init__(self, stream: TextIO, console: Console | None = None) -> None:
        super().__init__(stream)
        self._console = console or Console(file=stream)
        self._live: Live | None = None
        self._events: deque[tuple[float, str]] = deque(maxlen=MOST_EVENTS)
        self._since: dict[int, float] = {}
        self._taken: list[float] = []
        self._best: list[Trial] = []
        self._workers = 1
        self._began = monotonic()

    def note(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def begin(self, outcome: Outcome, workers: int) -> None:
        super().begin(outcome, workers)
        self._workers, self._began, self._best = workers, monotonic(), outcome.best
        self._live = Live(
            get_renderable=self.picture, console=self._console, refresh_per_second=RATE, transient=True,
            vertical_overflow="crop",
        )  # fmt: skip
        self._live.start()

    def trial(self, trial: Trial) -> None:
        assert self._outcome is not None
        if trial.state == "running":
            self._since[trial.number] = monotonic()
            return
        since = self._since.pop(trial.number, None)
        if trial.over and since is not None:
            self._taken.append(monotonic() - since)
        if trial.state == "finished":
            self._best = self._outcome.best
        if trial.state in ("failed", "killed"):
            super().trial(trial)
        elif trial.state != "waiting":
            line = f"trial {trial.number} {trial.state}  {self._end(trial)}  {self._values(trial)}"
            self._events.append((monotonic() - self._began, line))

    def progress(self, trial: Trial) -> None:
        """It is drawn by the clock."""

    def end(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def picture(self) -> RenderableType:
        """What is to be seen now. Called by the thread that draws; looks at what the driver changes."""
        assert self._outcome is not None
        parts: list[RenderableType] = [Text(""), self._head()]
        running = [trial for trial in list(self._outcome.trials.values()) if trial.state == "running"]
        if running:
            parts += self._bars(running[:MOST_RUNNING])
        if len(running) > MOST_RUNNING:
            parts.append(Text(f"… and {len(running) - MOST_RUNNING} more", style="dim"))
        parts += [self._named(trial) for trial in self._best[:3]]
        parts += [_line(f"{clock(at):>7}  {line}", "dim") for at, line in list(self._events)]
        return Group(*parts)

    def _head(self) -> Text:
        assert self._outcome is not None
        states = Counter(trial.state for trial in list(self._outcome.trials.values()))
        ended, planned = sum(states[state] for state in _ENDED), self._planned()
        head = Text(no_wrap=True, overflow="ellipsis")
        head.append(self._outcome.folder.name, "bold")
        head.append(f"  {ended}{f' of {planned}' if planned else ''} trials")
        for state, colour in _COLOURS.items():
            if number := states[state]:
                head.append("  ")
                head.append(f"{number} {state}", colour)
        head.append(f"  {clock(monotonic() - self._began)}")
        left = self.left()
        head.append(f", about {clock(left)} left" if left is not None else "")
        return head

    def _planned(self) -> int:
        assert self._outcome is not None
        return self._outcome.checked.totals.trials

    def left(self) -> float | None:
        """Seconds until the end, were all trials to take as long as those so far; None where nothing is known."""
        assert self._outcome is not None
        now, trials = monotonic(), list(self._outcome.trials.values())
        budget = self._outcome.checked.spec.budget.seconds
        up = None if budget is None else max(0.0, budget - (now - self._began))
        running = [(trial.number, _share(trial)) for trial in trials if trial.state == "running"]
        taken = [*self._taken]
        if not taken:  # those that are under way tell something too
            since = [(share, now - self._since[n]) for n, share in running if n in self._since and share > 0.02]
            taken = [spent / share for share, spent in since]
        planned = self._planned()
        if not taken or not planned:
            return up
        ended = sum(trial.state in _ENDED for trial in trials)
        open_trials = max(0.0, planned - ended - sum(share for _, share in running))
        left = open_trials * sum(taken) / len(taken) / min(self._workers, max(1, planned - ended))
        return left if up is None else min(left, up)

    def _bars(self, running: list[Trial]) -> list[Text]:
        """A line for each trial, with columns of one width."""
        assert self._outcome is not None
        metric = self._outcome.objective[0].metric
        cells = []
        for trial in running:
            done, of = trial.runs
            run = f"run {done + 1}/{of}, " if of > 1 else ""
            score = "" if trial.score is None else f"{metric} {shown(metric, trial.score)}"
            cells.append((f"trial {trial.number}", f"{run}epoch {trial.epoch}/{trial.epochs}", score))
        name_width, epoch_width, score_width = (max(map(len, column)) for column in zip(*cells, strict=True))
        length = BAR[self._console.width >= WIDE]
        lines = []
        for trial, (name, epoch, score) in zip(running, cells, strict=True):
            full = round(length * _share(trial))
            line = Text(f"{name:<{name_width}}  ", no_wrap=True, overflow="ellipsis")
            line.append("━" * full, "cyan")
            line.append("─" * (length - full), "bright_black")
            line.append(f"  {epoch:<{epoch_width}}  {score:<{score_width}}  ")
            line.append(self._values(trial), "dim")
            lines.append(line)
        return lines

    def _named(self, trial: Trial) -> Text:
        assert self._outcome is not None
        goals, scores = self._outcome.objective, self._outcome.scores(trial) or []
        numbers = "  ".join(
            f"{goal.metric} {shown(goal.metric, score)}" for goal, score in zip(goals, scores, strict=True)
        )
        return _line(f"best: trial {trial.number}  {numbers}  {self._values(trial)}", "bold green")

    def _values(self, trial: Trial) -> str:
        assert self._outcome is not None
        keys = list(self._outcome.checked.spec.space)
        names = dict(zip(keys, short_names(keys), strict=True))
        return " ".join(f"{names.get(key, key)}={text(value)}" for key, value in trial.point.values.items())


def clock(seconds: float) -> str:
    """``75`` -> ``1:15``; hours where there are some."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _share(trial: Trial) -> float:
    """How much of a trial is done, 0 to 1, its replicas counted."""
    run = max(trial.part, trial.epoch / trial.epochs if trial.epochs else 0.0)
    done, of = trial.runs
    return min(1.0, (done + run) / of)


def _line(text: str, style: str) -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")
