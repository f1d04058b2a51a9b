"""A sweep's config: the ``sweep`` section with the axes of the command line laid over, and what all points share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from cnnforge.config import composition, plain, validation
from cnnforge.config import overrides as command_line
from cnnforge.config.composed import Composed
from cnnforge.config.marks import Mark
from cnnforge.config.merging import Merge
from cnnforge.config.sources import Repository, search_path
from cnnforge.errors import CnnforgeError, ConfigError, ConfigErrors, Path
from cnnforge.spec import RunSpec, SweepSpec

SECTION = "sweep"


@dataclass(frozen=True)
class ComposedSweep:
    """A sweep before any of its points is looked at.

    spec: what the ``sweep`` section says
    base: the overrides that every point starts from
    """

    spec: SweepSpec
    base: tuple[str, ...]
    _composed: Composed
    _config_dir: FilePath | None

    def where(self, *path: str) -> str:
        """Where something of the ``sweep`` section was written."""
        return self._composed.where((SECTION, *path))

    def run(self, values: Mapping[str, Any]) -> RunSpec:
        """The run at a point: ``values`` by key of the space. Raises ConfigErrors with every mistake."""
        words = [*self.base, *self.overrides(values)]
        try:
            composed = composition.compose(words, self._config_dir, "train")
        except ConfigError as error:
            raise ConfigErrors([error]) from None
        return validation.validate(without_sweep(composed), match_data=True)

    @staticmethod
    def overrides(values: Mapping[str, Any]) -> tuple[str, ...]:
        """What makes a point of ``values`` on the command line."""
        return tuple(command_line.written(key, value) for key, value in values.items())


def without_sweep(composed: Composed) -> Composed:
    """The config of one run."""
    return replace(composed, tree={key: part for key, part in composed.tree.items() if key != SECTION})


def compose_sweep(texts: Sequence[str], config_dir: FilePath | None) -> ComposedSweep:
    """The sweep that the overrides ``texts`` describe: with several values they are axes, and with one, where the
    space has that key, the axis's only value.

    Raises ConfigErrors with every mistake of the ``sweep`` section.
    """
    try:
        repository = Repository(search_path(config_dir))
        axes, base = _split(texts, repository)
        composed = composition.compose(base, config_dir, "train")
    except ConfigError as error:
        raise ConfigErrors([error]) from None
    merged = Merge(composed.tree, composed.marks)
    section = merged.tree.get(SECTION, {})
    space = section.get("space", {}) if isinstance(section, dict) else None
    if isinstance(space, dict):
        fixed = [o for o in command_line.parse(base)[0] if o.kind != "remove" and _same(o.key, space)]
        for override in fixed:
            axes.append((override.key, {"choices": [override.value]}, override.text))
        base = [text for text in base if text not in [override.text for override in fixed]]
        for key, axis, text in axes:
            _lay(merged, space, key, axis, command_line.place(text))
    composed = replace(composed, tree=merged.tree, marks=merged.marks)
    spec = _validated(composed)
    if not spec.space:
        raise ConfigErrors([_nothing_varies()])
    folds = [f"data.folds={spec.replicate.folds}"] if spec.replicate.folds else []
    return ComposedSweep(spec, (*base, *folds), composed, config_dir)


def _split(texts: Sequence[str], repository: Repository) -> tuple[list[tuple[str, Any, str]], list[str]]:
    """(key, axis, text) of each override with several values, and the other overrides. Raises ConfigErrors."""
    axes: list[tuple[str, Any, str]] = []
    base: list[str] = []
    errors: list[ConfigError] = []
    for text in texts:
        try:
            axis = _axis(text, repository)
        except ConfigError as error:
            errors.append(error)
            continue
        if axis is None:
            base.append(text)
        else:
            axes.append((*axis, text))
    if errors:
        raise ConfigErrors(errors)
    return axes, base


def _axis(text: str, repository: Repository) -> tuple[str, Any] | None:
    if plain.parse(text) is not None or not command_line.is_short(text):
        return None
    try:
        from cnnforge.config import beyond

        found = beyond.swept(text)
    except ImportError:
        return None  # composing says what is missing
    except beyond.Refused as refused:
        if "=" not in text or "[" in text.partition("=")[0]:
            return None  # no override, or none of ours: composing says why
        fix = "a,b,c, range(1,4), choice(a,b), interval(0.1,1) or glob(*), each with its brackets closed"
        if text.startswith("~"):
            fix = text.partition("=")[0]
        raise ConfigError(f"'{text}' cannot be read", where=str(command_line.place(text)), why=refused.why,
                          fix=fix) from None  # fmt: skip
    if found is None or found.axis is not None:
        return None if found is None else (found.key, found.axis)
    assert found.glob is not None
    options = repository.options(found.key) if repository.has_group(found.key) else []
    names = found.glob(options)
    if not names:
        most, count = command_line.MOST_NAMED, len(options)
        known = ", ".join(options) if count <= most else f"{', '.join(options[:most])} and {count - most} more"
        why = f"the configs of {found.key} are {known}" if options else f"{found.key} is not a group"
        fix = "glob(*) takes all configs of a group" if options else "choice(a,b) for values"
        raise ConfigError(f"'{text}' matches nothing", where=str(command_line.place(text)), why=why, fix=fix)
    return found.key, {"choices": names}


def _same(key: str, space: Mapping[str, Any]) -> str | None:
    """The key of the space that ``key``, with or without a ``+``, is."""
    return next((known for known in space if known.lstrip("+") == key.lstrip("+")), None)


def _lay(merged: Merge, space: Mapping[str, Any], key: str, axis: Mapping[str, Any], mark: Mark) -> None:
    """Put an axis into the space; one of that key is replaced, its condition kept."""
    known = _same(key, space) or key
    path: Path = (SECTION, "space", known)
    old = space.get(known)
    if known in space:
        merged.write(path, None, mark)  # so that nothing of it stays, and its place among the axes does
    condition = {"when": old["when"]} if isinstance(old, dict) and "when" in old else {}
    merged.write(path, {**axis, **condition}, mark)


def _validated(composed: Composed) -> SweepSpec:
    own: list[CnnforgeError] = [error for error in composed.errors if error.path[:1] == (SECTION,)]
    spec = None
    try:
        spec = SweepSpec.model_validate(composed.tree.get(SECTION, {}))
    except ValidationError as error:
        from cnnforge.config.explaining import explain

        own += explain(error, composed.tree, (SECTION,), SweepSpec)
    if spec is None or own:
        raise composed.located(own)
    return spec


def _nothing_varies() -> ConfigError:
    return ConfigError(
        "nothing varies: the sweep has no axes",
        where="sweep.space",
        why="a sweep is a run for each of several values",
        fix="sweep=NAME of configs/sweep, or several values: optimizer.lr=0.1,0.01",
    )
