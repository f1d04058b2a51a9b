"""Laying values over values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnnforge.config.marks import Mark
from cnnforge.errors import Path


class Merge:
    """A config under construction: later values win, mappings merge, marks follow their values."""

    def __init__(self, tree: Mapping[str, Any] | None = None, marks: Mapping[Path, Mark] | None = None) -> None:
        self.tree: dict[str, Any] = _copied(tree or {})
        self.marks: dict[Path, Mark] = dict(marks or {})

    def add(self, body: Mapping[str, Any], prefix: Path, marks: Mapping[Path, Mark]) -> None:
        """Lay a file's values over what is there. ``marks`` are relative to ``prefix``."""
        self._set(prefix, body, {prefix + path: mark for path, mark in marks.items() if path and path[0] in body})

    def write(self, path: Path, value: Any, mark: Mark) -> None:
        """Set one value; a mapping is merged into one that is there."""
        self._set(path, value, {path: mark})

    def forget(self, path: Path) -> None:
        """Remove what stands at ``path``, which exists."""
        owner = self._owner(path)
        del owner[path[-1]]
        self._unmark(path)

    def _owner(self, path: Path) -> Any:
        node: Any = self.tree
        for key in path[:-1]:
            node = node.setdefault(key, {}) if isinstance(node, dict) else node[key]
        return node

    def _set(self, path: Path, value: Any, marks: Mapping[Path, Mark]) -> None:
        if not path:
            for key, inner in value.items():
                self._lay(self.tree, key, inner, ())
        else:
            self._lay(self._owner(path), path[-1], value, path[:-1])
        self.marks.update(marks)

    def _lay(self, owner: Any, key: str | int, value: Any, around: Path) -> None:
        path: Path = (*around, key)
        old = owner.get(key) if isinstance(owner, dict) else owner[key]
        if isinstance(value, Mapping) and isinstance(old, dict):
            for inner_key, inner in value.items():
                self._lay(old, inner_key, inner, path)
            return
        self._unmark(path)
        # Copied, because a file's values may be merged into, and aliases share theirs.
        owner[key] = _copied(value)

    def _unmark(self, path: Path) -> None:
        for stale in [p for p in self.marks if p[: len(path)] == path]:
            del self.marks[stale]


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list | tuple) else value
