"""Templates and repetitions: replaced by plain blocks before anything is validated.

A template is a block with parameters, used like any other type::

    templates:
      conv_bn:
        parameters: {filters: int, kernel: int = 3, stride: int = 1}
        layers:
          conv: {type: conv, filters: =filters, kernel: =kernel, stride: =stride, padding: =kernel // 2, bias: false}
          norm: {type: batch_norm, activation: relu}
    layers:
      stem:   {type: conv_bn, filters: 16}
      stage1: {type: repeat, times: 3, block: {type: conv_bn, filters: 16}}

What is malformed is left as it stands: validation says what is wrong with it, with the same words as for any block.

Above 400 lines: templates and repetitions are filled in by one walk, as each may stand in the other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from pydantic import Field, ValidationError, model_validator

from cnnforge.blocks import BLOCKS
from cnnforge.errors import ConfigError, Path, suggest
from cnnforge.fields import DECLARATION_PATTERN, Declaration, Name, Spec, as_yaml, mistake
from cnnforge.spec.expressions import ExpressionError, evaluate, is_expression, names
from cnnforge.spec.layers import LAYERS

TEMPLATES: Path = ("model", "templates")
#: Blocks that all templates together may become.
MAX_BLOCKS = 20_000
#: How deep blocks may lie within one another once templates are replaced.
MAX_DEPTH = 32
#: The number of a repetition, in expressions within ``repeat``.
INDEX = "index"
#: Keys that every use of a template may have beside its parameters.
OF_EVERY_BLOCK = ("type", "after", "input")
#: What stands in for a layer that cannot be expanded.
PLACEHOLDER = {"type": "activation", "function": "relu"}

_DECLARED = re.compile(DECLARATION_PATTERN)
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "text": "text",
          "size": "a whole number, or a list of 2 such"}  # fmt: skip


class Template(Spec):
    """A block with parameters: ``layers`` one after another, or one ``block``.

    In their fields ``=name`` stands for a parameter and ``=4 * name`` for arithmetic with + - * // % and brackets.

    parameters: by name, each a type (int, float, bool, text, size) and, where it may be left out, ``= default``
    layers: as under ``model.layers``
    block:  a single block, which then stands under the name of the layer itself
    """

    parameters: dict[Name, Declaration] = Field(default_factory=dict)
    layers: dict[Name, Any] | None = None
    block: dict[Name, Any] | None = None

    @model_validator(mode="after")
    def _one_body(self) -> Template:
        both = self.layers is not None and self.block is not None
        if both or (self.layers is None and self.block is None):
            what = "it has layers and a block" if both else "it has neither layers nor a block"
            raise mistake(
                what, "a template stands for layers or for one block", f"{'keep' if both else 'add'} one of them"
            )
        for name in self.parameters:
            if name in (*OF_EVERY_BLOCK, INDEX):
                what = f"a parameter cannot be called '{name}'"
                why = f"{', '.join(OF_EVERY_BLOCK)} and {INDEX} mean something everywhere"
                raise mistake(what, why, "another name", "parameters", name)
        return self


@dataclass
class Expansion:
    """A model's config without templates.

    tree:    what ``model:`` says, with plain blocks in ``layers``
    origins: path in the whole run's config after expansion -> where it was written, wherever the two differ
    callers: path of an expanded block -> the use of the template that made it
    workings: path of a value that was worked out -> how: ``=n // 2 with n = 3``
    unknown: layers that could not be expanded, with others standing in for them
    """

    tree: dict[str, Any]
    origins: dict[Path, Path] = field(default_factory=dict)
    callers: dict[Path, Path] = field(default_factory=dict)
    workings: dict[Path, str] = field(default_factory=dict)
    unknown: set[Path] = field(default_factory=set)
    errors: list[ConfigError] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Bound:
    """A parameter's value, and where it was written."""

    value: Any
    source: Path


_Scope = Mapping[str, _Bound]


def expand(model: Mapping[str, Any]) -> Expansion:
    """``model`` with every template and repetition replaced by plain blocks."""
    run = _Expander(model)
    layers = model.get("layers")
    if isinstance(layers, Mapping):
        run.result.tree = dict(model) | {"layers": run.layers(layers, LAYERS, LAYERS, {}, ())}
    return run.result


class _Expander:
    def __init__(self, model: Mapping[str, Any]) -> None:
        self.result = Expansion(dict(model))
        templates = model.get("templates")
        self.written: Mapping[str, Any] = templates if isinstance(templates, Mapping) else {}
        self.templates: dict[str, Template] = {}
        for name, body in self.written.items():
            if name in BLOCKS:
                what, why = f"templates.{name}: a block has this name already", "a template's name is a new type"
                self._error((*TEMPLATES, name), what, why, "another name")
                continue
            try:
                self.templates[str(name)] = Template.model_validate(body)
            except ValidationError:
                continue  # said by the validation of ``templates``
        self.blocks = 0
        self.circles: set[frozenset[str]] = set()

    def _error(self, path: Path, what: str, why: str, fix: str) -> None:
        """Once for each place, however often it is used."""
        if not any((e.path, e.why, e.fix) == (path, why, fix) for e in self.result.errors):
            self.result.errors.append(ConfigError(what, path=path, why=why, fix=fix))

    def layers(self, layers: Any, path: Path, source: Path, scope: _Scope, within: tuple[str, ...]) -> Any:
        """``layers`` expanded. path: where they end up;  source: where they were written;  within: open templates."""
        if not isinstance(layers, Mapping):
            return layers
        if path != source:
            self.result.origins[path] = source
        return {
            name: self.block(block, (*path, name), (*source, name), scope, within) for name, block in layers.items()
        }

    def block(
        self,
        raw: Any,
        path: Path,
        source: Path,
        scope: _Scope,
        within: tuple[str, ...],
        elsewhere: Mapping[str, Path] = MappingProxyType({}),
    ) -> Any:
        """``raw`` as plain blocks. ``elsewhere``: the keys that were not written at ``source``, with their places."""
        if not isinstance(raw, Mapping):
            return raw
        if path != source:
            self.result.origins[path] = source
        self.blocks += 1
        if self.blocks > MAX_BLOCKS:
            if self.blocks == MAX_BLOCKS + 1:
                why = "each use of a template makes all of its blocks anew"
                self._error(source, f"templates make more than {MAX_BLOCKS:,} blocks", why, "fewer repetitions")
            return self._unknown(path)
        if len(within) > MAX_DEPTH or len(path) > len(LAYERS) + 2 * MAX_DEPTH:
            what, why = "templates are nested too deeply", f"more than {MAX_DEPTH} blocks lie within one another"
            self._error(source, f"{_subject(source)}: {what}", why, "templates that use fewer others")
            return self._unknown(path)
        kind = self._value(raw.get("type"), (*path, "type"), (*source, "type"), scope)
        if kind == "repeat":
            return self._repeated(raw, path, source, scope, within)
        if isinstance(kind, str) and kind not in BLOCKS and kind in self.written:
            return self._used(kind, raw, path, source, scope, within, elsewhere)
        plain: dict[str, Any] = {}
        fields = BLOCKS[kind].model_fields if isinstance(kind, str) and kind in BLOCKS else raw
        for key, value in raw.items():
            at, of = (*path, key), elsewhere.get(key, (*source, key))
            if key in elsewhere:
                self.result.origins[at] = of
            if key == "layers":
                plain[key] = self.layers(value, at, of, scope, within)
            elif key == "branches" and isinstance(value, Mapping):
                plain[key] = {
                    name: self.layers(layers, (*at, name), (*of, name), scope, within) for name, layers in value.items()
                }
            else:
                plain[key] = self._value(value, at, of, scope)
                if key not in elsewhere and key not in fields:
                    self.result.origins.pop(at, None)  # the key is wrong here, whatever its value
        return plain

    def _value(self, value: Any, path: Path, source: Path, scope: _Scope) -> Any:
        """A field's value, its expressions worked out, and a note of where they came from."""
        if isinstance(value, Mapping):
            return {key: self._value(inner, (*path, key), (*source, key), scope) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._value(inner, (*path, i), (*source, i), scope) for i, inner in enumerate(value)]
        if not is_expression(value):
            return value
        result, given = self._evaluated(value, source, scope)
        self.result.origins[path] = given
        if (used := dict.fromkeys(names(value))) and value[1:].strip() not in used:
            values = (f"{name} = {as_yaml(scope[name].value)}" for name in used if name in scope)
            self.result.workings[path] = f"{value} with {', '.join(values)}"
        return result

    def _evaluated(self, text: str, source: Path, scope: _Scope) -> tuple[Any, Path]:
        """What an expression gives, and who is to blame if it turns out wrong: whoever gave the first value in it, not
        the template that passes it on. None, with an error, where it gives nothing.
        """
        try:
            result = evaluate(text, {name: bound.value for name, bound in scope.items()})
        except ExpressionError as error:
            near = suggest(next((n for n in names(text) if n not in scope), ""), scope)
            fix = error.fix or near or self._names_fix(source)
            self._error(source, f"{_subject(source)}: '{text}' cannot be worked out", error.why, fix)
            return None, source
        return result, next((scope[name].source for name in names(text) if name != INDEX), source)

    def _names_fix(self, source: Path) -> str:
        """What to do about a name in an expression that nothing is called by."""
        if source[: len(TEMPLATES)] == TEMPLATES:
            return f"name it under templates.{source[len(TEMPLATES)]}.parameters"
        return "a number; names belong into templates, whose parameters they are"

    def _repeated(
        self, raw: Mapping[str, Any], path: Path, source: Path, scope: _Scope, within: tuple[str, ...]
    ) -> Any:
        times = self._value(raw.get("times"), (*path, "times"), (*source, "times"), scope)
        block, first = raw.get("block"), raw.get("first", {})
        if type(times) is int and times > MAX_BLOCKS:
            what, why = f"times cannot be {times}", f"a network has at most {MAX_BLOCKS:,} blocks"
            self._error(
                self.result.origins.get((*path, "times"), (*source, "times")),
                f"{_subject(source)}: {what}",
                why,
                "fewer repetitions",
            )
            return self._unknown(path)
        well_formed = (
            type(times) is int
            and times >= 0
            and isinstance(block, Mapping)
            and isinstance(first, Mapping)
            and not raw.keys() - {*OF_EVERY_BLOCK, "times", "block", "first"}
        )
        if not well_formed:
            return dict(raw) | ({"times": times} if "times" in raw else {})
        assert isinstance(block, Mapping)
        layers = {}
        for i in range(1, times + 1):
            inner = {**scope, INDEX: _Bound(i, (*source, "times"))}
            changes = first if i == 1 else {}
            elsewhere = {key: (*source, "first", key) for key in changes}
            at: Path = (*path, "layers", str(i))
            layers[str(i)] = self.block({**block, **changes}, at, (*source, "block"), inner, within, elsewhere)
        return {"type": "sequence", "layers": layers} | self._of_every_block(raw, path, source, scope)

    def _used(
        self,
        name: str,
        raw: Mapping[str, Any],
        path: Path,
        source: Path,
        scope: _Scope,
        within: tuple[str, ...],
        elsewhere: Mapping[str, Path],
    ) -> Any:
        """The blocks that a use of the template ``name`` stands for."""
        template = self.templates.get(name)
        if template is None:
            return self._unknown(path)
        if name in within:
            circle = within[within.index(name) :]
            if frozenset(circle) not in self.circles:
                self.circles.add(frozenset(circle))
                why = " -> ".join((*circle, name))
                self._error(
                    (*source, "type"),
                    f"templates.{name}: it uses itself",
                    why,
                    "another type here: what uses itself never ends",
                )
            return self._unknown(path)
        arguments = self._arguments(name, template, raw, path, source, scope, elsewhere)
        if arguments is None:
            return self._unknown(path)
        self.result.callers[path] = source
        body, inside = (*TEMPLATES, name), (*within, name)
        if template.layers is not None:
            layers = self.layers(template.layers, (*path, "layers"), (*body, "layers"), arguments, inside)
            result: Any = {"type": "sequence", "layers": layers}
        else:
            result = self.block(template.block, path, (*body, "block"), arguments, inside)
        return result | self._of_every_block(raw, path, source, scope)

    def _of_every_block(self, raw: Mapping[str, Any], path: Path, source: Path, scope: _Scope) -> dict[str, Any]:
        found = {}
        for key in OF_EVERY_BLOCK[1:]:
            if key in raw:
                self.result.origins[(*path, key)] = (*source, key)
                found[key] = self._value(raw[key], (*path, key), (*source, key), scope)
        return found

    def _arguments(
        self,
        name: str,
        template: Template,
        raw: Mapping[str, Any],
        path: Path,
        source: Path,
        scope: _Scope,
        elsewhere: Mapping[str, Path],
    ) -> dict[str, _Bound] | None:
        """Each parameter with its value; None where one is wrong, which has been said."""
        layer = layer_of(path)[0]
        takes = f"{name} takes {', '.join(template.parameters) or 'no parameters'}"
        bound: dict[str, _Bound | None] = {}
        for key, written in raw.items():
            if key not in OF_EVERY_BLOCK:
                of = elsewhere.get(key, (*source, key))
                bound[key] = self._given(key, written, of, scope, template, f"{layer}: ", takes)
        for key, declaration in template.parameters.items():
            if key in raw:
                continue
            kind, default = _declared(declaration)
            if default is not None:
                bound[key] = self._default(name, key, kind, default)
                continue
            bound[key] = None
            if not any(other not in template.parameters and suggest(str(other), [key]) for other in raw):
                self._error(source, f"{layer}: '{key}' is missing", takes, f"add '{key}:', {_KINDS[kind]}")
        known = {key: value for key, value in bound.items() if value is not None}
        return known if len(known) == len(bound) else None

    def _given(
        self, key: str, written: Any, source: Path, scope: _Scope, template: Template, layer: str, takes: str
    ) -> _Bound | None:
        """A parameter that a use of a template gives."""
        if key not in template.parameters:
            fix = suggest(str(key), template.parameters) or "remove it"
            self._error(source, f"{layer}unknown key '{key}'", takes, fix)
            return None
        value, giver = self._argument(written, source, scope)
        kind, _ = _declared(template.parameters[key])
        if _fits(value, kind):
            return _Bound(value, giver)
        if not is_expression(written) or value is not None:  # else it has been said
            why = f"the template says {key}: {template.parameters[key]}"
            self._error(giver, f"{layer}{key} cannot be {as_yaml(value)}", why, _KINDS[kind])
        return None

    def _default(self, template: str, key: str, kind: str, default: str) -> _Bound | None:
        """A parameter that a use of a template leaves out."""
        value, place = _literal(default), (*TEMPLATES, template, "parameters", key)
        if _fits(value, kind):
            return _Bound(value, place)
        what = f"templates.{template}: {key} cannot be {default}"
        self._error(place, what, f"its type is {kind}", _KINDS[kind])
        return None

    def _argument(self, written: Any, source: Path, scope: _Scope) -> tuple[Any, Path]:
        """A parameter's value, and who gave it."""
        if isinstance(written, list):
            return [self._argument(inner, (*source, i), scope)[0] for i, inner in enumerate(written)], source
        return self._evaluated(written, source, scope) if is_expression(written) else (written, source)

    def _unknown(self, path: Path) -> dict[str, Any]:
        self.result.unknown.add(path)
        return dict(PLACEHOLDER)


def _subject(source: Path) -> str:
    """Whose mistake it is that stands at ``source``: a template's or a layer's."""
    return f"templates.{source[2]}" if source[: len(TEMPLATES)] == TEMPLATES else layer_of(source)[0]


def layer_of(path: Path) -> tuple[str, int]:
    """The innermost layer that ``path`` is in, by its name, and how much of the path leads to it; "" where none."""
    if path[: len(LAYERS)] != LAYERS or len(path) == len(LAYERS):
        return "", 0
    at = len(LAYERS) + 1
    parts = [path[at - 1]]
    while True:
        if path[at : at + 1] == ("layers",) and len(path) > at + 1:
            parts.append(path[at + 1])
            at += 2
        elif path[at : at + 1] == ("branches",) and len(path) > at + 2:
            parts += path[at + 1 : at + 3]
            at += 3
        else:
            return ".".join(map(str, parts)), at


def _declared(declaration: str) -> tuple[str, str | None]:
    """``int = 3`` -> type, default."""
    found = _DECLARED.fullmatch(declaration)
    assert found is not None
    return found[1], found[2]


def _literal(text: str) -> Any:
    """A default as YAML would read it."""
    if text in ("true", "false"):
        return text == "true"
    if found := re.fullmatch(r"\[\s*(-?\d+)\s*,\s*(-?\d+)\s*\]", text):
        return [int(found[1]), int(found[2])]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _fits(value: Any, kind: str) -> bool:
    match kind:
        case "int":
            return type(value) is int
        case "float":
            return type(value) in (int, float)
        case "bool":
            return type(value) is bool
        case "text":
            return isinstance(value, str)
        case _:
            return type(value) is int or (
                isinstance(value, list) and len(value) == 2 and all(type(n) is int for n in value)
            )
