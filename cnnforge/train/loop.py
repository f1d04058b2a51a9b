"""The training loop, top to bottom. It knows nothing of files, trackers or terminals: whoever watches does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from time import perf_counter
from typing import Any, Protocol

from cnnforge.data.ahead import Ahead, InTurn, Source
from cnnforge.errors import InterruptedRun
from cnnforge.executable import Executable
from cnnforge.losses import Loss
from cnnforge.optim import Optimizer
from cnnforge.schedules import Course, Schedule
from cnnforge.spec.early_stop import EarlyStop, Patience
from cnnforge.train.averages import Averages
from cnnforge.train.clock import Clock
from cnnforge.train.losses import losses_of
from cnnforge.train.metrics import Sums
from cnnforge.train.ranks import ALONE, Ranks
from cnnforge.train.spent import Spent
from cnnforge.train.statistics import LayerStatistics
from cnnforge.train.steps import Steps

Metrics = Mapping[str, float]

#: Batches that are made ahead lie in memory of their own: one is filled while the other is read.
TURNS = (0, 1)


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


def fit(
    train: Executable,
    evaluation: Executable,
    samples: Source,
    validation: Source | None,
    recipe: Recipe,
    watcher: Watcher,
    progress: Progress,
    ahead: bool = False,
    averages: Averages | None = None,
    ranks: Ranks = ALONE,
    spent: Spent | None = None,
) -> list[dict[str, float]]:
    """Train from ``progress`` to the end; return the metrics of every epoch finished here.

    averages: what ``evaluation`` runs on, where that is not what is trained
    ahead: let a thread make the batches before they are asked for; it ends with this call, however that ends
    ranks: the processes that do this together, each of which makes this call; their numbers come out the same
    spent: is told of the time for ``waiting_for_data`` and ``validation``
    Raises DivergedError at the first loss that is not finite, before its update; InterruptedRun where the watcher says
    so. Where the device adds losses up by itself nothing is waited for until numbers are wanted: that error then comes
    up to ``log_every`` steps late, with ``progress`` and weights as they were before the update.
    """
    history: list[dict[str, float]] = []
    spent = spent or Spent()
    per_epoch = samples.steps_per_epoch
    steps = Steps(train, samples, recipe, watcher, progress, ranks)
    losses, total = steps.losses, steps.total
    done = progress.epoch * per_epoch + progress.step_in_epoch
    place = progress.epoch, progress.step_in_epoch, recipe.epochs * per_epoch - done
    largest = [train.bound(ranks.take(samples.shard(0)), turn) for turn in (TURNS if ahead else (None,))]
    rooms = [bound.room for bound in largest]

    def vacated(turn: int) -> None:
        largest[turn].vacated()

    batches = Ahead(samples, *place, rooms, vacated) if ahead else InTurn(samples, *place, rooms[0], vacated)
    scores = recipe.loss.scores_hits()
    clock, statistics = Clock(), LayerStatistics(train, recipe.layers, recipe.stats_every, total, ranks)
    at_once = recipe.accumulate == 1 and ranks.size == 1
    with batches:
        # An epoch that max_steps cut short counts as one: a run that goes on from there has fewer steps than ``total``.
        while progress.step < total and progress.epoch < recipe.epochs and not progress.stopped:
            while progress.step_in_epoch < per_epoch and progress.step < total:
                if (reason := ranks.stopping(watcher.stopping())) is not None:
                    steps.settle()
                    watcher.interrupted(progress)
                    raise reason
                update, members, lr = progress.step + 1, steps.members(), steps.lr()
                n = sum(map(samples.size, members))
                logged = update % recipe.log_every == 0 or update == total
                metrics: dict[str, float] = {}
                seen = Sums()
                for number, step in enumerate(members):
                    asked = perf_counter()
                    turn = batches.next()
                    waited = perf_counter() - asked
                    clock.waited(waited)
                    spent.add("waiting_for_data", waited)
                    shard = samples.shard(step)
                    bound = train.bound(ranks.take(shard), turn)
                    steps.forward(bound, step, number, n)
                    part = losses.look(bound, bool(shard), logged)
                    if not isfinite(part.loss):
                        raise steps.gave_up(bound, step, part.loss / part.samples, whole=not number)
                    seen.join(part)
                    if step == members[-1] and statistics.due(update):
                        metrics |= statistics.before(bound, bool(shard))
                    if at_once:
                        bound.run("backward", "update")
                    elif shard:
                        bound.run("backward", "gather")
                    else:  # a sample for company: see ``Ranks.take``
                        bound.run("backward")
                        train.forget()
                if not at_once:
                    train.backend.sum(train.sums)
                    bound.run("update")
                losses.count(progress.sums, seen, n)
                progress.step, progress.step_in_epoch = update, progress.step_in_epoch + len(members)
                if logged or statistics.due(update) or watcher.saves(progress):
                    steps.settle()
                if statistics.due(update):
                    metrics |= statistics.after(1.0 / n)
                clock.count(n)
                if logged:
                    metrics |= {"step/" + name: value for name, value in seen.means("train", scores).items()}
                    metrics |= {"step/lr": lr, "step/samples_per_second": clock.rate()}
                    if "grad_norm" in bound.outputs:
                        metrics["step/grad_norm"] = float(bound.read("grad_norm")[0])
                watcher.step(progress, metrics)
            steps.settle()
            means = progress.sums.means("train", scores)
            means |= clock.of_epoch()
            train.backend.align(train.kept)
            if averages is not None:
                averages.refresh()
            if validation is not None:
                with spent.on("validation"):
                    means |= evaluate(evaluation, validation, recipe.loss, "val", ranks)
            means = ranks.first(means)
            improved = _improved(progress, means)
            progress.metrics = means
            progress.course = recipe.schedule.after_epoch(progress.course, means)
            if recipe.early_stop is not None:
                progress.patience = recipe.early_stop.after_epoch(progress.patience, means)
                progress.stopped = recipe.early_stop.is_over(progress.patience)
            if improved:
                progress.best_metrics = {name: value for name, value in means.items() if name.startswith("val_")}
            progress.epoch, progress.step_in_epoch, progress.sums = progress.epoch + 1, 0, Sums()
            losses.begin(progress.sums)
            history.append(means)
            watcher.epoch(progress, means, improved)
            clock.skip()
    return history


def evaluate(
    evaluation: Executable,
    samples: Source,
    loss: Loss,
    prefix: str,
    ranks: Ranks = ALONE,
    keep: Callable[[Any, Any], None] | None = None,
) -> dict[str, float]:
    """Mean loss and accuracy over every sample, in inference mode.

    keep: is given each batch's predictions and losses
    """
    sums, losses = Sums(), losses_of(evaluation, ALONE)
    losses.begin(sums)
    epoch = samples.epoch(0)
    for step in range(samples.steps_per_epoch):
        shard = samples.shard(step)
        bound = evaluation.bound(ranks.take(shard))
        samples.fill(epoch, step, *bound.room)
        bound.send()
        if keep is None:
            bound.run("forward", "loss")
        else:
            bound.run("forward", "output", "loss")
            keep(bound.read("prediction"), bound.read("loss"))
        losses.count(sums, losses.look(bound, bool(shard), wanted=False), len(shard))
    losses.settle(sums)
    return ranks.total(sums).means(prefix, loss.scores_hits())


def _improved(progress: Progress, metrics: Metrics) -> bool:
    """Is this the best epoch so far, by validation accuracy where there is one, else by validation loss?"""
    if "val_loss" not in metrics:
        return False
    score = metrics["val_accuracy"] if "val_accuracy" in metrics else -metrics["val_loss"]
    if progress.best_score is not None and score <= progress.best_score:
        return False
    progress.best_score, progress.best_step = score, progress.step
    return True


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
