"""What installed packages add to the config language: entry points of our groups, read without importing anything else.

A package offers a class under the name that YAML gives it: ``lion = "cnnforge_lion:Lion"`` in the group
``cnnforge.optimizers``. One that cannot be used is kept with its reason and harms no config that does not name it.

``importlib.metadata`` would cost every command its own import (some 60 ms) and 13 ms for a hundred packages; looking
through the folders takes 2 ms.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, TypeVar, get_args

from cnnforge.errors import ConfigError

T = TypeVar("T")

BLOCKS, LOSSES, OPTIMIZERS, OPS = "cnnforge.blocks", "cnnforge.losses", "cnnforge.optimizers", "cnnforge.ops"

_LINE = re.compile(r"([A-Za-z_][\w-]*)\s*=\s*([\w.]+)\s*:\s*(\w+)")


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """``name = module:attribute`` in a ``group`` of an installed ``package``."""

    group: str
    name: str
    module: str
    attribute: str
    package: str

    def __str__(self) -> str:
        return f"{self.name} = {self.module}:{self.attribute} in [{self.group}] of {self.package}"


#: Entry points that cannot be used -> why. What was once found to be broken stays so for as long as Python runs.
_BROKEN: dict[EntryPoint, str] = {}


def broken(name: str | None = None) -> list[ConfigError]:
    """What is wrong with the plugins that could not be used so far: all, or those that offer ``name``."""
    return [_error(point, why) for point, why in _BROKEN.items() if name is None or name == point.name]


def _error(point: EntryPoint, why: str) -> ConfigError:
    return ConfigError(
        f"'{point.name}' of the installed package {point.package} cannot be used",
        where=f"entry point {point}",
        why=why,
        fix=f"another version of {point.package}, or pip uninstall {point.package}",
    )


def classes(group: str, base: type[T], taken: Collection[str]) -> list[type[T]]:
    """The classes that packages offer in ``group``: subclasses of ``base`` whose ``type`` is the entry point's name.

    taken: the names of those that come with cnnforge
    """
    found = []
    for point in _free(group, taken):
        cls = _loaded(point)
        if point in _BROKEN:
            continue
        if not (isinstance(cls, type) and issubclass(cls, base)):
            _BROKEN[point] = f"{point.module}:{point.attribute} is not a subclass of {base.__module__}.{base.__name__}"
        elif (kind := _kind(cls)) != point.name:
            _BROKEN[point] = f"""the class needs 'type: Literal["{point.name}"]', it has {kind or "none"}"""
        else:
            found.append(cls)
    return found


def objects(group: str, kind: type[T], taken: Collection[str]) -> dict[str, T]:
    """The objects of ``kind`` that packages offer in ``group``, by name."""
    found = {}
    for point in _free(group, taken):
        value = _loaded(point)
        if isinstance(value, kind):
            found[point.name] = value
        elif point not in _BROKEN:
            _BROKEN[point] = f"{point.module}:{point.attribute} is not a {kind.__module__}.{kind.__name__}"
    return found


def _kind(cls: Any) -> str:
    """The one value that a config class's ``type`` may have; nothing where it is not one text."""
    field = getattr(cls, "model_fields", {}).get("type")
    values = get_args(field.annotation) if field else ()
    return str(values[0]) if len(values) == 1 else ""


def _free(group: str, taken: Collection[str]) -> list[EntryPoint]:
    """The entry points of ``group`` that nobody else's name stands against."""
    points = [point for point in _installed() if point.group == group]
    free = []
    for point in points:
        others = [other.package for other in points if other.name == point.name and other != point]
        if point.name in taken or others:
            owner = "cnnforge itself" if point.name in taken else " and ".join(others)
            _BROKEN[point] = f"{owner} has a '{point.name}' too, and a name stands for one thing"
        else:
            free.append(point)
    return free


@cache
def _loaded(point: EntryPoint) -> Any:
    try:
        return getattr(import_module(point.module), point.attribute)
    except Exception as error:  # whatever a stranger's module does when it is imported
        _BROKEN[point] = f"importing {point.module} failed: {type(error).__name__}: {error}"
        return None


@cache
def _installed() -> tuple[EntryPoint, ...]:
    """Every entry point of ours on ``sys.path``, in the order of their names; the first copy of a package counts."""
    packages: dict[str, list[EntryPoint]] = {}
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:  # a zip file, or nothing
            continue
        for name in names:
            if not name.endswith((".dist-info", ".egg-info")):
                continue
            try:
                with open(os.path.join(folder, name, "entry_points.txt"), encoding="utf-8") as file:
                    text = file.read()
            except (OSError, UnicodeDecodeError):
                continue
            package = re.sub(r"[-_.]+", "-", name.rpartition(".")[0].partition("-")[0]).lower()
            if "cnnforge." in text and package not in packages:
                packages[package] = list(_parsed(text, package))
    return tuple(sorted((p for points in packages.values() for p in points), key=lambda p: (p.name, p.package)))


def _parsed(text: str, package: str) -> Iterator[EntryPoint]:
    group = ""
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            group = line[1:-1].strip()
        elif group in (BLOCKS, LOSSES, OPTIMIZERS, OPS) and (found := _LINE.match(line)):
            yield EntryPoint(group, found[1], found[2], found[3], package)
