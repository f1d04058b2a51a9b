"""JSON Schema (draft 2020-12) of each config group, for editors: made from the pydantic classes that read the configs.

What our reader takes is valid, and the other way round as far as JSON Schema can say it. It cannot say: what validators
of several fields say (``nesterov`` needs a momentum), that ``5.0`` is no whole number, which keys a template takes,
and what a reference leads to.

Above 400 lines: one walk over the classes, whose cases call each other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, Discriminator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from cnnforge.blocks import AnyBlock
from cnnforge.config.meaning import meanings, summary
from cnnforge.config.schema import describe, is_spec, members, typed
from cnnforge.config.sources import Repository, shipped
from cnnforge.errors import ConfigError, suggest
from cnnforge.fields import NUMBER_PATTERN, Name, Short, Spec, tag
from cnnforge.names import NAME_PATTERN
from cnnforge.spec import ModelSpec, RunSpec
from cnnforge.spec.axis import Axis
from cnnforge.spec.sweep import Objective

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: Where a folder of configs keeps its schemas. No group: its name is none.
FOLDER = ".schema"

_REFERENCE = r"\$\{\s*[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*\s*\}"
_NAME = NAME_PATTERN.strip("^$")
_ENTRY = rf"^((optional|override) )*/?{_NAME}(/{_NAME})*$"
_DEFAULTS: Schema = {
    "description": "The configs that this one starts from, the later ones over the earlier; _self_ is this file.",
    "type": "array",
    "items": {
        "anyOf": [
            {"type": "string", "pattern": rf"^/?{_NAME}(/{_NAME})*$"},
            {
                "type": "object",
                "minProperties": 1,
                "maxProperties": 1,
                "propertyNames": {"pattern": _ENTRY},
                "additionalProperties": {"type": ["string", "null"], "pattern": rf"^{_NAME}(/{_NAME})*$"},
            },
        ]
    },
}


@dataclass(frozen=True, slots=True)
class _Variant:
    """In what kind of document, and where in it, a class stands.

    partial:   something is laid over other configs, so nothing is required and a block may leave out its type
    templates: the document may define types of its own, which are blocks with any keys
    formulas:  a value may be an expression, ``=filters * 2``; so everywhere in blocks
    root:      the whole document, which may have a defaults list
    """

    partial: bool = False
    templates: bool = False
    formulas: bool = False
    root: bool = False

    def __str__(self) -> str:
        return "".join(f".{name}" for name in ("partial", "templates", "formulas", "root") if getattr(self, name))


def groups() -> list[str]:
    """The names that have a schema: the groups of configs, and ``train``, which starts from them."""
    known = Repository([shipped()]).groups()
    return [*(name for name in RunSpec.model_fields if name in known), "experiment", "train"]


def json_schema(group: str) -> Schema:
    """The schema of a file of ``group``. Raises ConfigError where there is no such group."""
    known = groups()
    if group not in known:
        raise ConfigError(
            f"there is no schema of '{group}'",
            where="cnnforge schema",
            why=f"there are {', '.join(known)}",
            fix=suggest(group, known) or f"one of {', '.join(known)}",
        )
    return _Generator().document(group)


def text(schema: Mapping[str, Any]) -> str:
    """A schema as it is printed and kept in files: one definition a line, so that a change to a block is one line."""
    lines = []
    for key, value in schema.items():
        if key == "$defs":
            parts = (f"{_line(name)}: {_line(part)}" for name, part in value.items())
            lines.append('"$defs": {\n' + ",\n".join(parts) + "\n}")
        else:
            lines.append(f"{_line(key)}: {_line(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def write(schemas: Mapping[str, Schema], folder: FilePath) -> list[FilePath]:
    """Write ``folder/.schema/GROUP.json`` of each and return the files. Raises ConfigError where there is no folder."""
    if not folder.is_dir():
        why, fix = "schemas are kept in a folder of config groups", f"mkdir {folder}, or the folder that has them"
        raise ConfigError(f"{folder}: no such folder", where=f"--write {folder}", why=why, fix=fix)
    (folder / FOLDER).mkdir(exist_ok=True)
    files = [folder / FOLDER / f"{group}.json" for group in schemas]
    for file, schema in zip(files, schemas.values(), strict=True):
        file.write_text(text(schema), encoding="utf-8")
    return files


class _Generator:
    def __init__(self) -> None:
        self._defs: Schema = {}

    def document(self, group: str) -> Schema:
        """The schema of a whole file."""
        laid_over = _Variant(partial=True, root=True)
        if group in RunSpec.model_fields:
            kind = typed(RunSpec.model_fields[group])
            whole = self._value(kind, _Variant())
            if kind is ModelSpec:
                using = self._value(kind, _Variant(templates=True))
                whole = {"if": {"required": ["templates"]}, "then": using, "else": whole}
            rules = {"if": {"required": ["defaults"]}, "then": self._value(kind, laid_over), "else": whole}
        else:
            rules = self._value(RunSpec, laid_over)
        return {"$schema": DIALECT, "title": f"cnnforge {group}", **rules, "$defs": dict(sorted(self._defs.items()))}

    def _named(self, name: str, make: Callable[[], Schema]) -> Schema:
        """A reference to a definition, which is made when it is first asked for."""
        if name not in self._defs:
            self._defs[name] = {}  # it may refer to itself
            self._defs[name] = make()
        return {"$ref": f"#/$defs/{name}"}

    def _stand_in(self, variant: _Variant) -> str:
        """The texts that may stand for a value of any type: a reference, ``???``, an expression."""
        formula = "|=.*" if variant.formulas else ""
        return rf"^(\s*{_REFERENCE}\s*|\?\?\?{formula})$"

    def _value(self, kind: Any, variant: _Variant) -> Schema:
        """What may stand where a value of type ``kind`` is asked for; a plain type has a definition of its own."""
        if _holds_specs(kind):
            return self._whole(kind, variant)
        inner = _Variant(formulas=variant.formulas)
        schema = self._whole(kind, inner)
        words = re.sub(r"\W+", "-", describe(kind)).strip("-")[:60] if len(schema) > 1 or "anyOf" in schema else ""
        if not words:
            return schema
        null = ".or-null" if NoneType in (_unwrapped(option)[0] for option in _options(kind)) else ""
        name = f"{words}{null}{inner}"
        while self._defs.setdefault(name, schema) != schema:
            name += "-"
        return {"$ref": f"#/$defs/{name}"}

    def _whole(self, kind: Any, variant: _Variant) -> Schema:
        choices = _merged([choice for option in _options(kind) for choice in self._choices(option, variant)])
        if not choices or any(choice == {"type": "string"} or "$ref" in choice for choice in choices):
            return choices[0] if len(choices) == 1 else {"anyOf": choices} if choices else {}
        texts = [choice["pattern"] for choice in choices if choice.get("type") == "string"]
        others = [choice for choice in choices if choice.get("type") != "string"]
        pattern = "|".join([*texts, self._stand_in(variant)])
        if len(others) == 1 and isinstance(others[0].get("type"), str):
            return {**others[0], "type": [others[0]["type"], "string"], "pattern": pattern}
        last = {"type": "string", "pattern": pattern}
        return {"anyOf": [*others, last]} if others else last

    def _choices(self, kind: Any, variant: _Variant) -> list[Schema]:
        """One schema for each form that a value of type ``kind``, which is no union of plain types, may take."""
        inner, extras = _unwrapped(kind)
        limits = _limits(extras)
        origin = get_origin(inner)
        if inner is NoneType:
            return [{"type": "null"}]
        if inner is bool:
            return [{"type": "boolean"}]
        if inner is int:
            return [{"type": "integer", **limits}]
        if inner is float:
            least = limits.get("minimum", limits.get("exclusiveMinimum"))
            sign = "[+-]?" if least is None or least < 0 else r"\+?"
            return [{"type": "number", **limits}, {"type": "string", "pattern": f"^{sign}{NUMBER_PATTERN}$"}]
        if inner is str:
            # What a reference within a text makes of it is not known.
            with_reference = {"type": "string", "pattern": rf"{limits.get('pattern')}|{_REFERENCE}"}
            return [with_reference if "pattern" in limits else {"type": "string"}]
        if origin is Literal:
            return [{"enum": list(get_args(inner))}]
        if origin in (tuple, list):
            return [self._list(inner, limits, variant)]
        if origin is dict:
            return [self._mapping(inner, limits, variant)]
        if is_spec(inner):
            return [self._named(f"{inner.__name__}{variant}", lambda: self._object(inner, variant))]
        if origin in (Union, UnionType):
            return [self._union(inner, extras, variant)]
        return []

    def _list(self, kind: Any, limits: Schema, variant: _Variant) -> Schema:
        inner = replace(variant, root=False)
        items = [item for item in get_args(kind) if item is not Ellipsis]
        schemas = [self._value(item, inner) for item in items]
        result: Schema = {"type": "array", **_counted(limits, "Items")}
        if get_origin(kind) is tuple and Ellipsis not in get_args(kind):
            result |= {"minItems": len(items), "maxItems": len(items)}
        if all(schema == schemas[0] for schema in schemas):
            return result | {"items": schemas[0]}
        return result | {"prefixItems": schemas, "items": False}

    def _mapping(self, kind: Any, limits: Schema, variant: _Variant) -> Schema:
        key, inner = get_args(kind)
        pattern = _limits(_unwrapped(key)[1]).get("pattern")
        names: Schema = {"propertyNames": {"pattern": pattern}} if pattern else {}
        values = self._value(inner, replace(variant, root=False))
        return {"type": "object", **_counted(limits, "Properties"), **names, "additionalProperties": values or True}

    def _object(self, cls: type[Spec], variant: _Variant) -> Schema:
        """A class: its fields and no other keys."""
        said, inner = meanings(cls), replace(variant, root=False)
        if cls is ModelSpec and variant.partial:  # templates may stand in the config below
            inner = replace(inner, templates=True)
        properties: Schema = {}
        for name, field in cls.model_fields.items():
            later = _LATER.get((cls.__name__, name))
            schema = later(self, inner) if later else self._value(typed(field), inner)
            about: Schema = {"description": _prose(said[name])} if name in said else {}
            default = default_of(field)
            about |= {} if default is None or variant.partial else {"default": default}
            properties[name] = {**about, **schema}
        if "type" in properties:
            properties["type"] = {"const": tag(cls)}
        required = [] if variant.partial else [name for name in _required(cls) if name not in cls.excused]
        excuses = [
            {"if": {"properties": {other: {"const": value}}, "required": [other]}, "else": {"required": [name]}}
            for name, (other, value) in cls.excused.items()
            if not variant.partial
        ]
        return {
            "description": _prose(summary(cls)),
            "type": ["object", "string"],
            "pattern": self._stand_in(variant),
            "properties": {**({"defaults": _DEFAULTS} if variant.root else {}), **properties},
            "additionalProperties": False,
            **({"required": required} if required else {}),
            **({"allOf": excuses} if excuses else {}),
        }

    def _union(self, kind: Any, extras: Sequence[Any], variant: _Variant) -> Schema:
        """Several classes, told apart by ``type``."""
        classes = [option for option in members(kind) if is_spec(option)]
        if _holds_blocks(classes):
            variant = replace(variant, formulas=True)
        base = common_base(classes)
        short = next((e.func for e in extras if isinstance(e, BeforeValidator) and isinstance(e.func, Short)), None)
        name = f"{base.__name__}{variant}"
        if short is None:
            return self._named(name, lambda: self._typed(base, classes, variant))
        return self._named(name, lambda: self._with_short_forms(base, classes, short, variant))

    def _typed(self, base: type[Spec], classes: Sequence[type[Spec]], variant: _Variant) -> Schema:
        tags = [tag(cls) for cls in classes]
        free = [{"type": "string", "pattern": f"{NAME_PATTERN}|{self._stand_in(variant)}"}]
        stand_in = free if variant.templates and _holds_blocks(classes) else [{"$ref": self._text(variant)["$ref"]}]
        shown = {"enum": tags, "enumDescriptions": [_prose(summary(cls)).split("\n")[0] for cls in classes]}
        result: Schema = {
            "type": ["object", "string"],
            "pattern": self._stand_in(variant),
            "properties": {"type": {"description": "Which kind.", "anyOf": [shown, *stand_in]}},
            "allOf": [
                {"if": _of_type(tag(cls)), "then": self._named(f"{cls.__name__}{variant}", self._maker(cls, variant))}
                for cls in classes
            ],
        }
        if not variant.partial:
            return {**result, "required": ["type"]}
        untyped = self._named(f"{base.__name__}{variant}.untyped", lambda: self._untyped(classes, variant))
        return {**result, "allOf": [{"if": {"required": ["type"]}, "else": untyped}, *result["allOf"]]}

    def _maker(self, cls: type[Spec], variant: _Variant) -> Callable[[], Schema]:
        return lambda: self._object(cls, variant)

    def _text(self, variant: _Variant) -> Schema:
        """A text that stands for a value."""
        pattern = self._stand_in(variant)
        return self._named(f"text{'.formulas' * variant.formulas}", lambda: {"type": "string", "pattern": pattern})

    def _untyped(self, classes: Sequence[type[Spec]], variant: _Variant) -> Schema:
        """A block whose type stands in the config that this one is laid over: the fields of all types."""
        found: dict[str, list[Schema]] = {}
        for cls in classes:
            for name, schema in self._object(cls, variant)["properties"].items():
                if schema not in found.setdefault(name, []):
                    found[name].append(schema)
        properties = {name: s[0] if len(s) == 1 else {"anyOf": s} for name, s in found.items() if name != "type"}
        # A template's keys are not known.
        return {"properties": properties, "additionalProperties": variant.templates and _holds_blocks(classes)}

    def _with_short_forms(
        self, base: type[Spec], classes: Sequence[type[Spec]], short: Short, variant: _Variant
    ) -> Schema:
        by_tag = {tag(cls): cls for cls in classes}
        plain = [name for name, cls in by_tag.items() if _required(cls) == ["type"]]
        forms: list[Schema] = [
            {"enum": plain, "enumDescriptions": [_prose(summary(by_tag[name])).split("\n")[0] for name in plain]},
            self._text(variant),
        ]
        for name, field in short.keys:
            schema = self._value(typed(by_tag[name].model_fields[field]), replace(variant, root=False))
            forms.append({
                "type": "object", "properties": {name: schema}, "required": [name], "additionalProperties": False,
            })  # fmt: skip
        return {"anyOf": [*forms, {**self._typed(base, classes, variant), "type": "object"}]}


def _block(generator: _Generator, variant: _Variant) -> Schema:
    """A block that pydantic does not look into, because templates and repetitions are replaced first."""
    return generator._value(AnyBlock, variant)


def _blocks(generator: _Generator, variant: _Variant) -> Schema:
    return generator._value(dict[Name, AnyBlock], variant)  # type: ignore[valid-type,unused-ignore]


def _changes(generator: _Generator, variant: _Variant) -> Schema:
    """Some fields of a block."""
    return generator._value(AnyBlock, replace(variant, partial=True))


def _axes(generator: _Generator, variant: _Variant) -> Schema:
    """By key, an axis or the list of its choices."""
    axis = generator._value(Axis, replace(variant, partial=False))
    return {"type": "object", "additionalProperties": {"anyOf": [{"type": "array", "minItems": 1}, axis]}}


def _objectives(generator: _Generator, variant: _Variant) -> Schema:
    """One, or a list of several."""
    one = generator._value(Objective, replace(variant, partial=False))
    return {"anyOf": [one, {"type": "array", "minItems": 1, "items": one}]}


#: Fields of which pydantic's type does not say all: they are replaced, or their short forms, before it reads the rest.
_LATER: Mapping[tuple[str, str], Callable[[_Generator, _Variant], Schema]] = {
    ("Repeat", "block"): _block, ("Repeat", "first"): _changes,
    ("Template", "block"): _block, ("Template", "layers"): _blocks,
    ("SweepSpec", "space"): _axes, ("SweepSpec", "objective"): _objectives,
}  # fmt: skip


def _of_type(name: str) -> Schema:
    return {"properties": {"type": {"const": name}}, "required": ["type"]}


def _holds_blocks(classes: Sequence[type[Spec]]) -> bool:
    """Are these blocks, beside which templates may stand?"""
    return set(classes) == set(members(AnyBlock))


def common_base(classes: Sequence[type[Spec]]) -> type[Spec]:
    """What all of these build on: ``Block``, ``Loss`` …"""
    return next(c for c in classes[0].__mro__ if issubclass(c, Spec) and all(issubclass(o, c) for o in classes))


def _required(cls: type[Spec]) -> list[str]:
    return [name for name, field in cls.model_fields.items() if field.is_required()]


def _options(kind: Any) -> list[Any]:
    """The members of a union of plain types, annotations kept; a union of blocks is one."""
    inner, extras = _unwrapped(kind)
    if get_origin(inner) not in (Union, UnionType) or any(isinstance(extra, Discriminator) for extra in extras):
        return [kind]
    return [Annotated[option, *extras] if extras else option for arg in get_args(inner) for option in _options(arg)]


def _holds_specs(kind: Any) -> bool:
    """Is there one of our config classes in a type?"""
    return is_spec(kind) or any(_holds_specs(arg) for arg in get_args(kind))


def _unwrapped(kind: Any) -> tuple[Any, list[Any]]:
    """A type without ``Annotated``, and what was said of it."""
    extras: list[Any] = []
    while get_origin(kind) is Annotated:
        for extra in kind.__metadata__:
            extras += extra.metadata if isinstance(extra, FieldInfo) else [extra]
        kind = get_args(kind)[0]
    return kind, extras


_KEYWORDS = {"gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum",
             "pattern": "pattern", "min_length": "min_length", "max_length": "max_length"}  # fmt: skip


def _limits(extras: Sequence[Any]) -> Schema:
    """Constraints by the keyword that JSON Schema has for them."""
    found = {}
    for extra in extras:
        for name, keyword in _KEYWORDS.items():
            if (limit := getattr(extra, name, None)) is not None:
                found[keyword] = limit
    return found


def _counted(limits: Schema, what: str) -> Schema:
    """``min_length`` -> ``minItems`` or ``minProperties``."""
    return {f"{key[:3]}{what}": limits[key] for key in ("min_length", "max_length") if key in limits}


def _merged(choices: Sequence[Schema]) -> list[Schema]:
    """Choices, each once, all given texts as one."""
    texts = [value for choice in choices for value in choice.get("enum", ())]
    rest = [choice for choice in choices if "enum" not in choice]
    unique = [choice for i, choice in enumerate(rest) if choice not in rest[:i]]
    return [*([{"enum": list(dict.fromkeys(texts))}] if texts else []), *unique]


def default_of(field: FieldInfo) -> Any:
    """A default as YAML would write it; None where there is none to show."""
    value = field.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined:
        return None
    if isinstance(value, BaseModel):
        given = value.model_dump(exclude_defaults=True)
        short = any(
            isinstance(extra, BeforeValidator) and isinstance(extra.func, Short)
            for extra in _unwrapped(typed(field))[1]
        )
        return given["type"] if short and list(given) == ["type"] else given or None
    if isinstance(value, tuple):
        return [one.model_dump(exclude_defaults=True) if isinstance(one, BaseModel) else one for one in value]
    return value if value != {} else None


def _prose(text: str) -> str:
    return text.replace("``", "`")
