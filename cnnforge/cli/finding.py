"""A line of ``cnnforge doctor``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

State = Literal["ok", "note", "problem"]
OK: Final = "ok"
NOTE: Final = "note"
PROBLEM: Final = "problem"


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it is, what it says, and what mends it where something is wrong."""

    name: str
    state: State
    text: str
    fix: str = ""
