"""What every process of a job but the first does: the same training on other samples, without a word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cnnforge.data import load
from cnnforge.errors import InterruptedRun
from cnnforge.spec import RunSpec
from cnnforge.train.loop import evaluate, fit
from cnnforge.train.ranks import Ranks
from cnnforge.train.recipe import Metrics, Progress, Silent
from cnnforge.train.setup import Setup, backend_of, same_data, set_up
from cnnforge.train.signals import StopRequest
from cnnforge.train.work import checkpoint_due, recipe_of


@dataclass(frozen=True)
class Orders:
    """What the first process tells the others: the whole config, and by what kernel calls were computed before."""

    spec: RunSpec
    ways: Mapping[str, str]


class Follower(Silent):
    """Watches for signals, and does its part of what rank 0's checkpoints need."""

    def __init__(self, stop: StopRequest, spec: RunSpec, made: Setup) -> None:
        self._stop, self._spec, self._averages = stop, spec, made.averages
        self._steps_per_epoch = made.samples.steps_per_epoch

    def saves(self, progress: Progress) -> bool:
        return checkpoint_due(self._spec, progress, self._steps_per_epoch)

    def step(self, progress: Progress, metrics: Metrics) -> None:
        if self.saves(progress):
            self.interrupted(progress)

    def stopping(self) -> InterruptedRun | None:
        return self._stop.reason

    def interrupted(self, progress: Progress) -> None:
        if self._averages is not None:
            self._averages.refresh()


def follow(ranks: Ranks) -> None:
    """Take part in a run from its orders to its end; ``work`` makes the same calls to ``ranks`` in the same order."""
    nothing: Orders | None = None
    orders = ranks.first(nothing)
    assert orders is not None
    spec, ways = orders.spec, orders.ways
    backend = backend_of(spec, ranks)
    with StopRequest() as stop:
        backend.join()
        data = ranks.in_order(lambda: load(spec.data, spec.model.input, spec.seed, _nothing))
        same_data(data, ranks)
        made = ranks.in_order(lambda: set_up(spec, data, backend, _nothing, _nothing, ways, ranks))
        progress = ranks.first(ranks.in_order(Progress))
        backend.align(made.train.kept)
        fit(
            made.train,
            made.evaluation,
            made.samples,
            made.validation,
            recipe_of(spec, made),
            Follower(stop, spec, made),
            progress,
            ahead=True,
            averages=made.averages,
            ranks=ranks,
        )
        weights = made.evaluation.weights
        backend.align(weights.params | weights.state)
        if made.test is not None:
            evaluate(made.evaluation, made.test, made.loss, "test", ranks)


def _nothing(*what: object) -> None:
    """Rank 0 says it."""
