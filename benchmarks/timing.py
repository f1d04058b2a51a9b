"""Taking turns: on a machine that others use too, only what is measured side by side can be compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from time import perf_counter

#: A turn takes about so long, so that short steps are averaged over many.
TURN = 0.2
#: Steps of a turn, at least, where the number is not given.
FEWEST = 2
#: Steps that are not timed, before the timed ones, as a share of these: OpenMP's threads spin for milliseconds after
#: the last step of one engine, and would be on the cores of the next.
WARM = 0.1


def interleaved(
    engines: Mapping[str, Callable[[], object]], rounds: int, steps: int | None = None, turn: float = TURN
) -> dict[str, list[float]]:
    """Seconds per step of each engine, one number per round.

    In a round each engine in turn takes a few steps that are not timed (they bring caches and threads back to this
    engine) and then ``steps``, or as many as fit ``turn`` seconds.
    """
    many = {name: steps or _steps(step, turn) for name, step in engines.items()}
    times: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(rounds):
        for name, step in engines.items():
            for _ in range(max(1, round(many[name] * WARM))):
                step()
            began = perf_counter()
            for _ in range(many[name]):
                step()
            times[name].append((perf_counter() - began) / many[name])
    return times


def _steps(step: Callable[[], object], turn: float) -> int:
    """Steps that fit ``turn`` seconds, by the second of two warm ones."""
    step()
    began = perf_counter()
    step()
    return max(FEWEST, round(turn / (perf_counter() - began)))


@dataclass(frozen=True)
class Ratio:
    """How often the one fits into the other: ratio of the medians, smallest and largest ratio within a round."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}..{self.high:.2f})"


def ratio(theirs: list[float], ours: list[float]) -> Ratio:
    """theirs / ours: above 1, ours is faster."""
    by_round = [a / b for a, b in zip(theirs, ours, strict=True)]
    return Ratio(median(theirs) / median(ours), min(by_round), max(by_round))


def best(times: Mapping[str, list[float]], names: tuple[str, ...]) -> str | None:
    """Which of ``names`` has the smallest median; None where none was measured."""
    present = [name for name in names if name in times]
    return min(present, key=lambda name: median(times[name])) if present else None
