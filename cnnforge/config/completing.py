"""What an override may go on with, for shells: groups, their options, keys, and the values of some.

Keys come from the JSON Schema that lies beside the shipped configs, and the names of layers from the config as the
other words compose it: no pydantic class is loaded, because a person waits for the answer after every press of TAB.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

from cnnforge.config import plain
from cnnforge.config.sources import Repository, search_path, shipped
from cnnforge.errors import CnnforgeError

Node = Mapping[str, Any]

#: Where the shipped configs keep the schema of a whole run.
SCHEMA = FilePath(".schema") / "train.json"

#: How the pattern of a text begins that stands for a value of another kind: ``${seed}``.
STAND_IN = r"^(\s*\$\{"


def complete(word: str, others: Sequence[str], config_dir: FilePath | None) -> list[str]:
    """Every whole word that ``word`` may become; one that ends in ``=`` or ``.`` goes on.

    others: the other overrides of the command, which may choose the model whose layers are meant
    """
    sign = word[: len(word) - len(word.lstrip("+~"))]
    key, is_set, value = word.removeprefix(sign).partition("=")
    repository = Repository(search_path(config_dir))
    groups = repository.groups()
    if is_set:
        found = repository.options(key) if key in groups else _values(key, others, config_dir)
        *given, last = value.split(",")  # several values are the axis of a sweep
        before = "".join(f"{one}," for one in given)
        return [f"{sign}{key}={before}{one}" for one in found if one.startswith(last)]
    if "." not in key:
        heads = [f"{name}{end}" for name, end in _keys("", others, config_dir) if name not in groups or end == "."]
        names = sorted({*heads, *(f"{group}=" for group in groups)})
    else:
        parent = key.rpartition(".")[0]
        names = [f"{parent}.{name}{end}" for name, end in _keys(parent, others, config_dir)]
    if sign == "~":  # what is removed has no value
        names = [name.removesuffix("=") for name in names]
    return [sign + name for name in names if name.startswith(key)]


def _keys(parent: str, others: Sequence[str], config_dir: FilePath | None) -> Iterator[tuple[str, str]]:
    """(key, what follows it) of everything that may stand below ``parent``: ``=`` for a value, ``.`` for more keys."""
    schema = _Schema.shipped()
    node, value = schema.at(parent, _tree(others, config_dir))
    for name, child in schema.children(node, value).items():
        below = value.get(name) if isinstance(value, Mapping) else None
        if schema.is_open(child, below):
            yield name, "."
        if schema.is_value(child):
            yield name, "="


def _values(key: str, others: Sequence[str], config_dir: FilePath | None) -> list[str]:
    schema = _Schema.shipped()
    return schema.texts(schema.at(key, _tree(others, config_dir))[0])


def _tree(others: Sequence[str], config_dir: FilePath | None) -> dict[str, Any]:
    """The config that the finished words make; that of no word at all where they make none."""
    from cnnforge.config import composition

    whole = [word for word in others if plain.parse(word) is not None]
    for words in (whole, []):
        try:
            return composition.compose(words, config_dir, "train").tree
        except CnnforgeError:
            continue
    return {}


class _Schema:
    """A JSON Schema as ``cnnforge schema`` writes it, asked what may stand at a place of a config."""

    def __init__(self, root: Node) -> None:
        self._root = root
        self._defs: Node = root["$defs"]

    @classmethod
    def shipped(cls) -> _Schema:
        """That of a run. Where the file is missing nothing is known."""
        try:
            return cls(json.loads((shipped() / SCHEMA).read_text("utf-8")))
        except (OSError, ValueError):
            return cls({"$defs": {}})

    def at(self, key: str, tree: Any) -> tuple[Node, Any]:
        """The schema of what stands at ``key``, and what stands there in ``tree``."""
        node, value = self._root, tree
        for part in key.split(".") if key else ():
            node = self.children(node, value).get(part, {})
            value = value.get(part) if isinstance(value, Mapping) else None
        return node, value

    def children(self, node: Node, value: Any) -> dict[str, Node]:
        """The keys that an object may have: of a block those of its ``type``, of layers those that are there."""
        found: dict[str, Node] = {}
        for part in self._parts(node, value):
            free = part.get("additionalProperties")
            if isinstance(free, Mapping) and isinstance(value, Mapping):
                found = {str(name): free for name in value} | found
            found = {**part.get("properties", {}), **found}
        found.pop("defaults", None)
        return found

    def is_open(self, node: Node, value: Any) -> bool:
        """Do more keys follow?"""
        parts = list(self._parts(node, value))
        return any("properties" in part or isinstance(part.get("additionalProperties"), Mapping) for part in parts)

    def is_value(self, node: Node) -> bool:
        """May it be set to something that is no mapping?"""
        for part in self._parts(node, None):
            kinds = set(_listed(part.get("type", ()))) - {"object", "null"}
            if str(part.get("pattern", "")).startswith(STAND_IN):
                kinds.discard("string")
            if kinds or "enum" in part or "const" in part:
                return True
        return False

    def texts(self, node: Node) -> list[str]:
        """The values that can be named: ``relu, relu6 …``, ``true, false``."""
        found: list[str] = []
        for part in self._parts(node, None):
            found += [str(text) for text in part.get("enum", ())]
            found += ["true", "false"] if "boolean" in _listed(part.get("type", ())) else []
            found += [str(part["const"])] if "const" in part else []
        return found

    def _parts(self, node: Node, value: Any) -> Iterator[Node]:
        """The schemas that hold for ``value`` at once, references followed, conditions decided."""
        yield node
        inner = [self._defs.get(node["$ref"].rpartition("/")[2], {})] if "$ref" in node else []
        inner += [*node.get("anyOf", ()), *node.get("allOf", ())]
        if "if" in node:
            inner.append(node.get("then" if _holds(node["if"], value) else "else", {}))
        for part in inner:
            yield from self._parts(part, value)


def _holds(condition: Node, value: Any) -> bool:
    """Does ``{"required": […], "properties": {KEY: {"const": …}}}`` hold?"""
    given = value if isinstance(value, Mapping) else {}
    wanted = condition.get("properties", {})
    has = all(key in given for key in condition.get("required", ()))
    return has and all(given.get(key) == rule.get("const") for key, rule in wanted.items() if "const" in rule)


def _listed(kinds: Any) -> Sequence[str]:
    return [kinds] if isinstance(kinds, str) else kinds
