"""A run as a person watches it: a live bar in a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Any, TextIO

from cnnforge.train.recipe import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

#: Seconds between two plain lines within an epoch.
PLAIN_EVERY = 10.0


def make_console(stream: TextIO = sys.stdout) -> PlainConsole:
    """A live bar where ``stream`` is a terminal, plain lines where it is a file or a pipe."""
    return LiveConsole(stream) if stream.isatty() else PlainConsole(stream)


def epoch_line(progress: Progress, epochs: int, metrics: Mapping[str, float], improved: bool) -> str:
    """``epoch  3/20  train_loss 0.1234  …  1,234 samples/s  *``; the star marks the best so far."""
    parts = [f"epoch {progress.epoch:>{len(str(epochs))}}/{epochs}"]
    for name, value in metrics.items():
        if name.endswith("_accuracy"):
            parts.append(f"{name} {value:7.2%}")
        elif name.endswith("_loss"):
            parts.append(f"{name} {value:.4f}")
    parts.append(f"{metrics['samples_per_second']:,.0f} samples/s")
    return "  ".join(parts) + ("  *" if improved else "")


class PlainConsole:
    """One line per epoch, and one every ten seconds within long ones."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._epochs = self._total = 0
        self._spoke = self._compiling = perf_counter()

    def say(self, text: str) -> None:
        """One line, at once."""
        print(text, file=self._stream, flush=True)
        self._spoke = perf_counter()

    def note(self, text: str) -> None:
        self.say(text)

    def compiling(self, done: int, total: int) -> None:
        if not done:
            self._compiling = perf_counter()
            self.say(f"compiling {total} kernels for this machine, which happens once")
        elif done == total:
            self.say(f"compiled {total} kernels in {perf_counter() - self._compiling:.1f} s")
        elif perf_counter() - self._spoke > PLAIN_EVERY:
            self.say(f"compiling kernels {done}/{total}")

    def begin(self, epochs: int, steps_per_epoch: int, total_steps: int) -> None:
        self._epochs, self._total = epochs, total_steps
        self.say(f"{epochs} epoch{'s' * (epochs != 1)} of {steps_per_epoch:,} steps")

    def step(self, progress: Progress, metrics: Mapping[str, float]) -> None:
        if "step/train_loss" in metrics and perf_counter() - self._spoke > PLAIN_EVERY:
            rate = metrics["step/samples_per_second"]
            loss = metrics["step/train_loss"]
            self.say(f"step {progress.step:,}/{self._total:,}  train_loss {loss:.4f}  {rate:,.0f} samples/s")

    def epoch(self, progress: Progress, metrics: Mapping[str, float], improved: bool) -> None:
        self.say(epoch_line(progress, self._epochs, metrics, improved))

    def end(self) -> None:
        """Nothing to clear away."""


class LiveConsole(PlainConsole):
    """A bar with the time left and the latest loss; a line per epoch above it."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._bar: Bar | None = None
        self._task: Any = None

    def say(self, text: str) -> None:
        if self._bar is None:
            super().say(text)
        else:
            self._bar.console.print(text, highlight=False, soft_wrap=True)

    def compiling(self, done: int, total: int) -> None:
        if not done:
            self._compiling = perf_counter()
            self._open("compiling kernels for this machine, once", total)
        assert self._bar is not None
        self._bar.update(self._task, completed=done)
        if done == total:
            self.end()
            super().compiling(done, total)

    def begin(self, epochs: int, steps_per_epoch: int, total_steps: int) -> None:
        self._epochs, self._total = epochs, total_steps
        self._open("training", total_steps)

    def _open(self, what: str, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[loss]}"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
            console=Console(file=self._stream), refresh_per_second=8, transient=True,
        )  # fmt: skip
        self._task = self._bar.add_task(what, total=total, loss="")
        self._bar.start()

    def step(self, progress: Progress, metrics: Mapping[str, float]) -> None:
        assert self._bar is not None
        if "step/train_loss" in metrics:
            self._bar.update(self._task, completed=progress.step, loss=f"loss {metrics['step/train_loss']:.4f}")
        else:
            self._bar.update(self._task, completed=progress.step)

    def end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
