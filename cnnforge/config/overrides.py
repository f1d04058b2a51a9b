"""What the command line says: ``model=lenet5 optimizer.lr=0.1 +model.layers.x={…} ~model.layers.pool2``.

Choosing a group's option decides which files are read; changing a value is done here, because here a key that the
schema knows needs no ``+``, and every mistake can be named with its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cnnforge.config import plain
from cnnforge.config.interpolate import unsupported
from cnnforge.config.marks import Mark
from cnnforge.config.plain import Override
from cnnforge.config.scalars import MAX_DIGITS
from cnnforge.config.scan import CALLS, MAX_DEPTH
from cnnforge.config.sources import Repository, is_name
from cnnforge.errors import ConfigError, Path, UnknownName, dotted, suggest

MAX_LENGTH = 10_000
#: Options that an error names; of more, those most like what was asked for.
MOST_NAMED = 12


def place(text: str) -> Mark:
    """The mark of everything that an override wrote."""
    return Mark(f"<override {text!r}>")


def written(key: str, value: Any) -> str:
    """The override that sets ``key`` to ``value``, as it is typed; ``parse`` reads it back as that value."""
    return f"{key}={_text(value)}"


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_text(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_text, value)) + "]"
    plainly = plain.parse(f"x={value}")
    if isinstance(value, str) and (plainly is None or plainly.value != value):
        # Backslashes count double before a quote, and before the closing one.
        return "'" + re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value) + "'"
    return str(value)


def parse(texts: Sequence[str]) -> tuple[list[Override], list[ConfigError]]:
    """The overrides that can be read, and an error for each of the others."""
    good: list[Override] = []
    errors: list[ConfigError] = []
    for text in texts:
        try:
            good.append(_parsed(text))
        except ConfigError as error:
            errors.append(error)
    return good, errors


def _error(
    text: str, what: str, why: str, fix: str, path: Path = (), kind: type[ConfigError] = ConfigError
) -> ConfigError:
    where = f"{place(text)} ({dotted(path)})" if path else str(place(text))
    return kind(what, where=where, why=why, fix=fix, path=path)


def _parsed(text: str) -> Override:
    override = plain.parse(text)
    if override is None:
        _refuse_size(text)
        override = _beyond_plain(text)
    if override.key.split(".")[0].split("/")[0] == "hydra":
        why = "cnnforge uses Hydra to compose configs and for nothing else"
        raise _error(
            text, "Hydra's own settings are not part of the language", why, "remove it; run.dir says where runs go"
        )
    _check_value(text, override.value)
    return override


def _depth(text: str) -> int:
    depth = deepest = 0
    for c in text:
        depth += (c in "[{(") - (c in "]})")
        deepest = max(deepest, depth)
    return deepest


def is_short(text: str) -> bool:
    """May a grammar see it?"""
    return len(text) <= MAX_LENGTH and _depth(text) <= MAX_DEPTH


def _refuse_size(text: str) -> None:
    """What is refused before a grammar sees it."""
    if not is_short(text):
        why = f"{len(text):,} characters, {_depth(text)} brackets deep; at most {MAX_LENGTH:,} and {MAX_DEPTH} are read"
        raise _error(f"{text[:40]}…", "the override is too long or too deep", why, "write it into a YAML file")


def _beyond_plain(text: str) -> Override:
    key, equals, value = text.partition("=")
    if not equals:
        why = "an override is 'key=value', '+key=value' or '~key'"
        raise _error(text, f"'{text}' is not an override", why, f"{text}=…, or cnnforge --help for the commands")
    try:
        from cnnforge.config import beyond
    except ImportError as error:
        why = f"the installed hydra-core does not have what its grammar needs: {error}"
        raise _error(text, "only plain overrides can be read", why, "pip install 'hydra-core>=1.3.8,<1.4'") from None
    try:
        return beyond.parse(text)
    except beyond.Refused as refused:
        fix = f"quote the value: {key}=\"'{value}'\""
        if key != key.strip():
            fix = f"no spaces around '=': {key.strip()}={value.strip()}"
        elif "[" in key:
            fix = f"an element of a list is named by its number: {key.replace('[', '.').replace(']', '')}={value}"
        elif "sweep" in refused.why:
            fix = f"cnnforge train -m for a run of each; as one value, a list, in brackets: {key}=[{value}]"
            if "(" in value:
                fix = "cnnforge train -m for a run of each"
        elif "@" in key:
            fix = f"{key.partition('@')[0]}={value}"
        raise _error(text, f"'{key}={value}' cannot be read", refused.why, fix) from None


def _check_value(text: str, value: Any) -> None:
    if isinstance(value, dict | list):
        for item in (*value.keys(), *value.values()) if isinstance(value, dict) else value:
            _check_value(text, item)
    elif isinstance(value, str) and (problem := unsupported(value)):
        raise _error(text, f"'{value}' is not allowed", problem.why, problem.fix)
    elif isinstance(value, str) and value in CALLS:
        raise _error(text, f"'{value}' is not allowed", "configs never name Python objects", "say it with 'type:'")
    elif isinstance(value, int) and abs(value) >= 10**MAX_DIGITS:
        raise _error(
            text, "a number of too many digits", f"{MAX_DIGITS} are enough for any size or seed", "a smaller number"
        )


def check_choices(overrides: Sequence[Override], repository: Repository) -> list[ConfigError]:
    """An error for every ``group=option`` that names no file."""
    errors: list[ConfigError] = []
    for override in overrides:
        group, value, text = override.key, override.value, override.text
        if "/" in group and not repository.has_group(group):
            known = repository.groups()
            fix = suggest(group, known) or "a value is changed with a dot: group.key=…"
            why = f"the groups are {', '.join(known)}"
            errors.append(_error(text, f"there is no group '{group}'", why, fix, kind=UnknownName))
        elif is_choice(override, repository) and override.kind != "remove":
            known = repository.options(group)
            options = f"one of {', '.join(known)}" if len(known) <= MOST_NAMED else f"one of its {len(known)} configs"
            if not isinstance(value, str):
                why = f"{group} is a group of configs"
                errors.append(_error(text, f"{group}: {value} is not the name of a config", why, options, (group,)))
            elif not is_name(value):
                why = "a config's name is letters, digits, _ and -, and never a path"
                fix = f"{options}; --config-dir DIR adds your own folder"
                errors.append(_error(text, f"{group}: '{value}' is not a name", why, fix, (group,)))
            elif not repository.has_config(f"{group}/{value}"):
                errors.append(unknown_option(repository, group, value, str(place(text))))
    return errors


def is_choice(override: Override, repository: Repository) -> bool:
    """Does it choose (or remove) a group's option rather than change a value?"""
    return not isinstance(override.value, dict) and repository.has_group(override.key)


def unknown_option(repository: Repository, group: str, option: str, where: str) -> ConfigError:
    """``model: there is no 'lenett'``, with what there is."""
    options = repository.options(group)
    if len(options) > MOST_NAMED:
        from difflib import get_close_matches

        alike = get_close_matches(option, options, MOST_NAMED // 2, cutoff=0)
        why = f"{group} has {len(options)} configs; most like it are {', '.join(alike)}"
    else:
        why = f"the configs of {group} are {', '.join(options)}" if options else f"there is no group '{group}'"
    fix = suggest(option, options) or f"one of them, or write {group}/{option}.yaml into your --config-dir"
    return UnknownName(f"{group}: there is no '{option}'", where=f"{where} ({group})", why=why, fix=fix, path=(group,))


def apply(
    overrides: Sequence[Override],
    tree: dict[str, Any],
    write: Callable[[Path, Any, Mark], None],
    forget: Callable[[Path], None],
) -> list[ConfigError]:
    """Carry the overrides out on ``tree``, in order.

    ``write(path, value, mark)`` sets a value (mappings are merged), ``forget(path)`` removes one. Returns an error for
    each override that cannot be carried out. A key that the *schema* does not know is written like any other:
    validation names it, with what is known there.
    """
    errors: list[ConfigError] = []
    for override in overrides:
        path = _path(override.key, tree)
        problem = _cannot(override, path, tree)
        if problem is not None:
            errors.append(problem)
        elif override.kind == "remove":
            forget(path)
        else:
            write(path, override.value, place(override.text))
    return errors


def _path(key: str, tree: Any) -> Path:
    """``model.input.0`` -> ``("model", "input", 0)``: a number names an element where a list stands."""
    path: list[str | int] = []
    for part in key.split("."):
        step: str | int = int(part) if isinstance(tree, list) and part.isdigit() else part
        path.append(step)
        tree = _inner(tree, step)
    return tuple(path)


def _inner(node: Any, key: str | int) -> Any:
    if isinstance(node, list):
        return node[key] if isinstance(key, int) and key < len(node) else None
    return node.get(key) if isinstance(node, dict) else None


def _cannot(override: Override, path: Path, tree: dict[str, Any]) -> ConfigError | None:
    """Why an override cannot be carried out; None where it can."""
    node: Any = tree
    for depth, key in enumerate(path):
        if isinstance(node, dict | list) and _inner(node, key) is None and not (isinstance(node, dict) and key in node):
            return _new_key(override, path, depth, node, tree)
        if not isinstance(node, dict | list):
            here = dotted(path[:depth])
            what, why = f"{dotted(path)} does not exist", f"{here} is {node!r}"
            return _error(override.text, what, why, "check the key", path, UnknownName)
        node = node[key]  # type: ignore[index, call-overload, unused-ignore]
    if override.kind == "add":
        return _error(override.text, f"{dotted(path)} is already there", "'+' adds what is new",
                      override.text.removeprefix("+"), path)  # fmt: skip
    if override.kind == "remove" and override.value not in (None, node):
        why = f"its value is {node}, not {override.value}"
        return _error(override.text, f"{dotted(path)} cannot be removed", why, f"~{dotted(path)}", path)
    return None


def _new_key(override: Override, path: Path, depth: int, node: Any, tree: dict[str, Any]) -> ConfigError | None:
    """Why ``path[depth]`` cannot be new in ``node``. Only where keys are the user's own (layers) does it need a '+'."""
    here, key = dotted(path[:depth]) or "the config", path[depth]
    known = list(node) if isinstance(node, dict) else []
    if isinstance(node, list):
        why = f"{here} is a list of {len(node)}, counted from 0"
        return _error(
            override.text, f"{dotted(path)} does not exist", why, f"{here}=[…] replaces it", path, UnknownName
        )
    if override.kind == "remove":
        why, fix = f"there is no '{key}' in {here}", suggest(str(key), known) or "leave the override out"
        return _error(override.text, f"{dotted(path)} cannot be removed", why, fix, path)
    if override.kind == "change" and depth:
        from cnnforge.config import schema
        from cnnforge.spec import RunSpec

        if schema.has_free_keys(schema.at(RunSpec, tree, path[:depth])):
            fix = suggest(str(key), known) or f"to add it: '+{dotted(path[: depth + 1])}={{type: …, after: …}}'"
            why = f"{here} holds {', '.join(known)}"
            return _error(override.text, f"there is no '{key}' in {here}", why, fix, path, UnknownName)
    return None
