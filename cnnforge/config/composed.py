"""What composing gives: plain values, where each was written, and the mistakes found on the way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cnnforge.config.marks import Mark, Marks, changes, nearest
from cnnforge.errors import CnnforgeError, ConfigErrors, Path, dotted


@dataclass(frozen=True)
class Composed:
    """A config as plain dicts, lists and scalars, before it is validated.

    tree:   the whole run's config; for a model read by itself, ``{"model": …}``
    marks:  where each key was written
    errors: mistakes after which reading could go on; ``validate`` reports them with its own
    named:  the groups that a person chose or changed: on the command line or in an experiment
    shown:  how much of a path is left out when it is shown (1 for a model by itself)
    """

    tree: dict[str, Any]
    marks: Marks
    errors: tuple[CnnforgeError, ...] = ()
    named: frozenset[str] = frozenset()
    shown: int = 0

    def where(self, path: Path) -> str:
        """``configs/model/lenet.yaml:7:3 (model.layers.conv2)``; the key alone where its place is not known."""
        mark, key = nearest(self.marks, path), dotted(path[self.shown :])
        if mark is None:
            return key
        # A layer stands in its file, but what is wrong with it may come from the command line.
        place = " with ".join(str(m) for m in (mark, *(c for c in changes(self.marks, path) if c != mark)))
        return f"{place} ({key})" if key else place

    def located(self, errors: Iterable[CnnforgeError]) -> ConfigErrors:
        """``errors`` with their places filled in, in the order in which a reader meets them, each said once."""
        placed = {(e.what, e.path): e if e.where else e.located(self.where(e.path)) for e in errors}
        return ConfigErrors(sorted(placed.values(), key=lambda error: self._order(error.path)))

    def _order(self, path: Path) -> tuple[bool, str, int, int]:
        mark = nearest(self.marks, path) or Mark("")
        return (False, mark.source, mark.line, mark.column) if mark.line else (True, "", 0, 0)
