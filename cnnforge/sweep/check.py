"""A whole sweep checked before its first trial."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from cnnforge.config.sweeping import ComposedSweep
from cnnforge.errors import CnnforgeError, ConfigError, ConfigErrors, UnknownName, dotted
from cnnforge.spec import SweepSpec
from cnnforge.spec.samplers import Grid, Random
from cnnforge.sweep.points import Point, Resolver, replicas
from cnnforge.sweep.space import Space, Values

#: Points that are checked at most; a larger grid is checked, and run, as far as this.
MOST_POINTS = 10_000
#: Draws by which a space is checked whose points are chosen while the sweep runs.
PROBES = 100


@dataclass(frozen=True)
class Totals:
    """What all trials together take.

    trials: points to run;  runs: of them, replicas counted
    memory: bytes, of the largest runs that may be under way at once
    seconds: of training, on ``parallel`` workers that share nothing; None where a run's is not known
    """

    trials: int
    runs: int
    memory: int
    seconds: float | None


@dataclass(frozen=True)
class CheckedSpace:
    """A sweep of which every point that could be looked at has been.

    points: what a grid or random sweep runs; empty for samplers that choose as they go
    probes: points that such a sampler may choose and that can be trained
    dropped: points that cannot be trained, with their reasons
    duplicates: number of a point -> number of the one before that is the same run
    size: points of the space; None where there is no end
    notes: what else a person should know
    """

    sweep: ComposedSweep
    space: Space
    resolver: Resolver
    points: tuple[Point, ...]
    probes: tuple[Point, ...]
    dropped: tuple[Point, ...]
    duplicates: Mapping[int, int]
    size: int | None
    totals: Totals
    notes: tuple[str, ...] = ()

    @property
    def spec(self) -> SweepSpec:
        """What the config says of the sweep."""
        return self.sweep.spec

    @property
    def feasible(self) -> tuple[Point, ...]:
        """Every point that was looked at and can be trained."""
        return self.points + self.probes

    def resolve(self, values: Values, number: int) -> Point:
        """The point of values that a sampler suggests."""
        return self.resolver.resolve(values, number)


def checked(sweep: ComposedSweep, measure: bool = False) -> CheckedSpace:
    """Check every point of a space that can be listed, and draws and corners of one that cannot.

    measure: measure this machine where the time of a run is not known yet
    Raises ConfigErrors for what is wrong with the sweep rather than with some of its points: a key or option that no
    point knows, a mistake of all points alike; and where no point can be trained, or ``infeasible: error`` refuses
    some.
    """
    space = Space.of(sweep.spec)
    resolver = Resolver(sweep, measure)
    size, notes = space.size, []
    chosen = _trials(sweep.spec, space, size)
    planned = chosen is not None
    candidates = list(chosen) if chosen is not None else list(_probes(sweep.spec, space, size))
    if isinstance(sweep.spec.chooses, Grid) and size is not None and len(candidates) < size:
        why = "budget.trials" if sweep.spec.budget.trials == len(candidates) else "more are not checked"
        notes.append(f"the first {len(candidates):,} of {size:,} points are run: {why}")
    found = [resolver.resolve(values, number) for number, values in enumerate(candidates, 1)]
    _refuse_mistakes(sweep, found)
    first: dict[str, int] = {}
    duplicates: dict[int, int] = {}
    kept: list[Point] = []
    for point in found:
        if point.feasible:
            original = first.setdefault(point.identity, point.number)
            if original == point.number:
                kept.append(point)
            else:
                duplicates[point.number] = original
    dropped = tuple(point for point in found if not point.feasible)
    if not kept or (dropped and sweep.spec.infeasible == "error"):
        raise ConfigErrors(_refusals(dropped, len(found), not kept))
    totals = _totals(sweep.spec, kept, planned)
    unknown = sum(point.cost is not None and point.cost.seconds is None for point in kept)
    if sweep.spec.constraints.time is not None and unknown:
        notes.append(f"constraints.time: not known of {unknown:,} points before their data is read; they are kept")
    if sweep.spec.register_as is not None and not any(p.spec and p.spec.tracking.enabled for p in kept):
        notes.append("register_as: tracking is off, so nothing is registered")
    notes += list(resolver.notes)
    points, probes = (tuple(kept), ()) if planned else ((), tuple(kept))
    return CheckedSpace(
        sweep, space, resolver, points, probes, dropped, duplicates, size, totals, tuple(notes)
    )  # fmt: skip


def _trials(spec: SweepSpec, space: Space, size: int | None) -> Iterable[Values] | None:
    """The points that will be run, where the sampler does not choose them by results."""
    sampler, most = spec.chooses, spec.budget.trials or MOST_POINTS
    if isinstance(sampler, Grid):
        return islice(space.enumerate(), min(most, MOST_POINTS))
    if isinstance(sampler, Random) and spec.budget.trials is not None:
        return (space.sample(sampler.seed, number) for number in range(min(most, MOST_POINTS)))
    return None


def _probes(spec: SweepSpec, space: Space, size: int | None) -> Iterator[Values]:
    """What a space is checked by whose points are chosen while the sweep runs."""
    if size is not None and size <= MOST_POINTS:
        yield from space.enumerate()
        return
    yield from space.corners()
    yield from (space.sample(spec.chooses.seed, number) for number in range(PROBES))


def _refuse_mistakes(sweep: ComposedSweep, points: Sequence[Point]) -> None:
    """Raise what is wrong with the sweep itself."""
    everywhere = [error for error in points[0].reasons if all(_says(point, error) for point in points)]
    mistakes: list[CnnforgeError] = list(_unknown(sweep, points))
    if mistakes or everywhere:
        said = {str(error.path[-1]).lstrip("+") for error in mistakes}
        raise ConfigErrors([*mistakes, *(error for error in everywhere if dotted(error.path) not in said)])


def _says(point: Point, error: CnnforgeError) -> bool:
    return any(str(reason) == str(error) for reason in point.reasons)


def _unknown(sweep: ComposedSweep, points: Sequence[Point]) -> Iterator[CnnforgeError]:
    """A key that no point has, and an option that its group has at none."""
    for key, axis in sweep.spec.space.items():
        at = [(point, _not_there(key, point)) for point in points if key in point.values]
        if at and all(error is not None for _, error in at):
            yield _of_axis(sweep, key, at[0][1])
            continue
        for choice in axis.choices or ():
            there = [error for point, error in at if point.values[key] == choice]
            if there and all(error is not None for error in there):
                yield _of_axis(sweep, key, there[0])


def _not_there(key: str, point: Point) -> CnnforgeError | None:
    """What a point says of a key, or of its group's option, that is not there."""
    path = key.lstrip("+").split(".")
    for error in point.reasons:
        if isinstance(error, UnknownName) and [str(part) for part in error.path] == path:
            return error
    return None


def _of_axis(sweep: ComposedSweep, key: str, error: CnnforgeError | None) -> CnnforgeError:
    """A point's mistake as one of the space."""
    assert error is not None
    path: tuple[str | int, ...] = ("sweep", "space", key)
    return UnknownName(
        f"sweep.space: {error.what}", where=sweep.where("space", key), why=error.why, fix=error.fix, path=path
    )


def _refusals(dropped: Sequence[Point], checked: int, none_left: bool) -> list[CnnforgeError]:
    """Every reason once, with the points that it holds for."""
    about = "no point can be trained" if none_left else f"{len(dropped)} of {checked:,} points cannot be trained"
    why = f"all {checked:,} points that were looked at have reasons, below" if none_left else "infeasible: error"
    fix = "change the space" if none_left else "change the space, or sweep.infeasible=drop leaves them out"
    return [ConfigError(about, where="sweep.space", why=why, fix=fix), *by_reason(dropped)]


def by_reason(dropped: Iterable[Point]) -> list[CnnforgeError]:
    """Every reason once: ``points 5, 11: conv2: a 13x13 window …``."""
    groups: dict[tuple[Any, ...], tuple[CnnforgeError, list[int]]] = {}
    for point in dropped:
        for error in point.reasons:
            key = (error.what, error.why, error.fix)
            groups.setdefault(key, (error, []))[1].append(point.number)
    return [
        ConfigError(
            f"point{'s' * (len(numbers) > 1)} {_listed(numbers)}: {error.what}",
            where=error.where,
            context=error.context,
            why=error.why,
            fix=error.fix,
        )
        for error, numbers in groups.values()
    ]


def _listed(numbers: Sequence[int], most: int = 12) -> str:
    shown = ", ".join(map(str, numbers[:most]))
    return f"{shown} and {len(numbers) - most:,} more" if len(numbers) > most else shown


def _totals(spec: SweepSpec, kept: Sequence[Point], planned: bool) -> Totals:
    """Of the trials, or where they are not known yet of as many as the budget has, each as long as the mean probe."""
    runs = seconds = 0.0
    memory, timed = 0, True
    for point in kept:
        assert point.spec is not None
        assert point.cost is not None
        copies = len(replicas(point.spec, spec.replicate))
        runs += copies
        memory = max(memory, point.cost.memory)
        timed = timed and point.cost.seconds is not None
        seconds += copies * (point.cost.seconds or 0)
    trials = len(kept) if planned else spec.budget.trials or 0
    share = trials / len(kept)
    time = seconds * share / spec.parallel if timed and trials else None
    return Totals(trials, round(runs * share), memory * spec.parallel, time)
