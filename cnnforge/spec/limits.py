"""``<= 100_000``, ``>= 1 MiB, < 4 MiB``, ``1 h 30 min``: limits and times as text, in a closed grammar.

    limits   = limit { "," limit }
    limit    = ("<=" | "<" | ">=" | ">") number [unit]
    duration = number unit { number unit }

``cnnforge.fields`` has the units, and the patterns that such texts have to match.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import ge, gt, le, lt

from cnnforge.fields import BYTE_UNITS, COUNT_UNITS, TIME_UNITS, ByteLimit, CountLimit, Spec, TimeLimit

_HOLDS: Mapping[str, Callable[[float, float], bool]] = {"<=": le, "<": lt, ">=": ge, ">": gt}
_LIMIT = re.compile(r"\s*(<=|<|>=|>)\s*([0-9._]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z]*)\s*")
_SPAN = re.compile(r"\s*([0-9._]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z]+)\s*")


@dataclass(frozen=True, slots=True)
class Limit:
    """One comparison. ``number`` has its unit multiplied in; ``text`` is the comparison as it was written."""

    sign: str
    number: float
    text: str

    def holds(self, value: float) -> bool:
        """Does ``value`` keep to it?"""
        return _HOLDS[self.sign](value, self.number)


def limits(text: str, units: Mapping[str, float]) -> list[Limit]:
    """The comparisons of a text that matches the pattern of ``units``."""
    found = []
    for part in text.split(","):
        match = _LIMIT.fullmatch(part)
        assert match is not None, f"{text!r} has passed the pattern"
        sign, number, unit = match.groups()
        found.append(Limit(sign, _number(number) * units.get(unit, 1), part.strip()))
    return found


def seconds(text: str) -> float:
    """``1 h 30 min`` -> 5400.0, of a text that matches ``fields.DURATION_PATTERN``."""
    return sum(_number(number) * TIME_UNITS[unit] for number, unit in _SPAN.findall(text))


def _number(text: str) -> float:
    return float(text.replace("_", ""))


class Constraints(Spec):
    """``sweep.constraints:`` what a point must keep to; known before any training. Several limits stand behind commas.

    params: number of weights
    macs: multiply-accumulates of one sample's way forward
    memory: bytes that training takes
    time: seconds of one run, as forecast for this machine, which is measured for it once
    """

    params: CountLimit | None = None
    macs: CountLimit | None = None
    memory: ByteLimit | None = None
    time: TimeLimit | None = None

    def broken(self, values: Mapping[str, float | None]) -> Iterator[tuple[str, Limit]]:
        """The limits that ``values``, by name, do not keep to; one that is not known keeps to all."""
        for name, text in (("params", self.params), ("macs", self.macs), ("memory", self.memory), ("time", self.time)):
            value = values[name]
            if text is not None and value is not None:
                units = {"memory": BYTE_UNITS, "time": TIME_UNITS}.get(name, COUNT_UNITS)
                yield from ((name, limit) for limit in limits(text, units) if not limit.holds(value))
