"""``sweep.sampler:`` and ``sweep.pruner:`` which points a sweep tries, and which it gives up. Fields are Optuna's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, Strict

from cnnforge.fields import Fraction, NonNegativeInt, PositiveFloat, PositiveInt, Short, Spec, one_of

Factor = Annotated[int, Strict(), Field(ge=2)]


class Sampler(Spec):
    """Chooses a sweep's points.

    seed: decides the draws
    """

    type: str
    seed: NonNegativeInt = 0


class Grid(Sampler):
    """``grid``: every point once, in the order in which the space is written; the last axis changes fastest."""

    type: Literal["grid"]


class Random(Sampler):
    """``random``: each point by itself (Bergstra, Bengio, JMLR 2012)."""

    type: Literal["random"]


class Tpe(Sampler):
    """``tpe``: where good points were dense, by two densities (Bergstra and others, NeurIPS 2011).

    n_startup_trials: so many are random first
    """

    type: Literal["tpe"]
    n_startup_trials: NonNegativeInt = 10


class CmaEs(Sampler):
    """``cma_es``: a normal distribution that moves and changes its shape (Hansen, Ostermeier, 2001); for numbers only.

    n_startup_trials: so many are random first
    sigma0: its deviation to begin with; of each range a sixth where not given
    """

    type: Literal["cma_es"]
    n_startup_trials: NonNegativeInt = 1
    sigma0: PositiveFloat | None = None


class Nsga2(Sampler):
    """``nsga2``: generations, of which those live on that are best in some balance of the objectives (Deb, 2002).

    population_size: points in a generation
    crossover_prob: how often a new point has two parents
    mutation_prob: how often a value of its is drawn anew; one value in each point where not given
    """

    type: Literal["nsga2"]
    population_size: Factor = 50
    crossover_prob: Fraction = 0.9
    mutation_prob: Fraction | None = None


class Pruner(Spec):
    """Ends trials that are worse than others were at the same epoch."""

    type: str


class NoPruner(Pruner):
    """``none``: every trial runs to its end."""

    type: Literal["none"]


class Median(Pruner):
    """``median``: ends a trial whose best is worse than the median of the others at this epoch.

    n_startup_trials: so many run to their end first
    n_warmup_steps: epochs before which none is ended
    interval_steps: epochs between two looks
    """

    type: Literal["median"]
    n_startup_trials: NonNegativeInt = 5
    n_warmup_steps: NonNegativeInt = 0
    interval_steps: PositiveInt = 1


class SuccessiveHalving(Pruner):
    """``successive_halving``: at each rung the best share goes on (Li and others, MLSys 2020).

    min_resource: epochs before the first rung
    reduction_factor: one in so many goes on, and the next rung is so many times as far
    min_early_stopping_rate: rungs left out at the beginning
    """

    type: Literal["successive_halving"]
    min_resource: PositiveInt = 1
    reduction_factor: Factor = 4
    min_early_stopping_rate: NonNegativeInt = 0


class Hyperband(Pruner):
    """``hyperband``: several halvings, some patient, some not (Li and others, JMLR 2018).

    min_resource: epochs before the first rung of the least patient
    max_resource: epochs of a trial that is never ended; the trainer's where not given
    reduction_factor: one in so many goes on
    """

    type: Literal["hyperband"]
    min_resource: PositiveInt = 1
    max_resource: PositiveInt | None = None
    reduction_factor: Factor = 3


if TYPE_CHECKING:
    AnySampler = Sampler
    AnyPruner = Pruner
else:
    AnySampler = one_of((Grid, Random, Tpe, CmaEs, Nsga2), Short())
    AnyPruner = one_of((NoPruner, Median, SuccessiveHalving, Hyperband), Short())
