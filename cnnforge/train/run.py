"""One whole run in its folder: data, plan, training, test, and a record of it all.

The folder exists, with its resolved ``config.yaml``, before data or tracker are touched; the journal gets every number
as it appears; ``result.json`` says how it ended, whatever happened.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from time import perf_counter, time
from typing import Any, Protocol

from cnnforge.backends import create
from cnnforge.backends.base import Backend
from cnnforge.config import to_yaml
from cnnforge.data import Batches, Dataset, load
from cnnforge.errors import CnnforgeError, DivergedError, InterruptedRun
from cnnforge.executable import Executable, Weights
from cnnforge.lower import eval_graph, train_graph
from cnnforge.plan import Plan, make_plan, named, require_precision
from cnnforge.plan.forecast import memory
from cnnforge.spec import RunSpec
from cnnforge.tracking import Journal, Outcome, Sender, start
from cnnforge.train.checkpoint import Checkpoints, save_model
from cnnforge.train.folder import new_folder, point_latest, write_json, write_text
from cnnforge.train.loop import Metrics, Progress, Recipe, evaluate, fit
from cnnforge.train.signals import StopRequest
from cnnforge.tuning import Choice

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


@dataclass
class _Run:
    """What the parts of a run share."""

    spec: RunSpec
    folder: Path
    journal: Journal
    console: Console
    stop: StopRequest
    checkpoints: Checkpoints
    backend: Backend
    result: Result = field(default_factory=dict)
    train: Executable | None = None
    preprocessing: Mapping[str, Any] | None = None

    def save(self, progress: Progress, best: bool) -> None:
        """Write a checkpoint of the present state."""
        assert self.train is not None
        model, precision = self.spec.model, self.spec.trainer.precision
        self.checkpoints.save(progress, self.train, model, precision, self.preprocessing, best)

    def compiling(self, done: int, total: int) -> None:
        """A ``backends.base.Report``."""
        if self.stop.reason is not None:
            raise self.stop.reason
        self.console.compiling(done, total)

    # A train.loop.Watcher:

    def step(self, progress: Progress, metrics: Metrics) -> None:
        if "first_step_seconds" not in self.result:
            self.result["first_step_seconds"] = seconds_since_start()
        if metrics:
            self.journal.metrics(metrics, progress.step)
        self.console.step(progress, metrics)

    def epoch(self, progress: Progress, metrics: Metrics, improved: bool) -> None:
        self.result |= dict(metrics) | {"epochs": progress.epoch, "steps": progress.step}
        if improved:
            self.result |= {f"best_{name}": value for name, value in metrics.items() if name.startswith("val_")}
            self.result["best_step"] = progress.step
        self.journal.metrics(metrics, progress.epoch)
        self.save(progress, best=improved)
        self.console.epoch(progress, metrics, improved)

    def stopping(self) -> InterruptedRun | None:
        return self.stop.reason

    def interrupted(self, progress: Progress) -> None:
        self.result |= {"steps": progress.step, "epochs": progress.epoch}
        self.save(progress, best=False)


def run(spec: RunSpec, console: Console) -> tuple[Path, Result]:
    """Train as ``spec`` says. Returns (run folder, what ``result.json`` holds).

    Raises the CnnforgeError that ended it, after everything has been written down.
    """
    began = perf_counter()
    backend = create(spec.trainer.backend, spec.trainer.threads)
    require_precision(backend.capabilities, spec.trainer.precision)
    folder = new_folder(Path(spec.run.dir), spec.run.name or f"{spec.model.name}-{spec.data.type}")
    write_text(folder / "config.yaml", to_yaml(spec.model_dump(mode="json", exclude_none=True)))
    point_latest(folder)
    with Journal(folder) as journal, StopRequest() as stop:
        tracking = spec.tracking
        sender = (
            start(folder, uri=tracking.uri, experiment=tracking.experiment or "", run_name=folder.name)
            if tracking.enabled
            else None
        )
        checkpoints = Checkpoints(folder / "checkpoints", spec.trainer.keep)
        state = _Run(spec, folder, journal, console, stop, checkpoints, backend)
        status, failure = "failed", None
        try:
            _describe(state)
            _work(state)
            status = "finished"
        except (CnnforgeError, KeyboardInterrupt) as error:
            failure = error if isinstance(error, CnnforgeError) else InterruptedRun("interrupted", why="Ctrl-C, twice")
            status = _status_of(failure)
        finally:
            console.end()
            state.result = Result(status=status) | state.result
            state.result["wall_seconds"] = round(perf_counter() - began, 3)
            state.result["peak_memory_bytes"] = peak_memory()
            outcome = _close(state, sender)
    if outcome is not None and outcome.pending:
        console.note(f"tracking: {outcome.reason}")
    if failure is not None:
        failure.where = failure.where or str(folder)
        if isinstance(failure, InterruptedRun) and state.checkpoints.has("last"):
            failure.fix = f"its last state is kept in {folder / 'checkpoints' / 'last'}"
        raise failure
    return folder, state.result


def _describe(run: _Run) -> None:
    """What is known before the work starts: parameters, versions, the commit of the working directory."""
    run.journal.params(run.spec.model_dump(mode="json", exclude_none=True))
    tags = {
        "cnnforge.version": version("cnnforge"),
        "numpy.version": version("numpy"),
        "python.version": platform.python_version(),
        "platform": platform.platform(),
        "backend": run.spec.trainer.backend,
        "precision": run.spec.trainer.precision,
        "model": run.spec.model.name,
        "params": str(sum(row.param_count for row in run.spec.model.table)),
    }
    if commit := git_commit():
        tags["git.commit"] = commit
    run.journal.tags(tags)
    run.journal.artifact("config.yaml")


def _work(run: _Run) -> None:
    spec, trainer = run.spec, run.spec.trainer
    data = load(spec.data, spec.model.input, spec.seed)
    for note in data.notes:
        run.console.note(note)
    _log_data(run, data)
    run.preprocessing = data.preprocessing.to_dict()

    backend = run.backend
    batch = min(trainer.batch_size, len(data.train))
    choice = Choice(trainer.backend, trainer.threads, exact=trainer.exact_conv)
    graphs = (
        train_graph(spec.model, batch, trainer.precision, spec.seed, spec.optimizer),
        eval_graph(spec.model, batch, trainer.precision),
    )
    plan, eval_plan = (make_plan(graph, backend.capabilities, choose=choice) for graph in graphs)
    if trainer.autotune and choice.guessed:
        untouched = (Executable(p, backend, Weights(p, backend)).bound(batch).steps() for p in (plan, eval_plan))
        backend.prepare(chain(choice.trials(backend), *untouched), run.compiling)
        choice.device = backend
        plan, eval_plan = (make_plan(graph, backend.capabilities, choose=choice) for graph in graphs)
    choice.keep()
    for note in choice.notes:
        run.console.note(note)
    if choice.measured:
        done = f"measured the ways of {choice.measured} kernel calls in {choice.seconds:.1f} s"
        run.console.note(f"{done}, once for this machine")
    _log_plan(run, choice, plan, eval_plan)
    loss = spec.model.effective_loss
    labels = plan.inputs["labels"]
    data.check_labels(labels.shape[1:], labels.dtype)

    weights = Weights(plan, backend)
    weights.initialise(plan, spec.seed)
    arena = backend.buffer(max(plan.sizes["arena"], eval_plan.sizes["arena"]))
    run.train = Executable(plan, backend, weights, arena)
    evaluation = Executable(eval_plan, backend, weights, arena)
    backend.prepare(chain(run.train.bound(batch).steps(), evaluation.bound(batch).steps()), run.compiling)

    def batches(split: Any, shuffle: bool) -> Batches:
        augment = spec.augment if split is data.train else None
        return Batches(
            split, data.preprocessing, batch, seed=spec.seed, shuffle=shuffle, augment=augment, backend=backend
        )

    recipe = Recipe(
        spec.optimizer, spec.schedule, loss, trainer.epochs, log_every=trainer.log_every, max_steps=trainer.max_steps
    )
    samples = batches(data.train, shuffle=True)
    validation = batches(data.validation, shuffle=False) if len(data.validation) else None
    run.console.begin(trainer.epochs, samples.steps_per_epoch, recipe.steps(samples.steps_per_epoch))
    fit(run.train, evaluation, samples, validation, recipe, run, Progress(), ahead=True)

    chosen = "best" if run.checkpoints.has("best") else "last"
    run.checkpoints.load_weights(chosen, weights)
    if len(data.test):
        tested = evaluate(evaluation, batches(data.test, shuffle=False), loss, "test")
        run.result |= tested
        run.journal.metrics(tested, run.result["epochs"])
    save_model(run.folder / "model", spec.model, trainer.precision, weights, run.preprocessing)
    if spec.tracking.log_model:
        run.journal.model("model", input_shape=spec.model.input, output_shape=spec.model.output)


def _log_data(run: _Run, data: Dataset) -> None:
    splits = {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)}
    run.journal.dataset(data.name, data.source, data.digest, splits, run.spec.model.input, data.classes)
    run.console.note(", ".join(f"{count:,} {name}" for name, count in splits.items()) + " samples")


def _log_plan(run: _Run, choice: Choice, *plans: Plan) -> None:
    first = plans[0]
    about = {
        "backend": first.backend,
        "precision": first.dtype,
        "batch": first.batch,
        "memory": memory(*plans),
        "arena": {"bytes": first.sizes["arena"], "unshared": first.unshared, "lower_bound": first.bound},
        "segments": [
            {"phase": segment.phase, "kind": segment.kind, "kernels": [named(n) for n in segment.nodes]}
            for segment in first.segments
        ],
    }
    about["ways"] = choice.chosen
    write_json(run.folder / "plan.json", about)
    run.journal.artifact("plan.json")
    run.journal.tags({"backend": first.backend})


def _status_of(failure: CnnforgeError) -> str:
    if isinstance(failure, InterruptedRun):
        return "interrupted"
    return "diverged" if isinstance(failure, DivergedError) else "failed"


def _close(run: _Run, sender: Sender | None) -> Outcome | None:
    """Write the result, end the journal, and give the tracker its bounded time."""
    path = run.folder / "result.json"
    write_json(path, run.result)
    run.journal.artifact("result.json")
    run.journal.end(run.result["status"])
    if sender is None:
        return None
    outcome = sender.finish()
    run.result["mlflow_run_id"] = outcome.run_id
    write_json(path, run.result)
    return outcome


def git_commit() -> str | None:
    """The commit checked out in the working directory, with ``-dirty`` where files differ from it; None without git."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None


def peak_memory() -> int | None:
    """The most resident memory this process has had, in bytes; None on Windows, which does not say."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def seconds_since_start() -> float | None:
    """Seconds since this process began, imports included; None where ``/proc`` does not say."""
    stat, boot = Path("/proc/self/stat"), Path("/proc/stat")
    if not stat.exists():
        return None
    ticks = float(stat.read_text().rsplit(")", 1)[1].split()[19])
    booted = next(float(line.split()[1]) for line in boot.read_text().splitlines() if line.startswith("btime"))
    return round(time() - booted - ticks / os.sysconf("SC_CLK_TCK"), 3)
