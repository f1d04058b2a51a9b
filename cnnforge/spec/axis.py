"""``sweep.space.KEY:`` the values that one key of the config takes in a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from math import exp, floor, log
from typing import Any

from pydantic import Field, model_validator

from cnnforge.fields import Bool, Float, Int, PositiveInt, Spec, as_yaml, mistake

Number = Int | Float


class Axis(Spec):
    """The values of one key: a list, or a mapping of ``choices``, or of ``low`` and ``high``.

    choices: these values; of a group of configs, their names
    low, high: any number between these two, both included; whole numbers where both are whole
    step: only every so many, from ``low`` on
    log: as many values from 0.001 to 0.01 as from 0.01 to 0.1
    when: only at points where these other keys of the space have one of these values
    """

    choices: tuple[Any, ...] | None = None
    low: Number | None = None
    high: Number | None = None
    step: PositiveInt | Float | None = None
    log: Bool = False
    when: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return {"choices": value}
        if not isinstance(value, Mapping):
            raise mistake(f"{as_yaml(value)} is one value", "an axis of the space has several",
                          f"[{as_yaml(value)}, …], or {{low: …, high: …}}")  # fmt: skip
        when = value.get("when")
        if not isinstance(when, Mapping):
            return value
        return {**value, "when": {key: _several(wanted) for key, wanted in when.items()}}

    @model_validator(mode="after")
    def _a_list_or_a_range(self) -> Axis:
        low, high, step = self.low, self.high, self.step
        if self.choices is not None:
            if others := [name for name in ("low", "high", "step", "log") if name in self.model_fields_set]:
                raise mistake(f"choices beside {' and '.join(others)}", "an axis is a list or a range",
                              "one of the two", others[0])  # fmt: skip
            if not self.choices:
                raise mistake("there are no choices", "an axis has at least one value", "[…]", "choices")
            texts = [as_yaml(choice) for choice in self.choices]
            if twice := [text for i, text in enumerate(texts) if text in texts[:i]]:
                raise mistake(f"{twice[0]} stands there twice", "each choice is tried once", "remove one", "choices")
            return self
        if low is None or high is None:
            missing = " and ".join(name for name, end in (("low", low), ("high", high)) if end is None)
            raise mistake(f"{missing} is missing" if " " not in missing else "it has no values",
                          "an axis has choices, or low and high", "[…], or {low: …, high: …}")  # fmt: skip
        if not low < high:
            raise mistake(f"low {low} is not below high {high}", "there is nothing between them",
                          f"low: {high}, high: {low}" if high < low else f"[{low}]", "low")  # fmt: skip
        if self.log and low <= 0:
            raise mistake(f"log from {low} on", "a logarithm needs numbers above 0", "low: 1.0e-5", "low")
        if self.log and step is not None:
            raise mistake("log beside step", "steps of a fixed size are not logarithmic", "one of the two", "step")
        if step is not None and not 0 < step <= high - low:
            raise mistake(f"step {step} from {low} to {high}", "a step is above 0 and no longer than the range",
                          "a smaller step", "step")  # fmt: skip
        if self.is_int and isinstance(step, float):
            raise mistake(f"step {step} between whole numbers", "low and high are whole, so every value is",
                          f"low: {float(low)}", "step")  # fmt: skip
        return self

    @property
    def is_int(self) -> bool:
        """Is it a range of whole numbers?"""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def count(self) -> int | None:
        """How many values it has; None where there is no end of them."""
        if self.choices is not None:
            return len(self.choices)
        low, high, step = self._range()
        if not step:
            return None
        return int((high - low) / step) + 1

    def at(self, index: int) -> Any:
        """Its value number ``index``, from 0, where it has a count."""
        if self.choices is not None:
            return self.choices[index]
        low, _, step = self._range()
        value = low + index * step
        return int(value) if self.is_int else float(value)

    def drawn(self, u: float) -> Any:
        """The value at ``u`` in [0, 1), equally likely everywhere, or on a logarithmic scale with ``log``.

        A number that is not whole is rounded to six digits, so that it can be read and typed.
        """
        count, low, high = self.count, self.low, self.high
        if low is None or high is None or (count is not None and not self.log):
            assert count is not None
            return self.at(int(u * count))
        if self.log and self.is_int:  # each whole number by its share of the logarithmic scale
            least, most = log(low - 0.5), log(high + 0.5)
            return min(max(floor(exp(least + u * (most - least)) + 0.5), low), high)
        value = exp(log(low) + u * (log(high) - log(low))) if self.log else low + u * (high - low)
        return min(max(float(f"{value:.6g}"), low), high)

    def ends(self) -> tuple[Any, ...]:
        """Its first value and its last."""
        count = self.count
        if count is None:
            return float(self._range()[0]), float(self._range()[1])
        return tuple(self.at(i) for i in dict.fromkeys((0, count - 1)))

    def _range(self) -> tuple[Decimal, Decimal, Decimal]:
        """(low, high, step) without the errors of binary fractions; step 0 where every number counts."""
        step = self.step or (1 if self.is_int else 0)
        return Decimal(str(self.low)), Decimal(str(self.high)), Decimal(str(step))


def _several(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)
