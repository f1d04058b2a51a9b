"""The points of a sweep's space as plain values: listed, drawn, and those at its corners.

A point is a mapping from each key that varies there to its value; a key whose condition does not hold is not in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, product
from math import prod
from typing import Any

from cnnforge import rng
from cnnforge.spec import SweepSpec
from cnnforge.spec.axis import Axis

Values = Mapping[str, Any]

#: Axes of which all combinations of ends are taken; of more, all first ends, all last ends, and one changed in each.
MOST_CORNERED = 6
#: Points that are counted one by one where conditions make the product wrong.
MOST_COUNTED = 1_000_000


@dataclass(frozen=True)
class Space:
    """axes: by key of the config, each behind those that its condition names."""

    axes: Mapping[str, Axis]

    @classmethod
    def of(cls, sweep: SweepSpec) -> Space:
        """The space that a config states."""
        return cls({key: sweep.space[key] for key in sweep.order})

    @property
    def size(self) -> int | None:
        """Points; None where there is no end of them. Counted up to ``MOST_COUNTED`` where axes have conditions."""
        counts = [axis.count for axis in self.axes.values()]
        if None in counts:
            return None
        if not any(axis.when for axis in self.axes.values()):
            return prod(count for count in counts if count is not None)
        return sum(1 for _ in islice(self.enumerate(), MOST_COUNTED))

    def active(self, key: str, values: Values) -> bool:
        """Does ``key`` vary at a point of which ``values`` are known so far?"""
        return all(other in values and values[other] in wanted for other, wanted in self.axes[key].when.items())

    def enumerate(self) -> Iterator[Values]:
        """Every point once, the last axis changing fastest. The space must have a size."""
        return self._from(tuple(self.axes), {})

    def _from(self, keys: tuple[str, ...], values: dict[str, Any]) -> Iterator[Values]:
        if not keys:
            yield values
            return
        key, *rest = keys
        if not self.active(key, values):
            yield from self._from(tuple(rest), values)
            return
        axis = self.axes[key]
        assert axis.count is not None, f"{key} has no end of values"
        for index in range(axis.count):
            yield from self._from(tuple(rest), {**values, key: axis.at(index)})

    def sample(self, seed: int, number: int) -> Values:
        """Draw ``number``: a function of the seed, the number and each axis's key alone."""
        values: dict[str, Any] = {}
        for key, axis in self.axes.items():
            if self.active(key, values):
                word, *_ = rng.philox((0, number & rng.WORD, 0, 0), rng.stream(seed, "sweep", key))
                values[key] = axis.drawn((word >> 8) * 2.0**-24)
        return values

    def corners(self) -> list[Values]:
        """The points at the ends of the axes: where what fits nowhere in between shows first."""
        keys = list(self.axes)
        if len(keys) <= MOST_CORNERED:
            choices = list(product((0, -1), repeat=len(keys)))
        else:
            choices = [tuple(-(i == changed) for i in range(len(keys))) for changed in range(-1, len(keys))]
            choices += [tuple(-(i != changed) for i in range(len(keys))) for changed in range(-1, len(keys))]
        found: list[Values] = []
        for choice in choices:
            values: dict[str, Any] = {}
            for key, end in zip(keys, choice, strict=True):
                if self.active(key, values):
                    values[key] = self.axes[key].ends()[end]
            if values not in found:
                found.append(values)
        return found
