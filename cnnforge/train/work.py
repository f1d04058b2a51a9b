"""The work of a run: data, plan, training, test, saved model."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, time
from typing import Any, Protocol

from numpy.typing import NDArray

from cnnforge.backends.base import Backend
from cnnforge.blocks.batch_norm import BatchNorm
from cnnforge.data import Dataset, load
from cnnforge.errors import DataError, InterruptedRun, PrunedRun
from cnnforge.executable import Executable
from cnnforge.losses import Loss
from cnnforge.plan import Plan, named
from cnnforge.plan.forecast import memory
from cnnforge.spec import RunSpec
from cnnforge.tracking import Journal
from cnnforge.train.averages import Averages
from cnnforge.train.checkpoint import About, Checkpoints, save_model
from cnnforge.train.folder import write_json
from cnnforge.train.loop import evaluate, fit
from cnnforge.train.ranks import ALONE, Ranks
from cnnforge.train.recipe import Metrics, Progress, Recipe
from cnnforge.train.record import RunRecord, is_timing
from cnnforge.train.setup import Setup, same_data, set_up
from cnnforge.train.shortcuts import most_steps
from cnnforge.train.signals import StopRequest
from cnnforge.train.spent import Spent
from cnnforge.train.transfer import transfer

Result = dict[str, Any]


class Console(Protocol):
    """Where a person watches a run."""

    def note(self, text: str) -> None:
        """A line worth knowing."""

    def compiling(self, done: int, total: int) -> None:
        """So many of the kernels that this machine does not have yet are compiled: from none to all."""

    def begin(self, epochs: int, steps_per_epoch: int, total_steps: int) -> None:
        """Training is about to start."""

    def step(self, progress: Progress, metrics: Metrics) -> None:
        """After every update; ``metrics`` is mostly empty."""

    def epoch(self, progress: Progress, metrics: Metrics, improved: bool) -> None:
        """After every epoch."""

    def end(self) -> None:
        """Training is over, one way or another."""


@dataclass(frozen=True)
class Guest:
    """What a run is told that is a part of something larger, which watches it and sends its numbers to the tracker.

    prune: asked after every epoch whether to give the run up
    """

    prune: Callable[[], bool]


@dataclass
class Answers:
    """What the run's final model says of a split, in the split's order.

    split: ``test``, or ``validation`` where there is no test
    predictions: pieces (n, …);  losses: (n,) of each sample
    """

    split: str
    predictions: list[NDArray[Any]] = field(default_factory=list)
    losses: list[NDArray[Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Done:
    """A run whose work is done, for whoever makes something of it before its journal is closed.

    data, loss: what it trained and was tested with;  result: what ``result.json`` is going to hold
    answers: None where nobody has them in one place
    note: tells whoever watches
    """

    folder: Path
    spec: RunSpec
    data: Dataset
    loss: Loss | None
    answers: Answers | None
    result: Mapping[str, Any]
    journal: Journal
    note: Callable[[str], None]


#: What is called with it.
After = Callable[[Done], None]


@dataclass
class Life:
    """A run while a process works on it: what the parts of the work share.

    wanted: does somebody come after the work, who takes ``data``, ``loss`` and ``answers``?
    """

    spec: RunSpec
    folder: Path
    journal: Journal
    console: Console
    stop: StopRequest
    checkpoints: Checkpoints
    backend: Backend
    record: RunRecord | None = None
    ranks: Ranks = ALONE
    result: Result = field(default_factory=dict)
    train: Executable | None = None
    about: About | None = None
    steps_per_epoch: int = 0
    stopped_early: bool = False
    averages: Averages | None = None
    differing: set[str] = field(default_factory=set)
    guest: Guest | None = None
    data: Dataset | None = None
    loss: Loss | None = None
    answers: Answers | None = None
    wanted: bool = False
    spent: Spent = field(default_factory=Spent)
    _compiling: float = 0.0

    def save(self, progress: Progress, best: bool) -> None:
        """Write a checkpoint of the present state."""
        assert self.train is not None
        assert self.about is not None
        with self.spent.on("checkpoints"):
            self.checkpoints.save(progress, self.train, self.about, best, self.averages)

    def compiling(self, done: int, total: int) -> None:
        """A ``backends.base.Report``."""
        if self.stop.reason is not None:
            raise self.stop.reason
        self.console.compiling(done, total)
        if not done:
            self._compiling = perf_counter()
        elif done == total:
            self.spent.add("compiling", perf_counter() - self._compiling)

    # A train.recipe.Watcher:

    def saves(self, progress: Progress) -> bool:
        return checkpoint_due(self.spec, progress, self.steps_per_epoch)

    def step(self, progress: Progress, metrics: Metrics) -> None:
        if "first_step_seconds" not in self.result:
            self.result["first_step_seconds"] = seconds_since_start()
        self.log(metrics, progress.step)
        if self.saves(progress):
            self.save(progress, best=False)
        self.console.step(progress, metrics)

    def epoch(self, progress: Progress, metrics: Metrics, improved: bool) -> None:
        self.restore(progress)
        self.log(metrics, progress.epoch)
        self.save(progress, best=improved)
        self.console.epoch(progress, metrics, improved)
        if self.guest is not None and self.guest.prune() and self.stop.reason is None:
            self.stop.reason = PrunedRun("pruned", why=f"other trials are better after {progress.epoch} epochs")

    def log(self, metrics: Metrics, step: int) -> None:
        """Write metrics down once: what an earlier life of the run has recorded stays, and is compared."""
        known = self.record.metrics if self.record else {}
        as_many = self.record is not None and self.record.ranks == self.ranks.size
        if new := {name: value for name, value in metrics.items() if (name, step) not in known}:
            self.journal.metrics(new, step)
        self.differing |= {
            name
            for name, value in metrics.items()
            if as_many and (name, step) in known and value != known[name, step] and not is_timing(name)
        }

    def restore(self, progress: Progress) -> None:
        """What the result says of the training so far."""
        self.result |= progress.metrics | {f"best_{name}": value for name, value in progress.best_metrics.items()}
        self.result |= {"epochs": progress.epoch, "steps": progress.step}
        if progress.best_step is not None:
            self.result["best_step"] = progress.best_step

    def stopping(self) -> InterruptedRun | None:
        return self.stop.reason

    def interrupted(self, progress: Progress) -> None:
        self.result |= {"steps": progress.step, "epochs": progress.epoch}
        if not isinstance(self.stop.reason, PrunedRun):  # that is after an epoch, which has a checkpoint
            self.save(progress, best=False)


def checkpoint_due(spec: RunSpec, progress: Progress, steps_per_epoch: int) -> bool:
    """Is a checkpoint written after this update, beside those at the ends of epochs?"""
    every = spec.trainer.checkpoint_every
    return bool(every) and progress.step % (every or 1) == 0 and progress.step_in_epoch < steps_per_epoch


def recipe_of(spec: RunSpec, made: Setup) -> Recipe:
    """How a run trains."""
    trainer = spec.trainer
    return Recipe(
        spec.optimizer, spec.schedule, made.loss, trainer.epochs, log_every=trainer.log_every,
        max_steps=most_steps(trainer), stats_every=trainer.stats_every,
        layers={row.path: row.name for row in spec.model.table}, early_stop=trainer.early_stop,
        accumulate=trainer.accumulate, averaging=trainer.averaging,
    )  # fmt: skip


def work(run: Life) -> None:
    """Train from where the run stands, test, save. ``follow`` is what other processes of the job do meanwhile."""
    spec, trainer, ranks = run.spec, run.spec.trainer, run.ranks
    run.backend.join()
    with run.spent.on("data"):
        data = ranks.in_order(lambda: _data(run))
        same_data(data, ranks)
    ways = run.record.ways if run.record else {}
    with run.spent.on("planning"):
        made = ranks.in_order(lambda: set_up(spec, data, run.backend, run.console.note, run.compiling, ways, ranks))
    run.about = About(spec.model, trainer.precision, data.preprocessing.to_dict(), data.class_names)
    run.train, run.steps_per_epoch, run.averages = made.train, made.samples.steps_per_epoch, made.averages
    _log_plan(run, made.ways, made.train.plan, made.evaluation.plan)

    recipe = recipe_of(spec, made)
    if ranks.size > 1:
        _say_how_many(run)
    progress = ranks.first(ranks.in_order(lambda: _begin(run)))
    run.backend.align(made.train.kept)
    run.console.begin(trainer.epochs, run.steps_per_epoch, recipe.steps(run.steps_per_epoch))
    with run.spent.on("training"):
        fit(
            made.train,
            made.evaluation,
            made.samples,
            made.validation,
            recipe,
            run,
            progress,
            ahead=True,
            averages=made.averages,
            ranks=ranks,
            spent=run.spent,
        )
    run.stopped_early = progress.stopped

    weights = made.evaluation.weights
    run.checkpoints.load_weights("best" if run.checkpoints.has("best") else "last", weights)
    run.backend.align(weights.params | weights.state)
    keep = _keeper(run, made)
    if made.test is not None:
        with run.spent.on("test"):
            tested = evaluate(made.evaluation, made.test, made.loss, "test", ranks, keep)
        run.result |= tested
        run.log(tested, run.result["epochs"])
    elif keep is not None and made.validation is not None:
        with run.spent.on("report"):
            evaluate(made.evaluation, made.validation, made.loss, "val", ranks, keep)
    best = {name: value for name, value in run.result.items() if name.startswith("best_val_")}
    run.log(best, run.result["epochs"])  # a table of runs has the last number of each name, and that is another
    if run.differing:
        names = ", ".join(sorted(run.differing))
        run.console.note(f"warning: done again, some numbers came out otherwise than before: {names}")
        run.journal.event("differing", names=names)
    save_model(run.folder / "model", run.about, weights)
    if spec.tracking.log_model:
        run.journal.model("model", input_shape=spec.model.input, output_shape=spec.model.output)
    run.data, run.loss = data, made.loss


def _keeper(run: Life, made: Setup) -> Callable[[Any, Any], None] | None:
    """What keeps the answers to the test, or to validation, where that is wanted and one process has them all."""
    if not run.wanted or run.ranks.size > 1 or (made.test or made.validation) is None:
        return None
    kept = run.answers = Answers("test" if made.test is not None else "validation")

    def keep(predictions: Any, losses: Any) -> None:
        kept.predictions.append(predictions)
        kept.losses.append(losses)

    return keep


def _data(run: Life) -> Dataset:
    data = load(run.spec.data, run.spec.model.input, run.spec.seed, run.console.note)
    for note in data.notes:
        run.console.note(note)
    _log_data(run, data)
    return data


def _say_how_many(run: Life) -> None:
    trainer, size = run.spec.trainer, run.ranks.size
    run.console.note(f"{size} processes, each with its part of every batch of {trainer.batch_size}")
    normed = any(isinstance(row.block, BatchNorm) for row in run.spec.model.table)
    if normed and not trainer.sync_batch_norm:
        run.console.note(
            "batch_norm: each process takes the mean and variance of its own part, about "
            f"{trainer.batch_size / size:g} samples; trainer.sync_batch_norm=true takes the whole batch's, as one "
            "process does"
        )


def _begin(run: Life) -> Progress:
    """Weights and counters to begin with."""
    run.checkpoints.mend()
    if not run.checkpoints.has("last"):
        _transfer(run)
    return _progress(run)


def _transfer(run: Life) -> None:
    assert run.train is not None
    taken = transfer(run.spec, run.train.weights)
    if taken is None:
        return
    for note in taken.notes:
        run.console.note(note)
    run.journal.event("init_from", source=taken.source, digest=taken.digest, tensors=len(taken.taken))
    if run.averages is not None:
        run.averages.begin()


def _progress(run: Life) -> Progress:
    """Where to begin: at the last checkpoint of an earlier life, where there is one."""
    if run.record is None:
        return Progress()
    progress = Progress()
    if run.checkpoints.has("last"):
        assert run.train is not None
        progress = run.checkpoints.load("last", run.train)
        run.restore(progress)
    if run.record.described:
        run.console.note(f"resumed at step {progress.step}")
        run.journal.event("resumed", step=progress.step)
    return progress


def _log_data(run: Life, data: Dataset) -> None:
    if run.record is not None and run.record.digest is not None:
        if data.digest != run.record.digest:
            raise DataError(
                f"{data.name}: the data are not those that the run began with",
                where=data.source,
                why=f"their digest is {data.digest[:16]}…, and was {run.record.digest[:16]}…",
                fix="put the files back, or add --changed to go on with these",
            )
        return
    splits = {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)}
    run.journal.dataset(data.name, data.source, data.digest, splits, run.spec.model.input, data.classes)
    run.console.note(", ".join(f"{count:,} {name}" for name, count in splits.items()) + " samples")


def _log_plan(run: Life, ways: Mapping[str, str], *plans: Plan) -> None:
    first = plans[0]
    about = {
        "backend": first.backend,
        "precision": first.precision,
        "batch": first.batch,
        "ranks": run.ranks.size,
        "memory": memory(*plans),
        "arena": {"bytes": first.sizes["arena"], "unshared": first.unshared, "lower_bound": first.bound},
        "segments": [
            {"phase": segment.phase, "kind": segment.kind, "kernels": [named(n) for n in segment.nodes]}
            for segment in first.segments
        ],
        "ways": ways,
    }
    write_json(run.folder / "plan.json", about)
    run.journal.artifact("plan.json")
    run.journal.tags({"backend": first.backend})


def seconds_since_start() -> float | None:
    """Seconds since this process began, imports included; None where ``/proc`` does not say."""
    stat, boot = Path("/proc/self/stat"), Path("/proc/stat")
    if not stat.exists():
        return None
    ticks = float(stat.read_text().rsplit(")", 1)[1].split()[19])
    booted = next(float(line.split()[1]) for line in boot.read_text().splitlines() if line.startswith("btime"))
    return round(time() - booted - ticks / os.sysconf("SC_CLK_TCK"), 3)
