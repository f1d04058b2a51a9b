"""How a plain scalar is read: as YAML 1.2 means it, and by name where YAML 1.1 would read something else.

PyYAML reads ``yes`` as true, ``012`` as 10 and ``1:30`` as 90, and ``1e-3`` as text. Here ``1e-3`` is a number and
the others are refused, each with what to write instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[+-]?(0|[1-9][0-9_]*)")
_FLOAT = re.compile(r"[+-]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)([eE][+-]?[0-9]+)?")
_SPECIAL = re.compile(r"([+-]?)\.(inf|Inf|INF|nan|NaN|NAN)")
_WORD = re.compile(r"(yes|on)|(no|off)", re.IGNORECASE)
_OCTAL = re.compile(r"[+-]?0[0-9_]+")
_BASED = re.compile(r"[+-]?0[xX][0-9a-fA-F_]+|[+-]?0[oO][0-7_]+|[+-]?0[bB][01_]+")
_CLOCK = re.compile(r"[+-]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
#: Digits that any size, count or seed could need; longer ones are slips and can be slow to print.
MAX_DIGITS = 18

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Misread:
    """Why a text is refused, and what to write instead. ``fix`` is for a place where text may be meant as well."""

    why: str
    instead: str
    text: str = ""

    @property
    def fix(self) -> str:
        return f"{self.instead}, or in quotes where text is meant: '{self.text}'" if self.text else self.instead


def read(text: str) -> tuple[Scalar, Misread | None]:
    """The value of a plain (unquoted) scalar; with it a complaint where different readers see different values."""
    if text in _NULL:
        return None, None
    if text in _BOOL:
        return _BOOL[text], None
    if _INT.fullmatch(text):
        if sum(c.isdigit() for c in text) > MAX_DIGITS:
            why = f"a number of {sum(c.isdigit() for c in text)} digits"
            return 1, Misread(why, f"at most {MAX_DIGITS} digits")
        return int(text), None
    if complaint := misread(text):
        word = _WORD.fullmatch(text)
        return bool(word[1]) if word else text, complaint
    if _FLOAT.fullmatch(text):
        return float(text), None
    if special := _SPECIAL.fullmatch(text):
        return float(special[1] + special[2]), None
    return text, None


def misread(text: str) -> Misread | None:
    """A complaint about a text that some readers take for a number or a truth value and others do not."""
    if word := _WORD.fullmatch(text):
        return Misread(
            f"YAML 1.1 reads {text} as {'true' if word[1] else 'false'}, YAML 1.2 as text",
            "true" if word[1] else "false",
            text,
        )
    if _OCTAL.fullmatch(text):
        digits = text.replace("_", "").lstrip("+-0") or "0"
        return Misread(
            f"YAML 1.1 reads {text} as an octal number, YAML 1.2 as {digits}",
            f"{'-' if text[0] == '-' else ''}{digits}",
            text,
        )
    if _BASED.fullmatch(text):
        number = str(int(text.replace("_", ""), 0)) if len(text) <= MAX_DIGITS else "a decimal number"
        return Misread(f"numbers are written in decimal, {text} is not", number, text)
    if _CLOCK.fullmatch(text):
        return Misread(
            f"YAML 1.1 reads {text} as a number of base 60, YAML 1.2 as text",
            "a decimal number",
            text,
        )
    return None
