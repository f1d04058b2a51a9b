"""Turning a composed config into a spec, or into every mistake it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from cnnforge.config.composed import Composed
from cnnforge.errors import CnnforgeError, DataError, Path
from cnnforge.spec import Expansion, ModelSpec, RunSpec, data_mismatch, expand, mistakes, mixing_mistakes


def validate(composed: Composed, match_data: bool) -> RunSpec:
    """As ``cnnforge.config.validate``."""
    model = composed.tree.get("model")
    expansion = expand(model) if isinstance(model, Mapping) else Expansion({})
    composed = replace(composed, origins=expansion.origins, callers=expansion.callers, workings=expansion.workings)
    tree = composed.tree | ({"model": expansion.tree} if isinstance(model, Mapping) else {})
    spec, errors = _run(composed, tree, expansion)
    if spec is not None:
        errors += spec.augment.mistakes(*spec.model.input)
    if spec is not None and not errors:  # only then is there a table
        names = {f"{row.name}.{short}": row.block.frozen for row in spec.model.table for short in row.params}
        errors += spec.optimizer.mistakes(names, [name for name, frozen in names.items() if not frozen])
        errors += mixing_mistakes(spec.model, spec.augment)
    if spec is not None and not errors and match_data:
        errors = list(data_mismatch(spec.model, spec.data))
    if spec is None or errors:
        located = composed.located(errors)
        # Data that is not there is no mistake in what was written, and its exit code says so.
        raise located.errors[0] if [type(error) for error in located.errors] == [DataError] else located
    if isinstance(model, Mapping) and expansion.tree["layers"] != model["layers"]:
        spec = spec.model_copy(update={"model": spec.model.written_as(model)})
    return spec


def validate_model(composed: Composed) -> ModelSpec:
    """As ``cnnforge.config.validate_model``."""
    return validate(composed, match_data=False).model


def _run(composed: Composed, tree: dict[str, Any], expansion: Expansion) -> tuple[RunSpec | None, list[CnnforgeError]]:
    known = [*composed.errors, *_new(composed, expansion.errors, composed.errors)]
    try:
        spec = RunSpec.model_validate(tree)
    except ValidationError as error:
        from cnnforge.config.explaining import explain
        from cnnforge.config.mending import shape_mistakes

        explained = explain(error, tree, (), RunSpec)
        found = [*shape_mistakes(tree, explained, expansion.unknown)]
        said = {e.path for e in found}
        found += [e for e in explained if e.path not in said]
        return None, [*known, *_new(composed, found, known)]
    return spec, [*known, *_new(composed, mistakes(spec.model, expansion.unknown), known)]


def _new(composed: Composed, found: Sequence[Any], known: Sequence[CnnforgeError]) -> list[CnnforgeError]:
    """``found`` without what follows from a mistake that is known already: the same key, or one inside it."""
    places: set[Path] = {composed.source(error.path) for error in known if error.path}
    new = []
    for error in found:
        path = composed.source(error.path)
        if not any(path[:end] in places for end in range(1, len(path) + 1)):
            new.append(error)
    return new
