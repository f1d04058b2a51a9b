"""What nearly every command needs of Hydra's language, read without Hydra.

Importing Hydra takes longer than checking a network. Plain overrides (``model=lenet``, ``optimizer.lr=0.1``) and plain
defaults lists (one option per group, and an experiment that overrides some) are therefore read here; for anything
beyond, these functions answer None and ``beyond`` asks Hydra. Tests hold both to the same answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cnnforge.config.sources import Repository

_KEY = r"([A-Za-z_][A-Za-z0-9_]*(?:\.(?:[A-Za-z_][A-Za-z0-9_-]*|0|[1-9][0-9]*))*)"
_OVERRIDE = re.compile(rf"(\+{{0,2}}){_KEY}=([A-Za-z0-9_.+/-]+)")
_REMOVAL = re.compile(rf"~{_KEY}")
_INT = re.compile(r"-?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+([eE][+-]?[0-9]+)?|[eE][+-]?[0-9]+)")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
#: ``course/padding``: an option in a folder of its group.
_WORDS = re.compile(rf"{_WORD.pattern}(?:/{_WORD.pattern})*")
_CONSTANTS = {"true": True, "false": False, "null": None}
#: Words that Hydra reads as something else in other spellings.
_SPECIAL = frozenset({"true", "false", "null", "inf", "nan"})

Kind = Literal["change", "add", "force", "remove"]


@dataclass(frozen=True, slots=True)
class Override:
    """One override of the command line. ``text``: as it was typed; ``value``: None too where a removal has none."""

    kind: Kind
    key: str
    value: Any
    text: str


@dataclass(frozen=True, slots=True)
class Source:
    """A file that a config is made of, and the package (``model``, or nothing for the root) under which it stands."""

    config_path: str
    package: str
    is_root: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a config in the order in which they are laid over each other, and the groups chosen by a person."""

    sources: tuple[Source, ...]
    chosen: frozenset[str]


def parse(text: str) -> Override | None:
    """A plain override; None where only Hydra's grammar can tell."""
    if removal := _REMOVAL.fullmatch(text):
        return Override("remove", removal[1], None, text)
    found = _OVERRIDE.fullmatch(text)
    if found is None:
        return None
    plus, key, raw = found.groups()
    kind: Kind = "change" if not plus else "add" if plus == "+" else "force"
    if raw in _CONSTANTS:
        return Override(kind, key, _CONSTANTS[raw], text)
    if _INT.fullmatch(raw):
        return Override(kind, key, int(raw), text) if len(raw) < 20 else None
    if _FLOAT.fullmatch(raw):
        return Override(kind, key, float(raw), text)
    plain = _WORDS.fullmatch(raw) and _SPECIAL.isdisjoint(raw.lower().split("/"))
    return Override(kind, key, raw, text) if plain else None


def defaults_list(repository: Repository, root: str, choices: Mapping[str, str]) -> Listing | None:
    """The files that make up ``root`` with ``choices`` of options; None where the lists say more than is plain.

    Plain is: ``root`` names groups, each once, and none but itself; a group's file has no defaults list unless it is an
    ``@package _global_`` one (an experiment) whose list only overrides groups that stand before it.
    """
    entries = repository.entries(root)
    groups = [entry.group for entry in entries if entry.group is not None]
    own = [entry for entry in entries if entry.group is None]
    plain = all(not entry.override and not entry.optional and "/" not in str(entry.group) for entry in entries)
    if not plain or len(set(groups)) < len(groups) or not all(entry.is_self for entry in own) or len(own) > 1:
        return None
    if not set(choices) <= set(groups):
        return None
    chosen = dict(choices)
    sources: list[Source] = [] if own else [Source(root, "", is_root=True)]
    open_groups = set(groups)
    for entry in reversed(entries):  # an experiment at the end decides for the groups before it
        if entry.group is None:
            sources.append(Source(root, "", is_root=True))
            continue
        open_groups.discard(entry.group)
        option = chosen.get(entry.group, entry.option)
        if option is None:
            continue
        path = f"{entry.group}/{option}"
        document = repository.document(path)
        if document is None or document.package not in (None, "_global_"):
            return None
        inner = repository.entries(path)
        if inner and document.package is None:
            return None
        for line in inner:
            group = str(line.group).removeprefix("/")
            if not (line.override and not line.optional and str(line.group).startswith("/") and group in open_groups):
                return None
            if line.option is None:
                return None
            chosen.setdefault(group, line.option)
        sources.append(Source(path, "" if document.package else entry.group))
    return Listing(tuple(reversed(sources)), frozenset(chosen))
