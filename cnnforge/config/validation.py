"""Turning a composed config into a spec, or into every mistake it holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from cnnforge.config.composed import Composed
from cnnforge.errors import CnnforgeError, Path
from cnnforge.spec import ModelSpec, RunSpec, data_mismatch, diagnose, mistakes


def validate(composed: Composed, match_data: bool) -> RunSpec:
    """As ``cnnforge.config.validate``."""
    spec, errors = _run(composed)
    if spec is not None and not errors and match_data:
        errors = list(data_mismatch(spec.model, spec.data))
    if spec is None or errors:
        raise composed.located(errors)
    return spec


def validate_model(composed: Composed) -> ModelSpec:
    """As ``cnnforge.config.validate_model``."""
    return validate(composed, match_data=False).model


def _run(composed: Composed) -> tuple[RunSpec | None, list[CnnforgeError]]:
    try:
        spec = RunSpec.model_validate(composed.tree)
    except ValidationError as error:
        from cnnforge.config.explaining import explain

        found: list[CnnforgeError] = [*diagnose(composed.tree)]
        said = {e.path for e in found}
        found += [e for e in explain(error, composed.tree, (), RunSpec) if e.path not in said]
        return None, [*composed.errors, *_new(found, composed.errors)]
    return spec, [*composed.errors, *_new(mistakes(spec.model), composed.errors)]


def _new(found: Sequence[Any], known: Sequence[CnnforgeError]) -> list[CnnforgeError]:
    """``found`` without what follows from a mistake that is known already: the same key, or one inside it."""
    places: set[Path] = {error.path for error in known if error.path}
    return [error for error in found if not any(error.path[:end] in places for end in range(1, len(error.path) + 1))]
