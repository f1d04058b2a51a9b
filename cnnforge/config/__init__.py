"""The config language's front door: text in, a validated spec or located errors out.

This room alone imports hydra, omegaconf and yaml, and each only where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from cnnforge.config.composed import Composed

if TYPE_CHECKING:
    from pydantic import ValidationError

    from cnnforge.config.sweeping import ComposedSweep
    from cnnforge.errors import ConfigError, ConfigWarning, Path
    from cnnforge.spec import ModelSpec, RunSpec

__all__ = [
    "Composed", "compose", "compose_sweep", "explain", "read_model", "read_run", "run_text", "to_yaml",
    "validate", "validate_model", "warnings",
]  # fmt: skip


def compose(overrides: Sequence[str], *, config_dir: FilePath | None = None, config_name: str = "train") -> Composed:
    """A run's config from the shipped groups, the user's own (which come first) and ``overrides``.

    config_dir: the user's folder; ``./configs`` where it exists and none is given
    Raises ConfigErrors where a file cannot be read or an option names none; other mistakes are kept for ``validate``.
    """
    from cnnforge.config import composition
    from cnnforge.errors import ConfigError, ConfigErrors

    try:
        return composition.compose(overrides, config_dir, config_name)
    except ConfigError as error:
        raise ConfigErrors([error]) from None


def compose_sweep(overrides: Sequence[str], *, config_dir: FilePath | None = None) -> ComposedSweep:
    """A sweep's config: as ``compose``, and overrides with several values are axes of its space.

    Raises ConfigErrors with every mistake in what it says of the sweep; its points are not looked at.
    """
    from cnnforge.config import sweeping

    return sweeping.compose_sweep(overrides, config_dir)


def read_model(source: Mapping[str, Any] | str | FilePath) -> Composed:
    """A model by itself, for Python: a dict, YAML text, or the path of a YAML file with the keys of ``model``."""
    from cnnforge.config import reading

    return reading.read(source, ("model",))


def read_run(source: Mapping[str, Any] | str | FilePath, overrides: Sequence[str] = ()) -> Composed:
    """A whole run's config, such as the ``config.yaml`` of a run folder: a dict, YAML text, or a path.

    overrides: changes of values, as on the command line; no group is composed, so none can be chosen
    """
    from cnnforge.config import reading

    return reading.read(source, (), overrides)


def validate(composed: Composed, *, match_data: bool = True) -> RunSpec:
    """The run that a config describes. ``match_data`` also compares the model's output with the data's classes.

    Raises ConfigErrors with every mistake, each with its place.
    """
    from cnnforge.config import validation

    return validation.validate(composed, match_data)


def validate_model(composed: Composed) -> ModelSpec:
    """The model that ``read_model`` read. Raises ConfigErrors with every mistake, each with its place."""
    from cnnforge.config import validation

    return validation.validate_model(composed)


def warnings(composed: Composed, run: RunSpec) -> list[ConfigWarning]:
    """What is hardly meant in ``run``, which ``validate`` made of ``composed``, each with its place."""
    from cnnforge.config import linting

    return linting.warnings(composed, run)


def explain(error: ValidationError, tree: Mapping[str, Any], prefix: Path = ()) -> list[ConfigError]:
    """Pydantic's complaints about what stands at ``prefix`` of ``tree``, in our form; for parts given from Python."""
    from cnnforge.config import explaining, schema
    from cnnforge.spec import ModelSpec, RunSpec

    kind = schema.at(RunSpec, tree, prefix) or schema.at(ModelSpec, tree, prefix)
    return explaining.explain(error, tree, prefix, kind)


def to_yaml(tree: Mapping[str, Any]) -> str:
    """Plain values as YAML text that reads back as the same values."""
    from cnnforge.config import rendering

    return rendering.to_yaml(tree)


def run_text(run: RunSpec) -> str:
    """The text of a run folder's ``config.yaml``, which ``read_run`` reads back."""
    return to_yaml(run.model_dump(mode="json", exclude_none=True))
