"""The only door to Optuna: which points are tried, by whom, and which are given up.

Its storage is the truth about a sweep's trials: a journal file in the sweep's folder, or what ``sweep.storage`` names,
which several drivers on several machines may share. A trial is enqueued once, by the driver that makes the study, and
claimed once: the storage gives each to one driver alone. Where a driver is dead, one other takes over its trials.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from cnnforge import rng
from cnnforge.errors import ConfigError
from cnnforge.spec import SweepSpec
from cnnforge.spec.axis import Axis
from cnnforge.spec.samplers import CmaEs, Grid, Hyperband, Median, NoPruner, Nsga2, Random, SuccessiveHalving, Tpe
from cnnforge.spec.sweep import Objective
from cnnforge.sweep.space import Space, Values
from cnnforge.sweep.storage import close_storage, lost, open_optuna, open_storage, quiet, troubles
from cnnforge.sweep.table import text

#: The file of a sweep that has no other storage.
JOURNAL = "optuna.journal"
#: Seconds without a new trial after which the driver that is making the study is taken for dead.
MAKING = 60.0
#: Finished trials below which nothing is said of what is important, and which share of them is called the best.
FEWEST, BEST_SHARE = 6, 0.25
#: What we keep with each of Optuna's trials.
POINT, OWNER, VALUES, ABOUT = "point", "owner", "values", "about"
_READY, _MEANT, _SIGN = "cnnforge.ready", "cnnforge.sweep", "cnnforge.alive "
#: Follows the name of an owner that has let go of its trial.
_LET_GO = " let go"


@dataclass(frozen=True)
class Known:
    """A trial as the storage has it.

    id: Optuna's;  number: the point's;  values: by key of the space, empty until it is claimed
    owner: the driver that has it, or had: see ``free``;  about: what came of it, empty until it is over
    scores: the objective after each epoch, by epoch
    """

    id: int
    number: int
    values: Values
    owner: str
    about: Mapping[str, Any]
    scores: Mapping[int, float]
    claimed: bool
    over: bool

    @property
    def free(self) -> bool:
        """Has its owner let go of it?"""
        return self.owner.endswith(_LET_GO)


class Study:
    """The trials of one sweep.

    storage: a database's URL, ``grpc://HOST:PORT``, or the path of a journal file
    meant: tells this sweep from another of the same name
    """

    def __init__(self, storage: str, name: str, spec: SweepSpec, space: Space, meant: str, epochs: int) -> None:
        self._optuna = open_optuna()
        self._spec, self._space, self._epochs = spec, space, epochs
        self._where, self._troubles = storage, troubles(self._optuna)
        self._name = name
        opened = open_storage(self._optuna, storage)
        self._distributions = {key: _distribution(self._optuna, axis) for key, axis in space.axes.items()}
        directions = [goal.towards for goal in spec.objective]
        self._pruner = _pruner(self._optuna, spec, epochs)
        try:
            with quiet():
                self._study = self._optuna.create_study(
                    storage=opened, study_name=name, directions=directions, pruner=self._pruner
                )
            self._study.set_user_attr(_MEANT, meant)
            self.made = True
        except self._optuna.exceptions.DuplicatedStudyError:
            with quiet():
                self._study = self._optuna.load_study(study_name=name, storage=opened, pruner=self._pruner)
            self.made = False
            if (found := self._study.user_attrs.get(_MEANT, meant)) != meant:
                raise ConfigError(
                    f"the storage has another sweep that is called {name}",
                    where="sweep.storage",
                    why=f"its config is not this one ({found[:12]}…, {meant[:12]}…)",
                    fix="another run.name, or the config that it was begun with",
                ) from None
        self._storage = self._study._storage

    def enqueue(self, points: Sequence[tuple[int, Values]], blank: int) -> None:
        """Whoever made the study says what is to be tried: ``points``, and as many that the sampler chooses.

        What is there already, of a driver that was killed over it or had a smaller budget, is not enqueued twice.
        """
        there = self._study.get_trials(deepcopy=False)
        numbers = {trial.user_attrs.get(POINT) for trial in there}
        for number, values in points:
            if number not in numbers:
                params = {key: _encoded(self._space.axes[key], value) for key, value in values.items()}
                self._study.enqueue_trial(params, user_attrs={POINT: number})
        vain = ("dropped", "same")
        chosen = [t for t in there if t.user_attrs.get(POINT) == 0]
        for _ in range(blank - sum(t.user_attrs.get(ABOUT, {}).get("state") not in vain for t in chosen)):
            self.enqueue_blank()
        if not self.ready:
            self._study.set_user_attr(_READY, uuid4().hex)

    def enqueue_blank(self) -> None:
        """One more trial that the sampler chooses."""
        self._study.enqueue_trial({}, user_attrs={POINT: 0})

    def wait_until_ready(self, points: Sequence[tuple[int, Values]], blank: int) -> None:
        """Another driver may still be enqueuing. Where it does not get on, one of those that wait does it."""
        there, until = -1, 0.0
        while not self.ready:
            if (now := len(self._study.get_trials(deepcopy=False))) != there:
                there, until = now, time.monotonic() + MAKING
            elif time.monotonic() > until:
                if self._first(f"enqueues from {there}"):
                    self.enqueue(points, blank)
                until = time.monotonic() + MAKING
            time.sleep(0.2)

    @property
    def ready(self) -> str:
        """Empty until everything has been enqueued; then what no other study has."""
        return str(self._study.user_attrs.get(_READY, ""))

    def trials(self) -> list[Known]:
        """Every trial of ours, in the order in which they were enqueued."""
        return [self._known(trial) for trial in self._study.get_trials(deepcopy=False) if POINT in trial.user_attrs]

    def waiting(self) -> int:
        """Trials that nobody has claimed."""
        return len(self._study.get_trials(deepcopy=False, states=(self._optuna.trial.TrialState.WAITING,)))

    def claim(self, owner: str) -> Known | None:
        """Take the next trial that nobody has, its values chosen; None where none is left."""
        there = self._study.get_trials(deepcopy=False)  # of a database that is all that is open: read once
        waiting = [trial for trial in there if trial.state == self._optuna.trial.TrialState.WAITING]
        if (found := self._popped(waiting)) is None:
            return None
        self._storage.set_trial_user_attr(found, OWNER, owner)
        self._choose(found)
        return self._known(self._storage.get_trial(found))

    def _choose(self, found: int) -> None:
        """Let the sampler say what it has not said yet; its draws follow from the trial's number, which is its own."""
        with quiet():
            self._study.sampler = _sampler(self._optuna, self._spec, self._storage.get_trial(found).number)
            self._study._thread_local.cached_all_trials = None  # as ``ask`` does: the sampler sees what is new
            trial = self._optuna.trial.Trial(self._study, found)
            values: dict[str, Any] = {}
            for key, axis in self._space.axes.items():
                if self._space.active(key, values):
                    values[key] = _decoded(axis, self._suggested(trial, key))
            trial.set_user_attr(VALUES, values)

    def _popped(self, waiting: list[Any]) -> int | None:
        """Optuna's id of a trial, of those that wait, that is this driver's from now on.

        Optuna's ``ask`` makes another trial where others took the last one, and tries one after the other, of which
        each driver before has just taken one.
        """
        states = self._optuna.trial.TrialState
        while waiting:
            found: int = waiting.pop(0)._trial_id
            try:
                if self._storage.set_trial_state_values(found, states.RUNNING):
                    return found
            except self._optuna.exceptions.UpdateFinishedTrialError:
                pass
            random.shuffle(waiting)
        return None

    def take_over(self, trial: Known, owner: str) -> Known | None:
        """A trial that nobody works on is this driver's now; None where another was quicker."""
        if not self._first(f"takes over {trial.id} of {trial.owner}"):
            return None
        self._storage.set_trial_user_attr(trial.id, OWNER, owner)
        found = self._storage.get_trial(trial.id)
        if VALUES not in found.user_attrs:  # killed while they were chosen
            self._choose(trial.id)
        return self._known(self._storage.get_trial(trial.id))

    def let_go(self, trial: Known, owner: str) -> None:
        """This driver does not go on with a trial; whoever comes next may."""
        if self._storage.get_trial(trial.id).user_attrs.get(OWNER) == owner:
            self._storage.set_trial_user_attr(trial.id, OWNER, owner + _LET_GO)

    def _first(self, what: str) -> bool:
        """Is this driver the first that does this? In every storage a study's name can be given once only."""
        try:
            with quiet():
                self._optuna.create_study(storage=self._storage, study_name=f"{self._name} {what}")
        except self._optuna.exceptions.DuplicatedStudyError:
            return False
        return True

    def sign(self, owner: str, now: float) -> None:
        """A driver is alive."""
        self._study.set_user_attr(_SIGN + owner, now)

    @property
    def signs(self) -> Mapping[str, float]:
        """When each driver was last heard of, by its clock: seconds since 1970."""
        attrs = self._study.user_attrs.items()
        return {key.removeprefix(_SIGN): value for key, value in attrs if key.startswith(_SIGN)}

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Raises CnnforgeError where the storage goes away."""
        try:
            yield
        except self._troubles as error:
            raise lost(self._where, error) from None

    def close(self) -> None:
        """Let go of the storage's connections."""
        close_storage(self._storage)

    def report(self, trial: Known, epoch: int, score: float) -> bool:
        """Note the objective after an epoch; True where the trial is to be given up."""
        if isinstance(self._spec.pruner, NoPruner):
            return False
        if (now := self._storage.get_trial(trial.id)).state.is_finished():
            return False  # another driver took it for dead
        live = self._optuna.trial.Trial(self._study, trial.id)
        if epoch not in now.intermediate_values:  # resumed: it was there before
            live.report(score, epoch)
        with quiet():
            return bool(live.should_prune())

    def tell(self, trial: Known, about: Mapping[str, Any], scores: Sequence[float] | None) -> None:
        """A trial is over. scores: by objective; None where it has none. about: what all drivers shall know.

        Where another driver took it for dead and was done before, that one's word counts.
        """
        with suppress(self._optuna.exceptions.UpdateFinishedTrialError):
            self._tell(trial, about, scores)

    def _tell(self, trial: Known, about: Mapping[str, Any], scores: Sequence[float] | None) -> None:
        states = self._optuna.trial.TrialState
        self._storage.set_trial_user_attr(trial.id, ABOUT, dict(about))
        state = states.COMPLETE if scores is not None else states.FAIL
        if about["state"] in ("pruned", "dropped", "same") and len(self._spec.objective) == 1:
            state = states.PRUNED
        self._storage.set_trial_state_values(trial.id, state, scores if state == states.COMPLETE else None)

    def again(self, trial: Known) -> None:
        """Enqueue the point of a trial that failed once more."""
        params = self._storage.get_trial(trial.id).params
        self._study.enqueue_trial(params, user_attrs={POINT: trial.number})

    def _known(self, trial: Any) -> Known:
        attrs = trial.user_attrs
        return Known(
            trial._trial_id, attrs[POINT] or trial.number + 1, attrs.get(VALUES, {}), attrs.get(OWNER, ""),
            attrs.get(ABOUT, {}), dict(trial.intermediate_values),
            trial.state == self._optuna.trial.TrialState.RUNNING, trial.state.is_finished(),
        )  # fmt: skip

    def _suggested(self, trial: Any, key: str) -> Any:
        d, kinds = self._distributions[key], self._optuna.distributions
        if isinstance(d, kinds.CategoricalDistribution):
            return trial.suggest_categorical(key, d.choices)
        if isinstance(d, kinds.IntDistribution):
            return trial.suggest_int(key, d.low, d.high, step=d.step, log=d.log)
        return trial.suggest_float(key, d.low, d.high, step=d.step, log=d.log)


def importances(
    axes: Mapping[str, Axis], goals: Sequence[Objective], done: Sequence[tuple[Values, Sequence[float]]]
) -> dict[str, float]:
    """By axis, its share in what makes the best trials best, from the largest; the sum is 1 (PED-ANOVA).

    done: values and scores of each trial.  Empty where there are too few to tell.
    Watanabe, Bansal, Hutter: PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary Subspaces, 2023
    """
    if len(done) < FEWEST or all(scores == done[0][1] for _, scores in done):
        return {}
    optuna = open_optuna()
    kinds = {key: _distribution(optuna, axis) for key, axis in axes.items()}
    with quiet():
        study = optuna.create_study(directions=[goal.towards for goal in goals])
        for values, scores in done:
            params = {key: _encoded(axes[key], value) for key, value in values.items()}
            own = {key: kinds[key] for key in params}
            study.add_trial(optuna.trial.create_trial(params=params, distributions=own, values=list(scores)))
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=BEST_SHARE)
        found: dict[str, float] = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return found


def _distribution(optuna: Any, axis: Axis) -> Any:
    kinds = optuna.distributions
    if axis.choices is not None:
        return kinds.CategoricalDistribution(tuple(map(text, axis.choices)))
    if axis.is_int:
        return kinds.IntDistribution(axis.low, axis.high, log=axis.log, step=axis.step or 1)
    return kinds.FloatDistribution(float(axis.low or 0), float(axis.high or 0), log=axis.log, step=axis.step)


def _encoded(axis: Axis, value: Any) -> Any:
    return text(value) if axis.choices is not None else value


def _decoded(axis: Axis, param: Any) -> Any:
    if axis.choices is not None:
        return axis.choices[[text(choice) for choice in axis.choices].index(param)]
    # Six digits can be read and typed, and are what training gets.
    return param if axis.is_int else min(max(float(f"{param:.6g}"), float(axis.low or 0)), float(axis.high or 0))


def _sampler(optuna: Any, spec: SweepSpec, number: int) -> Any:
    """A fresh one for each trial: its draws follow from the seed and the trial's number, resumed or not."""
    kinds, how = optuna.samplers, spec.chooses
    seed = rng.stream(how.seed, "sweep", str(number))[0]
    if isinstance(how, Tpe):
        constant_liar = spec.parallel > 1
        return kinds.TPESampler(n_startup_trials=how.n_startup_trials, seed=seed, constant_liar=constant_liar)
    if isinstance(how, CmaEs):
        return kinds.CmaEsSampler(n_startup_trials=how.n_startup_trials, sigma0=how.sigma0, seed=seed)
    if isinstance(how, Nsga2):
        return kinds.NSGAIISampler(
            population_size=how.population_size, crossover_prob=how.crossover_prob,
            mutation_prob=how.mutation_prob, seed=seed,
        )  # fmt: skip
    assert isinstance(how, Grid | Random), f"no sampler {how.type}"
    return kinds.RandomSampler(seed=seed)


def _pruner(optuna: Any, spec: SweepSpec, epochs: int) -> Any:
    kinds, how = optuna.pruners, spec.pruner
    if isinstance(how, Median):
        return kinds.MedianPruner(how.n_startup_trials, how.n_warmup_steps, how.interval_steps)
    if isinstance(how, SuccessiveHalving):
        return kinds.SuccessiveHalvingPruner(how.min_resource, how.reduction_factor, how.min_early_stopping_rate)
    if isinstance(how, Hyperband):
        return kinds.HyperbandPruner(how.min_resource, how.max_resource or epochs, how.reduction_factor)
    assert isinstance(how, NoPruner), f"no pruner {how.type}"
    return kinds.NopPruner()
