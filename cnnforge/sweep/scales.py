"""Upright axes of height 1 beside each other: where a value stands on one, and what is written there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil, exp, floor, log, log10
from typing import Any

from cnnforge.spec.axis import Axis
from cnnforge.sweep.table import shown, text

#: Where a trial stands on an axis whose condition does not hold at its point.
ABSENT = -0.12
#: Choices that are named, and marks on a range.
MOST_CHOICES, MARKS = 12, 5
#: Letters of a choice that fit between two axes.
LONGEST = 17
#: Largest over smallest number from which on losses and sizes are shown on a logarithmic scale.
WIDE = 30.0


@dataclass(frozen=True)
class Scale:
    """ticks: (height, label), from below;  place: the height of a value that is there."""

    ticks: Sequence[tuple[float, str]]
    place: Callable[[Any], float]

    def height(self, value: Any) -> float:
        """From 0 to 1; ``ABSENT`` for None."""
        return ABSENT if value is None else self.place(value)


def of_axis(axis: Axis) -> Scale:
    """An axis of the space: choices at equal distances, ranges as they are drawn from."""
    if axis.choices is not None:
        return _of_choices([text(choice) for choice in axis.choices])
    assert axis.low is not None, "an axis has choices or a range"
    assert axis.high is not None, "an axis has choices or a range"
    label = "{:.0f}".format if axis.is_int else "{:.3g}".format
    return _of_range(float(axis.low), float(axis.high), axis.log, label, axis.is_int)


def of_numbers(values: Sequence[float], metric: str) -> Scale:
    """An objective: from the smallest to the largest of what was reached."""
    low, high = min(values), max(values)
    if low == high:
        return Scale([(0.5, shown(metric, low))], lambda _: 0.5)
    label = partial(shown, metric) if metric.endswith("accuracy") else _short
    return _of_range(low, high, is_wide(values, metric), label, whole=False)


def is_wide(values: Sequence[float], metric: str) -> bool:
    """Do the numbers of a metric want a logarithmic scale?"""
    return not metric.endswith("accuracy") and min(values) > 0 and max(values) / min(values) >= WIDE


def _of_choices(names: Sequence[str]) -> Scale:
    step = 1 / max(len(names) - 1, 1)
    heights: Mapping[str, float] = {name: i * step if len(names) > 1 else 0.5 for i, name in enumerate(names)}
    every = ceil(len(names) / MOST_CHOICES)
    return Scale([(heights[name], _cut(name)) for name in names[::every]], lambda value: heights[text(value)])


def _of_range(low: float, high: float, logarithmic: bool, label: Callable[[float], str], whole: bool) -> Scale:
    if logarithmic:
        ends = log(low), log(high)
        decades = [10.0**n for n in range(ceil(log10(low)), floor(log10(high)) + 1)]
        decades = decades[:: ceil(len(decades) / MARKS)] if decades else []
        marks = [low, *(d for d in decades if 0.08 < _share(log(d), *ends) < 0.92), high]
        if len(marks) < MARKS - 1:
            marks = [exp(ends[0] + (ends[1] - ends[0]) * i / (MARKS - 1)) for i in range(MARKS)]
        return Scale(
            [(_share(log(mark), *ends), label(round(mark) if whole else mark)) for mark in marks],
            lambda value: _share(log(value), *ends),
        )
    step = 10.0 ** floor(log10((high - low) / MARKS))
    step = next(step * n for n in (1, 2, 5, 10) if (high - low) / (step * n) <= MARKS)
    step = max(step, 1.0) if whole else step
    between = [step * n for n in range(ceil(low / step), floor(high / step) + 1)]
    marks = [low, *(mark for mark in between if 0.08 < _share(mark, low, high) < 0.92), high]
    return Scale([(_share(mark, low, high), label(mark)) for mark in marks], lambda value: _share(value, low, high))


def _share(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low)


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def _short(value: float) -> str:
    """``1234567`` -> ``1.23M``."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.4g}"
