"""``sweep:`` many runs of one config: which keys vary, how points are chosen, what is looked for, when it ends."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, Strict, model_validator

from cnnforge.errors import suggest
from cnnforge.fields import (
    Duration,
    Name,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Spec,
    as_yaml,
    mistake,
)
from cnnforge.spec.axis import Axis
from cnnforge.spec.limits import Constraints, seconds
from cnnforge.spec.samplers import AnyPruner, AnySampler, CmaEs, Grid, NoPruner, Random, Sampler

_KEY = re.compile(r"\+{0,2}[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_-]+)*")
_FOLDS = frozenset({"data.folds", "data.fold"})

Metric = Literal[
    "val_loss", "val_accuracy", "best_val_loss", "best_val_accuracy", "test_loss", "test_accuracy",
    "train_loss", "train_accuracy", "samples_per_second", "params", "macs", "memory",
]  # fmt: skip
#: Metrics that are known before any training.
PLANNED = frozenset({"params", "macs", "memory"})


class Objective(Spec):
    """A number that is to be as large or as small as it can be.

    metric: one of what ``result.json`` has, or of what is known before: ``params``, ``macs``, ``memory``;
            ``val_`` is of the last epoch, ``best_val_`` of the best
    direction: for accuracies and ``samples_per_second`` ``maximize`` where not given, else ``minimize``
    """

    metric: Metric
    direction: Literal["minimize", "maximize"] | None = None

    @property
    def maximizes(self) -> bool:
        """Is more better?"""
        more = self.metric.endswith("_accuracy") or self.metric == "samples_per_second"
        return self.direction == "maximize" if self.direction else more

    @property
    def towards(self) -> Literal["minimize", "maximize"]:
        """``direction`` where it is given, else the metric's own."""
        return "maximize" if self.maximizes else "minimize"

    def to_json(self) -> dict[str, str]:
        """As files and ``--json`` say it."""
        return {"metric": self.metric, "direction": self.towards}


class Budget(Spec):
    """``budget:`` when no more trials are begun: whichever comes first.

    trials: points that are tried
    time: seconds, or text such as ``2 h`` or ``1 h 30 min``
    """

    trials: PositiveInt | None = None
    time: PositiveFloat | Duration | None = None

    @property
    def seconds(self) -> float | None:
        """``time`` as a number."""
        return seconds(self.time) if isinstance(self.time, str) else self.time


class Replicate(Spec):
    """``replicate:`` runs of each point, of which the mean counts.

    seeds: a run with each of these seeds
    folds: a run for each part of the training samples, which is its validation (cross-validation)
    """

    seeds: tuple[NonNegativeInt, ...] = ()
    folds: Annotated[int, Strict(), Field(ge=2)] | None = None


def _one_or_several(value: Any) -> Any:
    return [value] if isinstance(value, Mapping) else value


class Ray(Spec):
    """``ray:`` of ``executor: ray``: which cluster, and what a trial takes of it.

    address: ``auto``: the cluster that ``RAY_ADDRESS`` names or that this host is part of; ``HOST:PORT``; ``local``:
             one on this host, for as long as the sweep runs
    cpus_per_trial: cores, which are also a trial's threads where ``trainer.threads`` does not say
    gpus_per_trial: of those that Ray has found; below 1 several trials share one
    """

    address: str = "auto"
    cpus_per_trial: PositiveInt = 1
    gpus_per_trial: NonNegativeFloat = 0.0


class SweepSpec(Spec):
    """``sweep:`` many runs of one config.

    name: of the sweep, and of its folder where ``run.name`` does not say
    space: by key of the config, or by group of configs, the values it takes
    sampler: how points are chosen; where not given ``grid`` if every value can be listed, else ``random``
    pruner: which trials are ended early
    objective: what the best is best in; a list for several at once
    budget: when no more trials are begun; a grid ends by itself
    constraints: what a point must keep to, by what is known of it before training
    parallel: trials at a time, of each driver
    executor: where trials run: ``local``, as processes of this host, or on the workers of a ``ray`` cluster
    ray: of ``executor: ray``
    infeasible: points that cannot be trained: ``drop`` names them and goes on, ``error`` ends before the first trial
    max_failures: end the sweep once more trials than this have failed
    retry: so many further tries for a trial that failed
    storage: where the trials are written down: ``postgresql+psycopg://USER@HOST/DATABASE`` or another database,
             ``grpc://HOST:PORT`` (Optuna's proxy), or a file on a disk that several machines share; every driver that
             names the same storage and ``run.name`` works on the same sweep. Else a file in the sweep's folder
    replicate: several runs of each point, of which the mean counts
    register_as: at the end the best trial's model becomes a version of this one in MLflow's model registry
    """

    name: Name = "sweep"
    space: dict[str, Axis] = Field(default_factory=dict)
    sampler: AnySampler | None = None
    pruner: AnyPruner = NoPruner(type="none")
    objective: Annotated[tuple[Objective, ...], BeforeValidator(_one_or_several), Field(min_length=1)] = (
        Objective(metric="val_loss"),
    )
    budget: Budget = Budget()
    constraints: Constraints = Constraints()
    parallel: PositiveInt = 1
    executor: Literal["local", "ray"] = "local"
    ray: Ray = Ray()
    infeasible: Literal["drop", "error"] = "drop"
    max_failures: NonNegativeInt | None = None
    retry: NonNegativeInt = 0
    storage: str | None = None
    replicate: Replicate = Replicate()
    register_as: Name | None = None

    @property
    def chooses(self) -> Sampler:
        """The sampler, where none is given the one that suits the space."""
        if self.sampler is not None:
            return self.sampler
        return Random(type="random") if self._endless() else Grid(type="grid")

    @property
    def order(self) -> tuple[str, ...]:
        """The keys of the space, each behind those that its ``when`` names; a cycle's are missing."""
        found: list[str] = []
        left = list(self.space)
        while ready := next((key for key in left if set(self.space[key].when) <= set(found)), None):
            found.append(ready)
            left.remove(ready)
        return tuple(found)

    def _endless(self) -> list[str]:
        return [key for key, axis in self.space.items() if axis.count is None]

    @model_validator(mode="after")
    def _space_can_be_read(self) -> SweepSpec:
        for key, axis in self.space.items():
            if not _KEY.fullmatch(key):
                why = "a key of the space is written as on the command line: optimizer.lr, model.layers.conv1.filters"
                raise mistake(f"{as_yaml(key)} is not a key", why, "a key or group of the config", "space", key)
            for other, wanted in axis.when.items():
                self._condition(key, other, wanted)
        if cycle := [key for key in self.space if key not in self.order]:
            why = "each waits for another of them"
            raise mistake(f"the conditions of {' and '.join(cycle)} lead in a circle", why, "drop one 'when'",
                          "space", cycle[0], "when")  # fmt: skip
        return self

    def _condition(self, key: str, other: str, wanted: tuple[Any, ...]) -> None:
        at = ("space", key, "when", other)
        if other == key or other not in self.space:
            known = [name for name in self.space if name != key]
            why = f"a condition is on another axis of the space: {', '.join(known) or 'there is none'}"
            raise mistake(f"{key}: {other} is not an axis", why, suggest(other, known) or "one of them", *at)
        choices = self.space[other].choices
        if choices is None:
            why = "a condition names values, and this axis is a range"
            raise mistake(f"{key}: {other} has no choices", why, f"a list of values for {other}", *at)
        if strange := [value for value in wanted if value not in choices]:
            text = ", ".join(as_yaml(choice) for choice in choices)
            raise mistake(f"{key}: {other} is never {as_yaml(strange[0])}", f"its choices are {text}",
                          suggest(str(strange[0]), map(str, choices)) or "one of them", *at)  # fmt: skip

    @model_validator(mode="after")
    def _parts_go_together(self) -> SweepSpec:
        sampler, endless = self.chooses, self._endless()
        if isinstance(sampler, Grid) and endless:
            raise mistake(f"a grid cannot list {endless[0]}", "there is no end of numbers between two",
                          "a list, a step, or sampler: random", "space", endless[0])  # fmt: skip
        if self.space and not isinstance(sampler, Grid) and self.budget.trials is None and self.budget.time is None:
            raise mistake(f"'budget' is missing: {sampler.type} does not end by itself",
                          "it goes on drawing points", "budget: {trials: 24}, or a time", "budget")  # fmt: skip
        if isinstance(sampler, CmaEs):
            listed = [key for key, axis in self.space.items() if axis.choices is not None or axis.when]
            if listed:
                raise mistake(f"cma_es cannot vary {listed[0]}", "it knows ranges of numbers without conditions only",
                              "{low: …, high: …}, or sampler: tpe", "space", listed[0])  # fmt: skip
            if len(self.objective) > 1:
                raise mistake("cma_es has one objective", f"there are {len(self.objective)}", "sampler: nsga2",
                              "sampler")  # fmt: skip
        if len(self.objective) > 1 and not isinstance(self.pruner, NoPruner):
            raise mistake(f"pruner {self.pruner.type} beside several objectives",
                          "which of two trials is worse is then not known", "pruner: none", "pruner")  # fmt: skip
        metrics = [objective.metric for objective in self.objective]
        if twice := [metric for i, metric in enumerate(metrics) if metric in metrics[:i]]:
            raise mistake(f"{twice[0]} is an objective twice", "each is looked at once", "remove one", "objective")
        seeds = self.replicate.seeds
        if twice_run := [seed for i, seed in enumerate(seeds) if seed in seeds[:i]]:
            raise mistake(f"seed {twice_run[0]} is replicated twice", "its runs would be the same", "another seed",
                          "replicate", "seeds")  # fmt: skip
        varied = {key.lstrip("+") for key in self.space}
        if self.replicate.seeds and "seed" in varied:
            raise mistake("seeds are replicated and vary too", "'seed' is an axis of the space",
                          "drop one of the two", "replicate", "seeds")  # fmt: skip
        if self.replicate.folds and varied & _FOLDS:
            raise mistake("folds are replicated and vary too", f"'{min(varied & _FOLDS)}' is an axis of the space",
                          "drop one of the two", "replicate", "folds")  # fmt: skip
        return self
