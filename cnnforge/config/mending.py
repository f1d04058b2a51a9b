"""Going on after a mistake: what shapes say of a model whose fields are not all valid."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from cnnforge.blocks import BLOCKS
from cnnforge.config.explaining import explain
from cnnforge.errors import ConfigError, Path, closest
from cnnforge.fields import type_of
from cnnforge.shapes import UNKNOWN_SIZE
from cnnforge.spec import PLACEHOLDER, ModelSpec, layer_of, mistakes

#: Fields that change no shape: a wrong value says nothing against the layers behind it.
HARMLESS = frozenset(
    ("activation", "alpha", "approximate", "bias", "bias_init", "count_include_pad", "epsilon", "flip", "function",
     "groups", "init", "mode", "momentum", "rate", "trainable")
)  # fmt: skip

#: Values that suit every block, for fields without which it cannot be read or whose default may not suit it.
STAND_INS = {"kernel": 1, "groups": 1}


def shape_mistakes(
    tree: Mapping[str, Any], errors: Sequence[ConfigError], unknown: Collection[Path]
) -> list[ConfigError]:
    """Mistakes of shape and reference in a model that has ``errors`` as well.

    A wrong key is read as the one that was meant. Of a layer whose size depends on a wrong value, or that has a key
    which nobody knows, only the channels are known, if at all. ``unknown``: layers of which nothing is known to begin
    with.
    """
    model = tree.get("model")
    if not isinstance(model, Mapping) or "layers" not in model:
        return []
    layers = {} if model["layers"] is None else model["layers"]
    if not isinstance(layers, Mapping):
        return []
    mended: dict[str, Any] = {"input": model.get("input"), "layers": _copied(layers)}
    hidden = set(unknown)
    relevant = [error for error in errors if error.path[:1] == ("model",)]
    wrong = {error.path[1] for error in relevant if len(error.path) > 1}
    if "input" in wrong:
        mended["input"] = [UNKNOWN_SIZE] * 3
    if "loss" in model and "loss" not in wrong:
        mended["loss"] = model["loss"]
    for error in relevant:
        _mend(mended, error.path, hidden)
    for _ in range(2):
        try:
            spec = ModelSpec.model_validate(mended)
        except ValidationError as again:
            for error in explain(again, {"model": mended}, ("model",), ModelSpec):
                _hide(mended, error.path, hidden)
        else:
            return mistakes(spec, hidden)
    return []


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value


def _layer(model: Mapping[str, Any], path: Path) -> tuple[Any, Path]:
    """The layer that ``path`` is in and its own path; None where there is none."""
    _, end = layer_of(path)
    node: Any = {"model": model}
    for key in path[:end]:
        node = node.get(key) if isinstance(node, Mapping) else None
    return (node if end else None), path[:end]


def _mend(model: dict[str, Any], path: Path, hidden: set[Path]) -> None:
    """Leave out the key that ``path`` names, or give it the name that was meant."""
    layer, at = _layer(model, path)
    if not isinstance(layer, dict) or len(path) == len(at):
        _hide(model, path, hidden)
        return
    key = path[len(at)]
    block = BLOCKS.get(str(type_of(layer)))
    if block is not None and key in STAND_INS and key in block.model_fields:
        layer[key] = STAND_INS[str(key)]
        if key not in HARMLESS:
            hidden.add(at)
        return
    if block is None or key not in layer:
        if not isinstance(block, type) or not any(closest(str(other), [str(key)]) for other in layer):
            _hide(model, path, hidden)
        return
    if type_of(layer) == "repeat":  # nothing of it is expanded
        _hide(model, path, hidden)
        return
    value = layer.pop(key)
    if key in block.model_fields:
        if key not in HARMLESS:
            hidden.add(at)
    elif meant := closest(str(key), [f for f in block.model_fields if f not in layer]):
        layer[meant] = value
    else:  # whatever it was meant to say, it may have been about sizes
        hidden.add(at)


def _hide(model: dict[str, Any], path: Path, hidden: set[Path]) -> None:
    """Put another block in the place of a layer of which nothing is known."""
    _, end = layer_of(path)
    if not end:
        return
    node: Any = {"model": model}
    for key in path[: end - 1]:
        node = node.get(key) if isinstance(node, Mapping) else None
    if isinstance(node, dict) and path[end - 1] in node:
        node[path[end - 1]] = dict(PLACEHOLDER)
        hidden.add(path[:end])
