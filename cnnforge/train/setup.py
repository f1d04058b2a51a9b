"""From a config and its data to what can train: batches, plans, kernels, first weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain

from cnnforge.backends import create
from cnnforge.backends.base import Backend, Report
from cnnforge.data import Batches, Dataset
from cnnforge.data.labels import class_counts
from cnnforge.errors import BackendError, DataError
from cnnforge.executable import Executable, Weights
from cnnforge.losses import Loss
from cnnforge.lower import eval_graph, step_graph
from cnnforge.plan import make_plan, require_precision
from cnnforge.plan.forecast import memory
from cnnforge.spec import AugmentSpec, RunSpec
from cnnforge.train.averages import Averages
from cnnforge.train.loop import TURNS
from cnnforge.train.ranks import ALONE, Ranks, shard
from cnnforge.train.shortcuts import shortened
from cnnforge.train.stocks import stocked
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
    trainer = spec.trainer
    if trainer.device is not None and ranks.size > 1:
        raise BackendError(
            f"{ranks.size} processes train, and trainer.device={trainer.device} is one GPU",
            where="trainer.device",
            why="each process of a host takes the GPU of its own number there",
            fix="leave it out; CUDA_VISIBLE_DEVICES says which GPUs there are, and in which order",
        )
    backend = create(trainer.backend, ranks.threads(trainer.threads), ranks, trainer.device)
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
    tallies = backend.capabilities.tallies
    graphs = (
        step_graph(spec, largest, loss, ranks.size, tallies),
        eval_graph(spec.model, largest, trainer.precision, loss, ranks.size, tally=tallies and ranks.size == 1),
    )
    plan, eval_plan = (make_plan(graph, backend.capabilities, choose=choice) for graph in graphs)
    if trainer.autotune and choice.guessed:
        untouched = (Executable(p, backend, Weights(p, backend)).bound(largest).steps() for p in (plan, eval_plan))
        backend.prepare(chain(choice.trials(backend), *untouched), compiling)
        choice.device = backend
        plan, eval_plan = (make_plan(graph, backend.capabilities, choose=choice) for graph in graphs)
    choice.keep()
    wanted = memory(plan, eval_plan)["total"] + len(TURNS) * sum(v.nbytes for v in plan.inputs.values())
    splits, canvases = (data.train, data.validation, data.test), (len(TURNS), 1, 1)
    stocks, sent = stocked(backend, splits, largest, canvases, wanted, plan.inputs["x"].dtype)
    notes += [sent] * bool(sent)

    def batches(part: int, shuffle: bool = False, augment: AugmentSpec | None = None) -> Batches | None:
        if not len(splits[part]):
            return None
        return Batches(
            splits[part], data.preprocessing, batch, seed=spec.seed, shuffle=shuffle, augment=augment, backend=backend,
            share=lambda n: ranks.shard(n, unit), stock=stocks[part],
        )  # fmt: skip

    as_they_are = bool(trainer.overfit_batches)
    training = not as_they_are, None if as_they_are else spec.augment
    samples, validation, test = batches(0, *training), batches(1), batches(2)
    assert samples is not None, "a data set without training samples is an error when it is loaded"
    measured = batches(0, *training) if trainer.averaging and trainer.swa and plan.state else None
    wanted += sum(stock.nbytes for stock in stocks if stock)
    made = zip((samples, validation, test, measured), (*canvases, 1), strict=True)
    wanted += sum(each.nbytes(n) for each, n in made if each)
    require_memory(backend, wanted, largest)
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

    averages = None
    if trainer.averaging is not None:
        averages = Averages(train, measured, ranks)
        averages.begin()
    evaluation = Executable(eval_plan, backend, averages.weights if averages else weights, arena)
    backend.prepare(chain(train.bound(largest).steps(), evaluation.bound(largest).steps()), compiling)
    missing = sum(backend.instead(step) for run in (train, evaluation) for step in run.bound(largest).steps())
    if missing:
        calls = f"{missing} kernel call{'s' * (missing != 1)}"
        note(f"{calls} by cnnforge's own kernels: this device does not have the ways that were planned")
    return Setup(train, evaluation, loss, samples, validation, test, choice.chosen, averages)
