"""From a config and its data to what can train: batches, plans, kernels, first weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain

from cnnforge.backends import create, resolve
from cnnforge.backends.base import Backend, Report
from cnnforge.data import Batches, Dataset, Split
from cnnforge.data.labels import class_counts
from cnnforge.errors import BackendError, DataError
from cnnforge.executable import Executable, Weights
from cnnforge.losses import Loss
from cnnforge.lower import eval_graph, step_graph
from cnnforge.plan import make_plan, require_precision
from cnnforge.plan.forecast import memory
from cnnforge.spec import AugmentSpec, RunSpec
from cnnforge.train.averages import Averages
from cnnforge.train.ranks import ALONE, Ranks, shard
from cnnforge.train.shortcuts import shortened
from cnnforge.tuning import Choice


@dataclass(frozen=True)
class Setup:
    """What a run trains with.

    train, evaluation: share memory, so they do not run interleaved, and weights where none are averaged
    samples, validation, test: batches of each split; None where there are no samples
    ways: by what each kernel call is computed
    averages: of the weights, which ``evaluation`` then has for its own
    """

    train: Executable
    evaluation: Executable
    loss: Loss
    samples: Batches
    validation: Batches | None
    test: Batches | None
    ways: Mapping[str, str]
    averages: Averages | None = None


def backend_of(spec: RunSpec, ranks: Ranks) -> Backend:
    """The backend that a run asks for. Raises BackendError where there is none, or not in its precision."""
    if resolve(spec.trainer.backend) == "cupy" and ranks.size > 1:
        raise BackendError(
            "several processes cannot train together on GPUs yet",
            where="trainer.backend",
            why=f"{ranks.size} processes were started, and their gradients are added up on the host only",
            fix="one process, or trainer.backend=auto",
        )
    backend = create(spec.trainer.backend, ranks.threads(spec.trainer.threads), ranks.collect)
    require_precision(backend.capabilities, spec.trainer.precision)
    return backend


def require_memory(backend: Backend, wanted: int, batch: int) -> None:
    """Raise BackendError where ``wanted`` bytes, what plans for ``batch`` samples take, are more than are free."""
    free = backend.free()
    if free is not None and wanted > free:
        raise BackendError(
            "the network does not fit the GPU's memory",
            where="trainer.batch_size",
            why=f"with {batch} samples it takes {wanted / 2**20:,.0f} MiB, {free / 2**20:,.0f} MiB are free",
            fix="a smaller trainer.batch_size, with trainer.accumulate for the same steps",
        )


def same_data(data: Dataset, ranks: Ranks) -> None:
    """Raise DataError where processes that train together have different data."""
    if others := ranks.differing(data.digest):
        raise ranks.together(
            DataError(
                f"{data.name}: process {others[0]} has other data than process 0",
                where=data.source,
                why="all processes train on shards of the same batches",
                fix="the same files on every host",
            )
        )


def set_up(
    spec: RunSpec,
    data: Dataset,
    backend: Backend,
    note: Callable[[str], None],
    compiling: Report,
    record: Mapping[str, str],
    ranks: Ranks = ALONE,
) -> Setup:
    """Plan, choose ways, compile, and draw the first weights.

    note: is told what is worth knowing;  record: ways that were chosen before
    ranks: the processes that do this together; plans are of this one's largest shard
    """
    trainer = spec.trainer
    data, notes = shortened(data, trainer, spec.seed)
    batch = min(trainer.batch_size, len(data.train))
    # Pairs of samples that are mixed stay together.
    unit = 2 if spec.augment.mixes and not trainer.overfit_batches else 1
    largest = len(shard(batch, 0, ranks.size, unit))
    loss = spec.model.effective_loss
    if classes := loss.classes_to_count(spec.model.output):
        loss = loss.measured(class_counts(data.train.y, classes))
        notes.append(f"{loss.type}: {loss.about()}")
    choice = Choice(trainer.backend, ranks.threads(trainer.threads), exact=trainer.exact_conv, record=record)
    graphs = (
        step_graph(spec, largest, loss, ranks.size),
        eval_graph(spec.model, largest, trainer.precision, loss, ranks.size),
    )
    plan, eval_plan = (make_plan(graph, backend.capabilities, choose=choice) for graph in graphs)
    if trainer.autotune and choice.guessed:
        untouched = (Executable(p, backend, Weights(p, backend)).bound(largest).steps() for p in (plan, eval_plan))
        backend.prepare(chain(choice.trials(backend), *untouched), compiling)
        choice.device = backend
        plan, eval_plan = (make_plan(graph, backend.capabilities, choose=choice) for graph in graphs)
    choice.keep()
    require_memory(backend, memory(plan, eval_plan)["total"], largest)
    notes += choice.notes
    if choice.measured:
        calls = f"{choice.measured} kernel call{'s' * (choice.measured != 1)}"
        notes.append(f"measured the ways of {calls} in {choice.seconds:.1f} s, once for this machine")
    for text in notes:
        note(text)
    labels = eval_plan.inputs["labels"]
    data.check_labels(labels.shape[1:], labels.dtype)

    weights = Weights(plan, backend)
    weights.initialise(plan, spec.seed)
    arena = backend.buffer(max(plan.sizes["arena"], eval_plan.sizes["arena"]))
    train = Executable(plan, backend, weights, arena)

    def batches(split: Split, shuffle: bool = False, augment: AugmentSpec | None = None) -> Batches | None:
        if not len(split):
            return None
        return Batches(
            split, data.preprocessing, batch, seed=spec.seed, shuffle=shuffle, augment=augment, backend=backend,
            share=lambda n: ranks.shard(n, unit),
        )  # fmt: skip

    as_they_are = bool(trainer.overfit_batches)
    augment = None if as_they_are else spec.augment
    samples = batches(data.train, not as_they_are, augment)
    assert samples is not None, "a data set without training samples is an error when it is loaded"
    averages = None
    if trainer.averaging is not None:
        measured = trainer.swa is not None and bool(plan.state)
        averages = Averages(train, batches(data.train, not as_they_are, augment) if measured else None, ranks)
        averages.begin()
    evaluation = Executable(eval_plan, backend, averages.weights if averages else weights, arena)
    backend.prepare(chain(train.bound(largest).steps(), evaluation.bound(largest).steps()), compiling)
    missing = sum(backend.instead(step) for run in (train, evaluation) for step in run.bound(largest).steps())
    if missing:
        calls = f"{missing} kernel call{'s' * (missing != 1)}"
        note(f"{calls} by cnnforge's own kernels: this device does not have the ways that were planned")
    return Setup(
        train, evaluation, loss, samples, batches(data.validation), batches(data.test),
        choice.chosen, averages,
    )  # fmt: skip
