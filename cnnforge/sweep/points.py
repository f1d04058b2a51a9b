"""From a point's values to a run that is checked, through the same code as ``cnnforge check``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cnnforge.config import run_text
from cnnforge.config.sweeping import ComposedSweep
from cnnforge.errors import CnnforgeError, ConfigError, ConfigErrors
from cnnforge.report.calibration import TimeForecast, forecast_time
from cnnforge.report.check import plan_of, report
from cnnforge.spec import RunSpec
from cnnforge.spec.sweep import Replicate
from cnnforge.sweep.space import Values


@dataclass(frozen=True, slots=True)
class Cost:
    """What is known of a run before it begins.

    params: number of weights;  macs: of one sample's way forward;  memory: bytes that training takes
    seconds: of training, as forecast; None where this machine has not been measured or the data must be read first
    """

    params: int
    macs: int
    memory: int
    seconds: float | None = None


@dataclass(frozen=True)
class Point:
    """A point of a sweep.

    number: from 1
    values: by key of the space; keys whose condition does not hold are missing
    overrides: what makes it on the command line, beside the sweep's own
    spec, cost: of its run; None where that cannot be trained
    reasons: why it cannot be trained, or is not wanted
    """

    number: int
    values: Values
    overrides: tuple[str, ...]
    spec: RunSpec | None = None
    cost: Cost | None = None
    reasons: tuple[CnnforgeError, ...] = ()

    @property
    def feasible(self) -> bool:
        """Can it be trained, within the constraints?"""
        return not self.reasons

    @property
    def config(self) -> str:
        """The text of its run's ``config.yaml``."""
        assert self.spec is not None, f"point {self.number} has no run"
        return run_text(self.spec)

    @cached_property
    def identity(self) -> str:
        """Equal for points whose runs are equal, however they were written."""
        assert self.spec is not None, f"point {self.number} has no run"
        return _identity(self.spec)


class Resolver:
    """Makes points of values.

    measure: measure this machine where the time of a run is not known yet; for a limit on it that is always done
    notes: what was wrong with the cache of measured times
    """

    def __init__(self, sweep: ComposedSweep, measure: bool = False) -> None:
        self.sweep = sweep
        self.notes: dict[str, None] = {}
        self._measure = measure or sweep.spec.constraints.time is not None
        self._known: dict[str, tuple[Cost, TimeForecast | None]] = {}

    def resolve(self, values: Values, number: int) -> Point:
        """The point of ``values``, with every reason why it cannot be trained."""
        overrides = self.sweep.overrides(values)
        try:
            spec = self.sweep.run(values)
            cost = self._cost(spec)
        except ConfigErrors as errors:
            return Point(number, values, overrides, reasons=errors.errors)
        except CnnforgeError as error:
            return Point(number, values, overrides, reasons=(error,))
        reasons = (*self._not_wanted(cost), *self._no_objective(spec))
        return Point(number, values, overrides, spec, cost, reasons)

    def _cost(self, spec: RunSpec) -> Cost:
        """Planned once for all runs that compute the same."""
        key = _plan_identity(spec)
        if key not in self._known:
            plan = plan_of(spec)
            about = report(spec, plan)
            forecast, notes = forecast_time(spec, plan, self._measure)
            self.notes |= dict.fromkeys(notes)
            self._known[key] = Cost(about.params, about.macs, about.memory["total"]), forecast
        cost, forecast = self._known[key]
        return Cost(cost.params, cost.macs, cost.memory, _run_seconds(spec, forecast))

    def _not_wanted(self, cost: Cost) -> Iterator[ConfigError]:
        values = {"params": cost.params, "macs": cost.macs, "memory": cost.memory, "time": cost.seconds}
        for name, limit in self.sweep.spec.constraints.broken(values):
            yield ConfigError(
                f"{name} is not {limit.text}",
                where=self.sweep.where("constraints", name),
                why="a constraint of the sweep",
                fix="a smaller space, or another limit" if limit.sign in ("<=", "<") else "another limit",
                path=("sweep", "constraints", name),
            )

    def _no_objective(self, spec: RunSpec) -> Iterator[ConfigError]:
        """Objectives that the run's results will not have."""
        data = spec.data
        unchecked = (data.stored() is not None and not data.validation and data.folds is None) or (
            spec.trainer.overfit_batches is not None
        )
        for objective in self.sweep.spec.objective:
            metric = objective.metric
            why, fix = "", ""
            if "val_" in metric and unchecked:
                why, fix = "no samples are kept for validation", "data.validation=0.1, or a metric of the test"
            elif metric.endswith("_accuracy") and not spec.model.effective_loss.scores_hits():
                why = f"{spec.model.effective_loss.type} counts no hits"
                fix = metric.replace("accuracy", "loss")
            if why:
                yield ConfigError(f"there will be no {metric}", where=self.sweep.where("objective"), why=why, fix=fix,
                                  path=("sweep", "objective"))  # fmt: skip


def replicas(spec: RunSpec, replicate: Replicate) -> dict[str, RunSpec]:
    """The runs of a point by a name that tells them apart: one for each seed and fold; ``""`` where there is one."""
    seeds = replicate.seeds or (spec.seed,)
    folds = range(1, spec.data.folds + 1) if spec.data.folds and spec.data.fold is None else (spec.data.fold,)
    found = {}
    for seed in seeds:
        for fold in folds:
            parts = [f"seed-{seed}"] if len(seeds) > 1 else []
            parts += [f"fold-{fold}"] if len(folds) > 1 else []
            data = spec.data.model_copy(update={"fold": fold})
            found["-".join(parts)] = spec.model_copy(update={"seed": seed, "data": data})
    return found


def _run_seconds(spec: RunSpec, forecast: TimeForecast | None) -> float | None:
    """Seconds of a run's training: its epochs, or the steps after which it ends."""
    if forecast is None or spec.data.training_samples() is None:
        return None
    samples = spec.trainer.epochs * (spec.data.training_samples() or 0)
    if spec.trainer.max_steps:
        samples = min(samples, spec.trainer.max_steps * spec.trainer.batch_size)
    return forecast.seconds(samples)


def _identity(spec: RunSpec) -> str:
    layers = {name: layer.model_dump(mode="json") for name, layer in spec.model.layers.items()}
    loss = spec.model.effective_loss.model_dump(mode="json")
    rest = spec.model_dump(mode="json", exclude={"model", "sweep"})
    return json.dumps([spec.model.name, spec.model.input, layers, loss, rest])


def _plan_identity(spec: RunSpec) -> str:
    """What decides about a plan's memory and time: not the learning rate, the seed, or the data."""
    whole: list[Any] = json.loads(_identity(spec))
    rest: Mapping[str, Any] = whole[-1]
    optimizer = {key: value for key, value in rest["optimizer"].items() if key != "lr"}
    return json.dumps([*whole[1:-1], optimizer, rest["trainer"]])
