"""Reading one config that stands by itself: a dict, a YAML text or a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

from cnnforge.config.composed import Composed
from cnnforge.config.interpolate import resolve
from cnnforge.config.marks import Mark, shown
from cnnforge.errors import CnnforgeError, ConfigError, ConfigErrors, Path


def read(source: Mapping[str, Any] | str | FilePath, prefix: Path, overrides: Sequence[str] = ()) -> Composed:
    """Read ``source``, which stands at ``prefix`` in a run's config, and carry ``overrides`` of values out on it.

    A text with a line break or ``: `` in it is YAML, any other a path. Raises ConfigErrors where it cannot be read.
    """
    tree: Any
    marks: dict[Path, Mark] = {}
    errors: list[CnnforgeError] = []
    if isinstance(source, Mapping):
        tree = _plain(source)
    else:
        from cnnforge.config.scan import scan

        data, name = _bytes(source)
        document = scan(data, name)
        if "defaults" in document.tree:
            raise ConfigErrors([_no_defaults(document.marks[("defaults",)])])
        tree = document.tree
        marks = {prefix + path: mark for path, mark in document.marks.items()}
        marks[()] = Mark(name)
        errors += [finding.error(prefix, hidden=len(prefix)) for finding in document.findings]
    for key in reversed(prefix):
        tree = {key: tree}
    if overrides:
        from cnnforge.config import overrides as command_line
        from cnnforge.config.merging import Merge

        parsed, wrong = command_line.parse(overrides)
        merged = Merge(tree, marks)
        errors += [*wrong, *command_line.apply(parsed, merged.tree, merged.write, merged.forget)]
        tree, marks = merged.tree, merged.marks
    tree, dangling = resolve(tree)
    composed = Composed(tree, marks, (), shown=len(prefix))
    errors += [error.located(composed.where(error.path)) for error in dangling]
    return Composed(tree, marks, tuple(errors), shown=len(prefix))


def _bytes(source: str | FilePath) -> tuple[bytes, str]:
    if isinstance(source, str) and ("\n" in source or ": " in source):
        return source.encode("utf-8", "surrogatepass"), "<text>"
    file = FilePath(source)
    try:
        return file.read_bytes(), shown(file)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        why = getattr(error, "strerror", None) or str(error)
        near = sorted(f.name for f in file.parent.glob("*.yaml")) if file.parent.is_dir() else []
        fix = f"there are {', '.join(near)}" if near else "check the path; YAML text needs 'key: value' lines"
        raise ConfigErrors([ConfigError(f"{source}: cannot be read", where=shown(file), why=why, fix=fix)]) from None


def _no_defaults(mark: Mark) -> ConfigError:
    why = "a config that is read by itself takes nothing from other files"
    return ConfigError(
        "'defaults' needs a command", where=str(mark), why=why, fix="cnnforge train or check composes groups"
    )


def _plain(value: Any) -> Any:
    """Mappings as dicts, so that messages and merging see one kind; what is no config value is left to validation."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
