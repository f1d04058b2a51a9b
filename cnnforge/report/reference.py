"""docs/reference.md: everything that configs may say, from the classes that read them.

``python -m cnnforge.report.reference > docs/reference.md`` writes it; a test holds the committed page to this.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic.fields import FieldInfo

from cnnforge.blocks import AnyBlock
from cnnforge.config.json_schema import common_base, default_of
from cnnforge.config.meaning import meanings, summary
from cnnforge.config.schema import describe, is_spec, members, typed
from cnnforge.errors import Path
from cnnforge.fields import Spec, tag
from cnnforge.init import AnyInit
from cnnforge.losses import AnyLoss
from cnnforge.spec import RunSpec
from cnnforge.spec.templates import Template

_HEAD = """# Config reference

Made from the classes that read the configs by `make docs`. `cnnforge schema` says the same to editors.

A value may be a reference to another, `${model.name}`, or `???`, which must then be given on the command line. Numbers
may be written `1e-3`. Names are letters, digits, `_` and `-`, and do not begin with a digit or `-`."""

#: What stands inside others: title, place, type, how it is meant.
_PARTS: tuple[tuple[str, Path, Any], ...] = (
    ("Blocks", ("model", "layers", "NAME"), AnyBlock),
    ("Templates", ("model", "templates", "NAME"), Template),
    ("Losses", ("model", "loss"), AnyLoss),
    ("Initialisers", ("model", "layers", "NAME", "init"), AnyInit),
)


def reference() -> str:
    """The whole page, in Markdown."""
    parts = [_HEAD, "## A run", *_class(RunSpec)]
    for name, field in RunSpec.model_fields.items():
        kinds = [kind for kind in members(typed(field)) if is_spec(kind)]
        if kinds:
            parts += [f"## `{name}`", *_kinds(kinds)]
            for inner, cls in dict.fromkeys(found for kind in kinds for found in _inside(kind)):  # each once
                parts += [f"### `{inner}`", *_class(cls)]
        if name == "model":
            for title, path, kind in _PARTS:
                parts += [f"## {title}: `{'.'.join(map(str, path))}`"]
                parts += _kinds([cls for cls in members(kind) if is_spec(cls)])
    return "\n\n".join(parts) + "\n"


def _kinds(classes: Sequence[type[Spec]]) -> list[str]:
    """One class as it is; several under the names that ``type`` gives them, what all have in common first."""
    if len(classes) == 1:
        return _class(classes[0])
    base = common_base(classes)
    fields = [name for name in base.model_fields if name != "type"]
    shared = [name for name in fields if all(_same(cls, base, name) for cls in classes)]
    parts = [f"Each has a `type`, and `{'`, `'.join(shared)}`:", _table(base, shared)] if shared else []
    for cls in classes:
        parts += [f"### `{tag(cls)}`", *_class(cls, *shared)]
    return parts


def _inside(cls: type[Spec]) -> Iterator[tuple[str, type[Spec]]]:
    """The classes that stand in the fields of another, where a field takes just one."""
    for name, field in cls.model_fields.items():
        kinds = [kind for kind in members(typed(field)) if is_spec(kind)]
        if len(kinds) == 1:
            yield name, kinds[0]


def _same(cls: type[Spec], base: type[Spec], name: str) -> bool:
    return repr(cls.model_fields[name]) == repr(base.model_fields[name])


def _class(cls: type[Spec], *without: str) -> list[str]:
    names = [name for name in cls.model_fields if name not in ("type", *without)]
    return [summary(cls).replace("``", "`"), *([_table(cls, names)] if names else [])]


def _table(cls: type[Spec], names: Sequence[str]) -> str:
    said = meanings(cls)
    rows = [("field", "value", "default", "meaning"), ("---",) * 4]
    for name in names:
        field = cls.model_fields[name]
        rows.append((f"`{name}`", _value(field), _default(field), said.get(name, "").replace("``", "`")))
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)


def _value(field: FieldInfo) -> str:
    """A field's type in words."""
    kinds = [kind for kind in members(typed(field)) if is_spec(kind)]
    if len(kinds) == 1:
        return "a mapping, see below"
    return describe(typed(field))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = default_of(field)
    if default is None:
        return ""
    if isinstance(default, dict):
        return f"`{{{', '.join(f'{key}: {value}' for key, value in default.items())}}}`"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


if __name__ == "__main__":
    print(reference(), end="")
