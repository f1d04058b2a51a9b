"""Pydantic's complaints in our form: what, why, fix, and the path from which the place is found.

One error per field: of a union's members (``kernel`` is an int or a list) only the one that was meant is heard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticUndefined

from cnnforge import plugins
from cnnforge.config import schema
from cnnforge.config.scalars import misread, read
from cnnforge.errors import ConfigError, Path, UnknownName, closest, dotted, suggest
from cnnforge.fields import as_yaml, tag
from cnnforge.spec import TEMPLATES, RunSpec, Template, layer_of

#: Complaints about a value of the right kind, which say more than those about its kind.
_LIMITS = frozenset(
    {"greater_than", "greater_than_equal", "less_than", "finite_number", "too_long", "too_short", "missing"}
)

_NAMES = "names are letters, digits, _ and -, and do not begin with a digit or -"


@dataclass(frozen=True, slots=True)
class _Complaint:
    """One of pydantic's errors, placed.

    path:   the field in the config as written (``init: {filter: x}`` has no ``name``)
    owner:  the class that the field is of;  siblings: the classes that might have stood there instead
    kind:   the field's type;  inner: what follows the field in pydantic's place;  written: what stands there
    """

    error: ErrorDetails
    path: Path
    owner: Any
    kind: Any
    inner: Path
    siblings: Sequence[Any]
    written: Any


def explain(error: ValidationError, tree: Mapping[str, Any], prefix: Path, kind: Any) -> list[ConfigError]:
    """An error for each field that is wrong. ``kind`` is the type that was asked of what stands at ``prefix``."""
    complaints = [_placed(details, tree, prefix, kind) for details in error.errors(include_url=False)]
    by_field: dict[tuple[Path, str], list[_Complaint]] = {}
    for complaint in complaints:
        by_field.setdefault((complaint.path, _about(complaint)), []).append(complaint)
    meant = {_meant(c) for c in complaints if c.error["type"] == "extra_forbidden"}
    model = tree.get("model")
    templates = (
        list(model["templates"]) if isinstance(model, Mapping) and isinstance(model.get("templates"), Mapping) else []
    )
    found = []
    for group in by_field.values():
        complaint = _telling(group)
        if complaint.error["type"] != "missing" or complaint.inner or complaint.path not in meant:
            found.append(_explained(complaint, templates))
    return found


def _about(complaint: _Complaint) -> str:
    """Several validators' messages about one block are several errors; a field's are one."""
    return str(complaint.error["msg"]) if complaint.error["type"] == "value_error" else ""


def _meant(complaint: _Complaint) -> Path | None:
    """The field that an unknown key was meant to be, so that it is not called missing as well."""
    known = schema.fields(complaint.owner)
    meant = closest(str(complaint.path[-1]), known)
    return (*complaint.path[:-1], meant) if meant else None


def _placed(error: ErrorDetails, tree: Mapping[str, Any], prefix: Path, kind: Any) -> _Complaint:
    """Follow pydantic's place through the classes, leaving out the names of union members that it puts between."""
    value: Any = tree
    for key in prefix:
        value = _inside(value, key)
    path, owner, short = prefix, None, False
    options: Sequence[Any] = ()
    siblings: Sequence[Any] = ()
    for i, key in enumerate(error["loc"]):
        if not schema.is_spec(kind) and key in schema.tags(kind):  # the member of a union that ``type`` names
            options = [cls for cls in schema.members(kind) if schema.is_spec(cls)]
            kind = next(cls for cls in options if tag(cls) == key)
            short = not isinstance(value, Mapping) or "type" not in value
            if short and _inside(value, key) is not None:  # {filter: sobel}: what follows is written here
                path, value = (*path, key), _inside(value, key)
            continue
        here = schema.chosen(kind, value) if not short else kind
        if isinstance(key, int) and (one := schema.item(here)) is not None:
            kind = one
            if isinstance(value, list):  # a mapping may stand for a list of it alone
                path, value = (*path, key), value[key]
            continue
        if key == "[key]" or not (schema.is_spec(here) or schema.has_free_keys(here)):
            return _Complaint(error, path, owner, kind, error["loc"][i:], siblings, value)
        owner, siblings, options = here, options, ()
        kind = schema.at(here, value, (key,))
        if not short:
            path, value = (*path, key), _inside(value, key)
        short = False
    return _Complaint(error, path, owner, kind, (), siblings, value)


def _inside(value: Any, key: str | int) -> Any:
    return value.get(key) if isinstance(value, Mapping) else None


def _telling(group: Sequence[_Complaint]) -> _Complaint:
    """Of the complaints about one field, the one about the union member that was meant."""
    # pydantic counts only the values that are right: a list that is long enough is not too short.
    group = [c for c in group if not _long_enough(c)] or group
    lists = [c for c in group if c.inner and str(c.inner[0]).startswith("tuple[")]
    given_list = any(isinstance(c.error["input"], list | tuple) for c in group)
    about = lists if lists and given_list else [c for c in group if c not in lists] or list(group)
    return next((c for c in about if c.error["type"] in _LIMITS), about[0])


def _long_enough(c: _Complaint) -> bool:
    value = c.error["input"]
    least = (c.error.get("ctx") or {}).get("min_length", 0)
    return c.error["type"] == "too_short" and isinstance(value, list | tuple) and len(value) >= least


def _explained(c: _Complaint, templates: Sequence[str]) -> ConfigError:
    details, path = c.error, c.path
    subject, field = _subject(path)
    label = _label(c)
    if c.inner[:1] == ("[key]",):
        text = f"{as_yaml(path[-1])} is not a name"
        return ConfigError(text, path=path, why=_NAMES, fix=_as_name(str(path[-1])))
    match details["type"]:
        case "extra_forbidden":
            known = schema.fields(c.owner)
            why = f"{label} knows {', '.join(known)}"
            fix = _belongs(c) or suggest(str(path[-1]), known) or _elsewhere(path) or "remove it"
            return UnknownName(_say(_owner_subject(path), f"unknown key '{path[-1]}'"), path=path, why=why, fix=fix)
        case "missing" if not c.inner:
            fix = f"add '{path[-1]}:', {schema.describe(c.kind)}" if c.kind else f"add '{path[-1]}:'"
            return ConfigError(
                _say(_owner_subject(path), f"'{path[-1]}' is missing"), path=path, why=f"{label} needs it", fix=fix
            )
        case "union_tag_invalid" | "union_tag_not_found":
            return _wrong_type(c, templates)
        case "value_error":
            return _wrong_together(c)
        case "mistake":  # our own, which says it all
            said, at = details["ctx"], details["ctx"]["at"]
            return ConfigError(_say(_place(path), said["what"]), path=(*path, *at), why=said["why"], fix=said["fix"])
    value = details["input"]
    numbers = [part for part in c.inner if isinstance(part, int) and details["type"] != "missing"]
    subject, place = (subject, dotted((field, *numbers))) if field else ("", dotted((subject, *numbers)))
    return ConfigError(
        _say(subject, f"{place} cannot be {as_yaml(value)}"), path=path, why=_rule(c, value), fix=_fix(c, value)
    )


def _subject(path: Path) -> tuple[str, str]:
    """Whose mistake it is, and the rest of the path: a layer or template by its name, anything else by its group."""
    layer, end = layer_of(path)
    if layer:
        return layer, dotted(path[end:])
    if path[:2] == TEMPLATES and len(path) > 2:
        return f"templates.{path[2]}", dotted(path[3:])
    return (str(path[0]), dotted(path[1:])) if path else ("", "")


def _owner_subject(path: Path) -> str:
    """As ``_subject``, of the block that a missing or unknown key belongs to."""
    return _place(path[:-1])


def _place(path: Path) -> str:
    """A block's subject and the rest of its path as one name."""
    subject, field = _subject(path)
    return f"{subject}.{field}" if field else subject


def _say(subject: str, text: str) -> str:
    return f"{subject}: {text}" if subject else text


def _label(c: _Complaint) -> str:
    """What the owner of a field is called: ``conv`` by its type, ``trainer`` by its place."""
    if schema.is_spec(c.owner) and "type" in c.owner.model_fields:
        return tag(c.owner)
    if c.owner is Template:
        return "a template"
    return dotted(c.path[:-1]) or "the config"


def _belongs(c: _Complaint) -> str:
    """The types that know a key which is unknown to the one that was chosen."""
    key = str(c.path[-1])
    types = [tag(cls) for cls in c.siblings if key in cls.model_fields]
    return f"'{key}' belongs to {', '.join(types)}" if types else ""


def _elsewhere(path: Path) -> str:
    """The section that knows a key which is unknown here: ``did you mean 'optimizer.lr'?``"""
    if layer_of(path)[0]:
        return ""
    key = str(path[-1])
    for section, field in RunSpec.model_fields.items():
        for cls in schema.members(field.annotation):
            if section != path[0] and schema.is_spec(cls) and key in cls.model_fields:
                return f"did you mean '{section}.{key}'?"
    return ""


def _wrong_type(c: _Complaint, templates: Sequence[str]) -> ConfigError:
    """No member of a union has that ``type``, or there is none."""
    options, value = schema.tags(c.kind), c.error["input"]
    options += [name for name in templates if name not in options] if "conv" in options else []
    subject = _place(c.path)
    why = f"it is one of {', '.join(options)}"
    if c.error["type"] == "union_tag_invalid":
        name = str(c.error["ctx"]["tag"])
        path = (*c.path, "type") if isinstance(c.written, Mapping) and "type" in c.written else c.path
        if unusable := plugins.broken(name):
            return ConfigError(_say(subject, unusable[0].what), path=path, why=unusable[0].why, fix=unusable[0].fix)
        return ConfigError(_say(subject, f"unknown type '{name}'"), path=path, why=why,
                           fix=suggest(name, options) or f"one of {', '.join(options)}")  # fmt: skip
    if isinstance(value, Mapping) and "type" in value:
        text = f"type cannot be {as_yaml(value['type'])}"
        return ConfigError(_say(subject, text), path=(*c.path, "type"), why=why, fix=f"type: {options[0]}")
    if isinstance(value, Mapping):
        return ConfigError(_say(subject, "'type' is missing"), path=c.path, why=why, fix=f"type: {options[0]}")
    why = f"{subject} is a mapping with a 'type', {why.removeprefix('it is ')}"
    return ConfigError(f"{subject} cannot be {as_yaml(value)}", path=c.path, why=why, fix=f"{{type: {options[0]}, …}}")


def _wrong_together(c: _Complaint) -> ConfigError:
    """A validator's message about several fields of one block."""
    text = str(c.error["msg"]).removeprefix("Value error, ")
    value = c.error["input"]
    named = [key for key in value if f"{key}" in text.split()] if isinstance(value, Mapping) else []
    fix = f"change or remove {' or '.join(named)}" if named else "change one of them"
    return ConfigError(_say(_place(c.path), text), path=(*c.path, *named[:1]),
                       why="these keys do not go together", fix=fix)  # fmt: skip


def _rule(c: _Complaint, value: Any) -> str:
    """The rule that was broken, with its numbers."""
    context = c.error.get("ctx") or {}
    match c.error["type"]:
        case "greater_than":
            return f"{as_yaml(value)} is not above {context['gt']:g}"
        case "greater_than_equal":
            return f"{as_yaml(value)} is below {context['ge']:g}"
        case "less_than":
            return f"{as_yaml(value)} is not below {context['lt']:g}"
        case "finite_number":
            return f"{as_yaml(value)} is not a finite number"
        case "missing" | "too_long" | "too_short":
            return (
                f"it has {len(value)} value{'s' * (len(value) != 1)}"
                if isinstance(value, list | tuple)
                else "it is empty"
            )
        case "string_pattern_mismatch" if schema.is_name(c.kind):
            return _NAMES
    if c.kind is None:
        return f"{_kind(value)} does not belong there"
    takes = schema.describe(c.kind)
    return f"it is {takes}" if schema.words(c.kind) else f"{_kind(value)} is not {takes}"


def _fix(c: _Complaint, value: Any) -> str:
    takes = schema.describe(c.kind) if c.kind else ""
    if isinstance(value, str):
        if c.error["type"] == "string_pattern_mismatch" and schema.is_name(c.kind):
            return _as_name(value)
        complaint = misread(value)
        if complaint and (("true or false" in takes) == (complaint.instead in ("true", "false"))):
            return complaint.instead
        if near := suggest(value, schema.words(c.kind)):
            return near
        only_text = all(schema.bare(option) is str for option in schema.members(c.kind))
        if value and complaint is None and not only_text and not isinstance(read(value)[0], str):
            return f"without quotes: {value}"
    if isinstance(value, float) and value.is_integer() and "whole number" in takes:
        return f"{int(value)}"
    if isinstance(value, int) and takes == "true or false" and value in (0, 1):
        return "true" if value else "false"
    field = c.owner.model_fields.get(str(c.path[-1])) if schema.is_spec(c.owner) and c.path else None
    if (
        field is not None
        and field.default not in (None, PydanticUndefined)
        and isinstance(field.default, str | int | float)
    ):
        return f"{takes}; {as_yaml(field.default)} where it is left out"
    return takes or "remove it"


def _as_name(text: str) -> str:
    made = "".join(ch if ch.isascii() and (ch.isalnum() or ch in "_-") else "_" for ch in text)
    return made if made and not (made[0].isdigit() or made[0] == "-") else f"_{made}"


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    kinds = {bool: "a truth value", str: "text", int: "a whole number", float: "a number with a point"}
    return kinds.get(type(value), "a list" if isinstance(value, list | tuple) else "a mapping")
