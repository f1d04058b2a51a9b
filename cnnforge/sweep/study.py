"""The only door to Optuna: which points are tried, by whom, and which are given up.

Its storage is the truth about a sweep's trials: a journal file in the sweep's folder, or what ``sweep.storage`` names,
which several drivers on several machines may share. A trial is enqueued once, by the driver that makes the study, and
claimed once: Optuna hands out each to one driver alone.
"""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnforge import rng
from cnnforge.errors import ConfigError
from cnnforge.spec import SweepSpec
from cnnforge.spec.axis import Axis
from cnnforge.spec.samplers import CmaEs, Grid, Hyperband, Median, NoPruner, Nsga2, Random, SuccessiveHalving, Tpe
from cnnforge.spec.sweep import Objective
from cnnforge.sweep.space import Space, Values
from cnnforge.sweep.table import text
from cnnforge.tracking.state import acquire, locked

#: The file of a sweep that has no other storage.
JOURNAL = "optuna.journal"
#: Seconds to wait for the driver that is making the study.
MAKING = 60.0
#: Finished trials below which nothing is said of what is important, and which share of them is called the best.
FEWEST, BEST_SHARE = 6, 0.25
#: What we keep with each of Optuna's trials.
POINT, OWNER, ABOUT = "point", "owner", "about"
_READY, _MEANT = "cnnforge.ready", "cnnforge.sweep"


@dataclass(frozen=True)
class Known:
    """A trial as the storage has it.

    id: Optuna's;  number: the point's;  values: by key of the space, empty until it is claimed
    owner: the driver that claimed it, empty where it has let go of it;  about: what came of it, empty until it is over
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


class Study:
    """The trials of one sweep.

    storage: a database's URL, ``grpc://HOST:PORT``, or the path of a journal file
    meant: tells this sweep from another of the same name
    """

    def __init__(self, storage: str, name: str, spec: SweepSpec, space: Space, meant: str, epochs: int) -> None:
        self._optuna = _optuna()
        self._spec, self._space, self._epochs = spec, space, epochs
        self._storage, self._name = _storage(self._optuna, storage), name
        self._distributions = {key: _distribution(self._optuna, axis) for key, axis in space.axes.items()}
        directions = ["maximize" if goal.maximizes else "minimize" for goal in spec.objective]
        self._pruner = _pruner(self._optuna, spec, epochs)
        try:
            with _quiet():
                self._study = self._optuna.create_study(
                    storage=self._storage, study_name=name, directions=directions, pruner=self._pruner
                )
            self._study.set_user_attr(_MEANT, meant)
            self.made = True
        except self._optuna.exceptions.DuplicatedStudyError:
            with _quiet():
                self._study = self._optuna.load_study(study_name=name, storage=self._storage, pruner=self._pruner)
            self.made = False
            if (found := self._study.user_attrs.get(_MEANT, meant)) != meant:
                raise ConfigError(
                    f"the storage has another sweep that is called {name}",
                    where="sweep.storage",
                    why=f"its config is not this one ({found[:12]}…, {meant[:12]}…)",
                    fix="another run.name, or the config that it was begun with",
                ) from None

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
            self._study.set_user_attr(_READY, True)

    def enqueue_blank(self) -> None:
        """One more trial that the sampler chooses."""
        self._study.enqueue_trial({}, user_attrs={POINT: 0})

    def wait_until_ready(self) -> None:
        """Another driver may still be enqueuing. Raises ConfigError where it does not get on."""
        until = time.monotonic() + MAKING
        while not self._study.user_attrs.get(_READY):
            if time.monotonic() > until:
                raise ConfigError(
                    f"the trials of {self._name} are not all enqueued",
                    where="sweep.storage",
                    why=f"the driver that makes the sweep has not done so within {MAKING:.0f} s; was it killed?",
                    fix="begin the sweep anew under another run.name",
                )
            time.sleep(0.2)

    @property
    def ready(self) -> bool:
        """Has everything been enqueued?"""
        return bool(self._study.user_attrs.get(_READY))

    def trials(self) -> list[Known]:
        """Every trial of ours, in the order in which they were enqueued."""
        return [self._known(trial) for trial in self._study.get_trials(deepcopy=False) if POINT in trial.user_attrs]

    def waiting(self) -> int:
        """Trials that nobody has claimed."""
        return len(self._study.get_trials(deepcopy=False, states=(self._optuna.trial.TrialState.WAITING,)))

    def claim(self, owner: str) -> Known | None:
        """Take the next trial that nobody has, its values chosen; None where none is left."""
        if not self.waiting():
            return None
        number = len(self._study.get_trials(deepcopy=False)) - self.waiting()
        with _quiet():
            self._study.sampler = _sampler(self._optuna, self._spec, number)
            trial = self._study.ask()
            if POINT not in trial.user_attrs:  # somebody else took the last one, and Optuna made another
                self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
                return None
            trial.set_user_attr(OWNER, owner)
            values: dict[str, Any] = {}
            for key, axis in self._space.axes.items():
                if self._space.active(key, values):
                    values[key] = _decoded(axis, self._suggested(trial, key))
            trial.set_user_attr("values", values)
        return self._known(self._storage.get_trial(trial._trial_id))

    def take_over(self, trial: Known, owner: str) -> None:
        """A trial that nobody works on is this driver's now; nobody's where ``owner`` is empty."""
        self._storage.set_trial_user_attr(trial.id, OWNER, owner)

    def report(self, trial: Known, epoch: int, score: float) -> bool:
        """Note the objective after an epoch; True where the trial is to be given up."""
        if isinstance(self._spec.pruner, NoPruner):
            return False
        live = self._optuna.trial.Trial(self._study, trial.id)
        if epoch not in self._storage.get_trial(trial.id).intermediate_values:  # resumed: it was there before
            live.report(score, epoch)
        with _quiet():
            return bool(live.should_prune())

    def tell(self, trial: Known, about: Mapping[str, Any], scores: Sequence[float] | None) -> None:
        """A trial is over. scores: by objective; None where it has none. about: what all drivers shall know."""
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
            trial._trial_id, attrs[POINT] or trial.number + 1, attrs.get("values", {}), attrs.get(OWNER, ""),
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
    optuna = _optuna()
    kinds = {key: _distribution(optuna, axis) for key, axis in axes.items()}
    with _quiet():
        study = optuna.create_study(directions=["maximize" if goal.maximizes else "minimize" for goal in goals])
        for values, scores in done:
            params = {key: _encoded(axes[key], value) for key, value in values.items()}
            own = {key: kinds[key] for key in params}
            study.add_trial(optuna.trial.create_trial(params=params, distributions=own, values=list(scores)))
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=BEST_SHARE)
        found: dict[str, float] = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return found


def _optuna() -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's warnings that something is experimental, or that an enqueued value is what it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("optuna").setLevel(logging.ERROR)
        yield


def _storage(optuna: Any, where: str) -> Any:
    scheme, mark, rest = where.partition("://")
    with _quiet():
        if not mark:
            return optuna.storages.JournalStorage(_journal(optuna, Path(where)))
        try:
            if scheme == "grpc":
                host, _, port = rest.rstrip("/").rpartition(":")
                return optuna.storages.GrpcStorageProxy(host=host, port=int(port))
            return optuna.storages.get_storage(where)
        except Exception as error:  # whatever a database, its driver or the network brings forth
            raise ConfigError(
                "the sweep's storage cannot be opened",
                where="sweep.storage",
                why=(str(error).strip().splitlines() or [type(error).__name__])[0],
                fix="postgresql+psycopg://USER@HOST/DATABASE, grpc://HOST:PORT or the path of a file; is it running?",
            ) from None


def _journal(optuna: Any, path: Path) -> Any:
    """A journal file whose lock is the operating system's.

    Optuna's own locks are files, which a driver that is killed leaves behind, for all others to wait for; and half a
    line, if it was killed while writing, would make the file unreadable.
    """

    class Lock(optuna.storages.journal._file.BaseJournalFileLock):  # type: ignore[misc]
        def acquire(self) -> bool:
            self._held = acquire(path.with_name(f"{path.name}.lock"), timeout=None)
            return True

        def release(self) -> None:
            self._held.close()

    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f"{path.name}.lock")):
        path.touch()
        with path.open("rb+") as file:
            whole = file.read()
            file.truncate(whole.rfind(b"\n") + 1)
    return optuna.storages.journal.JournalFileBackend(str(path), lock_obj=Lock())


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
    """A fresh one for each trial: its draws follow from the seed and the number of trials before, resumed or not."""
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
