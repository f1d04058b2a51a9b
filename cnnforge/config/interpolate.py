"""``${model.name}``: a value that stands elsewhere in the same config.

Only plain references from the root are part of the language; Hydra's and OmegaConf's resolvers (``${oc.env:HOME}``)
would let a stranger's config read the machine it runs on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cnnforge.config.scalars import Misread
from cnnforge.errors import ConfigError, Path, dotted, suggest

_REFERENCE = re.compile(r"\$\{\s*([A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*)\s*\}")
MISSING = "???"
#: References that may be followed in one config, and how many in a row: each may double what the one before stands for.
MAX_REFERENCES = 1000
MAX_CHAIN = 32


def unsupported(text: str) -> Misread | None:
    """Why a text's ``${…}`` is refused; None where it is a plain reference or there is none."""
    if "${" not in _REFERENCE.sub("", text):
        return None
    return Misread(
        "only plain references such as ${model.name} are part of the language; resolvers could read the machine",
        "write the value out, or refer to another key by its path from the root",
    )


def resolve(tree: dict[str, Any]) -> tuple[dict[str, Any], list[ConfigError]]:
    """The tree with every reference replaced by what it refers to, and the references that lead nowhere.

    A reference that is the whole text takes the value as it is; within a text it takes the value as text. ``???``
    stands for a value that must be given.
    """
    run = _Resolver(tree)
    try:
        return {key: run.value(inner, (key,), ()) for key, inner in tree.items()}, run.errors
    except _Endless as endless:
        what, why = (
            "references lead on and on",
            f"following them takes more than {MAX_REFERENCES} steps, or {MAX_CHAIN} in a row",
        )
        return tree, [
            ConfigError(f"{dotted(endless.path)}: {what}", path=endless.path, why=why, fix="write the values out")
        ]


class _Endless(Exception):
    """More references than any config needs."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path


class _Resolver:
    def __init__(self, tree: Mapping[str, Any]) -> None:
        self.tree = tree
        self.errors: list[ConfigError] = []
        self.followed = 0

    def value(self, value: Any, path: Path, seen: tuple[str, ...]) -> Any:
        """``value``, which stands at ``path``, resolved. ``seen``: the references that led here."""
        if isinstance(value, dict):
            return {key: self.value(inner, (*path, key), seen) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.value(inner, (*path, i), seen) for i, inner in enumerate(value)]
        if not isinstance(value, str):
            return value
        if value == MISSING:
            why = "the file leaves it open with ???"
            self.errors.append(
                ConfigError(f"{dotted(path)} must be given", path=path, why=why, fix=f"{dotted(path)}=…")
            )
            return value
        if "${" not in value or unsupported(value):
            return value
        if whole := _REFERENCE.fullmatch(value.strip()):
            return self._follow(whole[1], path, seen)
        return _REFERENCE.sub(lambda found: _text(self._follow(found[1], path, seen)), value)

    def _follow(self, name: str, path: Path, seen: tuple[str, ...]) -> Any:
        """What ``${name}`` at ``path`` refers to, resolved; None with an error where that is nothing."""
        self.followed += 1
        if self.followed > MAX_REFERENCES or len(seen) >= MAX_CHAIN:
            raise _Endless(path)
        target = name.split(".")
        if name in seen or [str(key) for key in path[: len(target)]] == target:
            why = f"{' -> '.join((dotted(path), *seen, name))}"
            return self._fail(path, f"${{{name}}} refers to itself", why, "write the value out in one place")
        node: Any = self.tree
        for part in target:
            if isinstance(node, dict) and part in node:
                node = node[part]
            elif isinstance(node, list) and part.isdigit() and int(part) < len(node):
                node = node[int(part)]
            else:
                known = list(node) if isinstance(node, dict) else []
                why = f"there is no '{part}' among {', '.join(known)}" if known else f"there is no '{part}'"
                fix = suggest(part, known) or "a path from the root: ${model.name}"
                return self._fail(path, f"${{{name}}} refers to nothing", why, fix)
        return self.value(node, tuple(target), (*seen, name))

    def _fail(self, path: Path, what: str, why: str, fix: str) -> None:
        self.errors.append(ConfigError(f"{dotted(path)}: {what}", path=path, why=why, fix=fix))


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
