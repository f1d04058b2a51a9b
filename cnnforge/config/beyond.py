"""Hydra itself, for overrides and defaults lists that are not plain.

This uses two of Hydra's inner parts, its override grammar and its defaults-list algorithm, and gives it our scanned
files: Hydra never opens one. Importing it raises ImportError where an installed Hydra has moved them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import Any

from hydra import version
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.default_element import ConfigDefault, GroupDefault, InputDefault
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, FloatRange, Glob, IntervalSweep, OverrideType, RangeSweep
from hydra.core.override_parser.types import Override as HydraOverride
from hydra.errors import HydraException, MissingConfigException
from hydra.plugins.config_source import ConfigResult
from omegaconf.errors import OmegaConfBaseException

from cnnforge.config.plain import Kind, Listing, Override, Source
from cnnforge.config.sources import Entry, Repository
from cnnforge.rng import philox, stream

#: Values that a list on the command line may have.
MOST_VALUES = 10_000
#: How Hydra begins a complaint about a file.
_INSIDE = re.compile(r"In '([^']+)': (.*)")
_KINDS: dict[OverrideType, Kind] = {
    OverrideType.CHANGE: "change",
    OverrideType.ADD: "add",
    OverrideType.FORCE_ADD: "force",
    OverrideType.DEL: "remove",
}


class Refused(Exception):
    """Hydra's complaint in one line. about: the override that it names; within: the config file that it names."""

    def __init__(self, why: str, about: str = "", within: str = "") -> None:
        super().__init__(why)
        self.why, self.about, self.within = why, about, within


class Missing(Exception):
    """A defaults list names a config that no folder has."""

    def __init__(self, config_path: str) -> None:
        super().__init__(config_path)
        self.config_path = config_path


def parse(text: str) -> Override:
    """Any override that Hydra's grammar knows and our language has. Raises Refused."""
    found = _parsed(text)
    key = found.key_or_group
    if found.package is not None:
        raise Refused(f"'@{found.package}' is not part of the language: every group has one place in the config")
    if found.is_sweep_override():
        raise Refused(f"{key} has several values: that is a sweep, and this command takes one config")
    return Override(_KINDS[found.type], key, found.value(), text)


@dataclass(frozen=True, slots=True)
class Swept:
    """An override with several values.

    key: with a ``+`` where the override has one
    axis: ``choices``, or ``low`` and ``high`` (and ``log``); None where ``glob`` is still to be asked
    glob: of the names of a group's configs, those that it takes
    """

    key: str
    axis: Mapping[str, Any] | None
    glob: Callable[[list[str]], list[str]] | None = None


def swept(text: str) -> Swept | None:
    """An override with several values; None where it has one. Raises Refused.

    A shuffled list has the same order each time.
    """
    found = _parsed(text)
    if not found.is_sweep_override():
        return None
    key = found.key_or_group
    if found.package is not None:
        raise Refused(f"'@{found.package}' is not part of the language: every group has one place in the config")
    if found.type is OverrideType.DEL:
        raise Refused("a removal has no values to choose from")
    key = {OverrideType.ADD: "+", OverrideType.FORCE_ADD: "++"}.get(found.type, "") + key
    value = found.value()
    if isinstance(value, Glob):
        return Swept(key, None, value.filter)
    if isinstance(value, IntervalSweep):
        ends: dict[str, Any] = {"low": value.start, "high": value.end}
        if "int" in value.tags:
            ends = {name: int(end) for name, end in ends.items()}
        return Swept(key, ends | ({"log": True} if "log" in value.tags else {}))
    assert isinstance(value, ChoiceSweep | RangeSweep)
    shuffled, value.shuffle = value.shuffle, False
    try:
        choices = list(islice(_listed(found, value), MOST_VALUES + 1))
    except (HydraException, ValueError) as error:
        raise Refused(_first_line(error)) from None
    if len(choices) > MOST_VALUES:
        raise Refused(f"it has more than {MOST_VALUES:,} values")
    return Swept(key, {"choices": _shuffled(key, choices) if shuffled else choices})


def _listed(override: HydraOverride, value: ChoiceSweep | RangeSweep) -> Iterator[Any]:
    if isinstance(value, RangeSweep) and isinstance(value.range(), FloatRange):
        # As the numbers are written: Hydra itself would go from 0.2 to 0.30000000000000004.
        start, stop, step = (Decimal(str(number)) for number in (value.start, value.stop, value.step))
        return iter(FloatRange(start, stop, step))
    return override.sweep_iterator(HydraOverride._convert_value)


def _shuffled(key: str, values: list[Any]) -> list[Any]:
    """In an order that follows from the key alone."""
    words = [philox((i, 0, 0, 0), stream(0, "sweep", key)) for i in range(len(values))]
    return [values[i] for i in sorted(range(len(values)), key=words.__getitem__)]


def _parsed(text: str) -> HydraOverride:
    try:
        (found,) = OverridesParser.create().parse_overrides([text])
    except (HydraException, RecursionError, ValueError) as error:
        raise Refused(_first_line(error).removeprefix("LexerNoViableAltException: ")) from None
    return found


def defaults_list(repository: Repository, root: str, texts: Sequence[str]) -> Listing:
    """The files that make up ``root`` under the overrides ``texts``. Raises Missing and Refused."""
    overrides = [_parsed(text) for text in texts]
    version.setbase("1.3")  # Hydra's own switch, global to it: without it 1.1's rules hold, and warn
    try:
        found = create_defaults_list(
            repo=_View(repository),  # type: ignore[arg-type]
            config_name=root,
            overrides_list=overrides,
            prepend_hydra=False,
            skip_missing=False,
        )
    except MissingConfigException as error:
        raise Missing(str(error.missing_cfg_file)) from None
    except (HydraException, OmegaConfBaseException, ValueError, AssertionError, RecursionError) as error:
        line = _first_line(error)
        if inside := _INSIDE.fullmatch(line):
            raise Refused(inside[2], within=inside[1]) from None
        about = [o for o in overrides if o.key_or_group in line]
        raise Refused(line, str(about[0].input_line) if about else "") from None
    sources = tuple(Source(str(d.config_path), d.package or "", d.primary) for d in found.defaults)
    return Listing(sources, frozenset(key.split("@")[0] for key in found.overrides.override_choices))


def _first_line(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it leads back to itself, or is nested too deeply"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


class _View:
    """Our repository as Hydra's defaults-list algorithm asks for it."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def load_config(self, config_path: str) -> ConfigResult | None:
        document = self._repository.document(config_path)
        if document is None:
            return None
        return ConfigResult(
            provider="cnnforge",
            path=document.source,
            config=document.tree,  # type: ignore[arg-type]  # Hydra only asks whether there is any
            header={"package": document.package},
            defaults_list=[_default(entry) for entry in self._repository.entries(config_path)],
        )

    def config_exists(self, config_path: str) -> bool:
        return self._repository.has_config(config_path)

    def group_exists(self, config_path: str) -> bool:
        return self._repository.has_group(config_path)

    def get_group_options(self, group_name: str, results_filter: ObjectType | None = None) -> list[str]:
        return self._repository.options(group_name)

    def get_sources(self) -> list[object]:
        return []


def _default(entry: Entry) -> InputDefault:
    if entry.group is None:
        return ConfigDefault(path=entry.option)
    return GroupDefault(group=entry.group, value=entry.option, optional=entry.optional, override=entry.override)
