"""What was measured on this machine, kept in the user's cache: a convenience, so nothing depends on its being there."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from cnnforge.folders import user_cache

T = TypeVar("T")

#: Entries kept in a file; the oldest are forgotten.
KEPT = 20_000


def this_machine() -> dict[str, Any]:
    """What measured times depend on beside what was measured."""
    return {
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "numpy": version("numpy"),
        "python": platform.python_version(),
    }


def cpu() -> str:
    """The processor's model, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.processor() or platform.machine()


class Measurements:
    """A file of values by name, for one machine and kind of measurement.

    kind: beginning of the file's name;  facts: what the values depend on beside their names
    entry: the key of the values in the file;  what: their name in notes
    """

    def __init__(self, kind: str, facts: Mapping[str, Any], entry: str, what: str) -> None:
        self._facts, self._entry, self._what = dict(facts), entry, what
        name = blake2b(json.dumps(self._facts, sort_keys=True).encode(), digest_size=8).hexdigest()
        self.path = user_cache() / f"{kind}-{name}.json"

    def load(self, sound: Callable[[Any], bool]) -> tuple[dict[str, Any], list[str]]:
        """What was kept, and a line where it cannot be used. ``sound``: can this be a value?"""
        try:
            values = json.loads(self.path.read_text("utf-8"))[self._entry]
            if not all(sound(value) for value in values.values()):
                raise ValueError("values that are none")
            return values, []
        except FileNotFoundError:
            return {}, []
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            why = f"{self._what} in {self.path} cannot be read ({_reason(error)})"
            return {}, [f"{why}; they are measured anew when asked"]

    def save(self, values: Mapping[str, Any]) -> list[str]:
        """Write the file whole or not at all; a line where that does not work."""
        newest = dict(list(values.items())[-KEPT:])
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps({"machine": self._facts, self._entry: newest}, indent=1) + "\n", "utf-8")
            temporary.replace(self.path)
            return []
        except OSError as error:
            return [f"{self._what} cannot be kept in {self.path} ({_reason(error)}); they are used this once"]


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
