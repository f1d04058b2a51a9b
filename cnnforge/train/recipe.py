"""What the training loop is told, where it stands, and whom it tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from cnnforge.errors import InterruptedRun
from cnnforge.losses import Loss
from cnnforge.optim import Optimizer
from cnnforge.schedules import Course, Schedule
from cnnforge.spec.early_stop import EarlyStop, Patience
from cnnforge.train.metrics import Sums

Metrics = Mapping[str, float]


@dataclass
class Progress:
    """Where a run stands: all that resuming needs beside the tensors.

    epoch, step_in_epoch: the next batch;  step: updates done;  sums: of the epoch so far
    best_score, best_step: the best validation score and where it was
    metrics: of the last epoch that was finished;  best_metrics: of the best one, those of validation
    course: what the schedule remembers;  patience: the same of early stopping;  stopped: has that ended the run?
    """

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    sums: Sums = field(default_factory=Sums)
    best_score: float | None = None
    best_step: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    best_metrics: dict[str, float] = field(default_factory=dict)
    course: Course = field(default_factory=Course)
    patience: Patience = field(default_factory=Patience)
    stopped: bool = False


class Averaging(Protocol):
    """How weights are averaged."""

    def keep(self, update: int, total: int) -> float:
        """The share of the average that update number ``update`` (from 1) of ``total`` keeps."""


class Watcher(Protocol):
    """What the loop tells. Every call is on the training thread: be quick."""

    def saves(self, progress: Progress) -> bool:
        """Asked before ``step``: is it going to write a checkpoint? Only then are its ``sums`` right."""

    def step(self, progress: Progress, metrics: Metrics) -> None:
        """After every update. ``metrics``: of the step every ``log_every`` steps, of the layers every ``stats_every``;
        else empty.
        """

    def epoch(self, progress: Progress, metrics: Metrics, improved: bool) -> None:
        """After every epoch and its validation; ``progress`` already points at the next epoch."""

    def stopping(self) -> InterruptedRun | None:
        """The reason to stop now, if there is one."""

    def interrupted(self, progress: Progress) -> None:
        """The loop is about to raise that reason, or that training diverged and the weights are still good: the
        moment to write a checkpoint."""


class Silent:
    """A watcher that watches nothing."""

    def step(self, progress: Progress, metrics: Metrics) -> None:
        """Nothing."""

    def saves(self, progress: Progress) -> bool:
        return False

    def epoch(self, progress: Progress, metrics: Metrics, improved: bool) -> None:
        """Nothing."""

    def stopping(self) -> InterruptedRun | None:
        return None

    def interrupted(self, progress: Progress) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Recipe:
    """How to train. ``max_steps`` ends the run early, whatever ``epochs`` says.

    log_every, stats_every: steps between two records of metrics, and of what goes on in each layer
    layers: their names by path
    early_stop: when to give up, whatever ``epochs`` says
    accumulate: batches of an update; ``train`` then gathers gradients (see ``train_graph``)
    averaging: how weights are averaged; ``train`` then keeps an average
    """

    optimizer: Optimizer
    schedule: Schedule
    loss: Loss
    epochs: int
    log_every: int = 10
    max_steps: int | None = None
    stats_every: int | None = None
    layers: Mapping[Any, str] = field(default_factory=dict)
    early_stop: EarlyStop | None = None
    accumulate: int = 1
    averaging: Averaging | None = None

    def updates(self, per_epoch: int) -> int:
        """Updates in an epoch of so many batches."""
        return -(-per_epoch // self.accumulate)

    def steps(self, per_epoch: int) -> int:
        """Updates in the whole run."""
        total = self.epochs * self.updates(per_epoch)
        return total if self.max_steps is None else min(total, self.max_steps)
