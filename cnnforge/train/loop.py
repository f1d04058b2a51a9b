"""The training loop, top to bottom. It knows nothing of files, trackers or terminals: whoever watches does."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from time import perf_counter
from typing import Any

from cnnforge.data.ahead import Ahead, InTurn, Source
from cnnforge.executable import Executable
from cnnforge.losses import Loss
from cnnforge.train.averages import Averages
from cnnforge.train.clock import Clock
from cnnforge.train.losses import losses_of
from cnnforge.train.metrics import Sums
from cnnforge.train.ranks import ALONE, Ranks
from cnnforge.train.recipe import Metrics, Progress, Recipe, Watcher
from cnnforge.train.spent import Spent
from cnnforge.train.statistics import LayerStatistics
from cnnforge.train.steps import Steps

#: Batches that are made ahead lie in memory of their own: one is filled while the other is read.
TURNS = (0, 1)


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
