"""What composing gives: plain values, where each was written, and the mistakes found on the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from cnnforge.config.marks import Mark, Marks, changes, nearest
from cnnforge.errors import CnnforgeError, ConfigErrors, ConfigWarning, Path, dotted

AnyError = TypeVar("AnyError", bound=CnnforgeError)


@dataclass(frozen=True)
class Composed:
    """A config as plain dicts, lists and scalars, before it is validated.

    tree:   the whole run's config; for a model read by itself, ``{"model": …}``
    marks:  where each key was written
    errors: mistakes after which reading could go on; ``validate`` reports them with its own
    named:  the groups that a person chose or changed: on the command line or in an experiment
    shown:  how much of a path is left out when it is shown (1 for a model by itself)
    origins: path after templates were expanded -> where it was written, wherever the two differ
    callers: path of an expanded block -> the use of the template that made it
    workings: path of a value that an expression gave -> how it was worked out
    notes:  what was found out and filled in, in words
    """

    tree: dict[str, Any]
    marks: Marks
    errors: tuple[CnnforgeError, ...] = ()
    named: frozenset[str] = frozenset()
    shown: int = 0
    origins: Mapping[Path, Path] = field(default_factory=dict)
    callers: Mapping[Path, Path] = field(default_factory=dict)
    workings: Mapping[Path, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def source(self, path: Path) -> Path:
        """Where what stands at ``path`` after templates were expanded was written."""
        for end in range(len(path), 0, -1):
            if (origin := self.origins.get(path[:end])) is not None:
                return origin + path[end:]
        return path

    def where(self, path: Path) -> str:
        """``configs/model/lenet.yaml:7:3 (model.layers.conv2)``; the key alone where its place is not known.

        What is wrong within a template also says where the template was used.
        """
        from cnnforge.spec import TEMPLATES

        source = self.source(path)
        place = ", ".join(part for part in (self._written(source), self.workings.get(path, "")) if part)
        if source[: len(TEMPLATES)] == TEMPLATES and path[: len(TEMPLATES)] != TEMPLATES:
            used = next((self.callers[path[:n]] for n in range(len(path) + 1) if path[:n] in self.callers), None)
            return f"{place}, used at {self._written(used)}" if used else place
        return place

    def _written(self, path: Path) -> str:
        mark, key = nearest(self.marks, path), dotted(path[self.shown :])
        if mark is None:
            return key
        # A layer stands in its file, but what is wrong with it may come from the command line.
        place = " with ".join(str(m) for m in (mark, *(c for c in changes(self.marks, path) if c != mark)))
        return f"{place} ({key})" if key else place

    def located(self, errors: Iterable[CnnforgeError]) -> ConfigErrors:
        """``errors`` with their places filled in, in the order in which a reader meets them, each said once.

        A mistake in a template is one mistake, however often the template is used.
        """
        return ConfigErrors(self._placed(errors))

    def located_warnings(self, warnings: Iterable[ConfigWarning]) -> list[ConfigWarning]:
        """As ``located``; what several rules say of one place are several warnings."""
        by_rule: dict[str, list[ConfigWarning]] = {}
        for warning in warnings:
            by_rule.setdefault(warning.rule, []).append(warning)
        placed = [warning for group in by_rule.values() for warning in self._placed(group)]
        return sorted(placed, key=lambda warning: self._order(self.source(warning.path)))

    def _placed(self, errors: Iterable[AnyError]) -> list[AnyError]:
        placed: dict[tuple[str, Path], AnyError] = {}
        for e in errors:
            source = self.source(e.path)
            key = ("" if source != e.path else e.what, source)
            placed.setdefault(key, e if e.where else cast("AnyError", e.located(self.where(e.path))))
        return sorted(placed.values(), key=lambda error: self._order(self.source(error.path)))

    def _order(self, path: Path) -> tuple[bool, str, int, int]:
        mark = nearest(self.marks, path) or Mark("")
        return (False, mark.source, mark.line, mark.column) if mark.line else (True, "", 0, 0)
