"""How many classes there are, counted where a config leaves it out and the folders on disk say it.

This only lists names: no picture is opened.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from cnnforge.config.composed import Composed
from cnnforge.config.marks import Mark, nearest
from cnnforge.config.merging import Merge
from cnnforge.errors import DataError, Path, dotted

#: Data whose classes are folders or stand in a list.
COUNTED = ("image_folder", "manifest")
#: Bytes of a compressed tar from which on it is not listed: that takes as long as unpacking it.
CHEAP = 64 << 20
#: Layers behind the last one that learns, whose output has as many channels as their input.
_PASSING = ("activation", "dropout", "flatten", "global_pool", "pool", "spatial_dropout")
#: What a layer calls the number of its outputs.
_WIDTH = {"fc": "units", "conv": "filters"}


def count_classes(composed: Composed, model_files: Collection[str]) -> Composed:
    """The config with ``data.classes`` and the last layer's width filled in, as if they had been typed, and notes.

    ``data.classes`` is filled in where it is left out and the pictures lie in folders, in an archive or in a list. Only
    then, and only where a file of the model group says it and nobody else does, the width of the last layer follows.

    model_files: the sources of the model group's files. Where the pictures cannot be found, ``errors`` say so.
    """
    data = composed.tree.get("data")
    if not isinstance(data, Mapping) or data.get("type") not in COUNTED or data.get("classes") is not None:
        return composed
    path, root = data.get("path"), data.get("root")
    if data.get("positive") or not isinstance(path, str) or path == "???" or not isinstance(root, str | None):
        return composed
    try:
        names = _listed(str(data["type"]), path, root)
    except DataError as error:
        there = DataError(error.what, where=error.where, why=error.why, fix=error.fix, path=("data", "path"))
        return replace(composed, errors=(*composed.errors, there))
    if names is None:
        return composed
    mark, merged = Mark(f"<counted in {path}>"), Merge(composed.tree, composed.marks)
    merged.write(("data", "classes"), len(names), mark)
    shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    notes = [f"data.classes: {len(names)}, counted in {path}: {shown}"]
    width = _last_width(composed.tree.get("model"))
    if width is not None:
        key, said = width
        source = nearest(composed.marks, key)
        if said != len(names) and source is not None and source.source in model_files:
            merged.write(key, len(names), mark)
            notes.append(f"{dotted(key)}: {len(names)}, one for each class, where {source} says {said}")
    return replace(composed, tree=merged.tree, marks=merged.marks, notes=(*composed.notes, *notes))


def _listed(kind: str, path: str, root: str | None) -> tuple[str, ...] | None:
    """The names of the classes; None where finding them takes too long. Raises DataError."""
    from cnnforge.data import archive, image_folder

    found = archive.find(kind, path, root)
    if kind != "manifest" and found.is_file() and found.stat().st_size > CHEAP and archive.is_compressed_tar(found):
        return None
    return image_folder.class_names(kind, found)


def _last_width(model: Any) -> tuple[Path, int] | None:
    """(key, number) of how many classes a softmax at the end tells apart; None where no number of a layer says that."""
    layers = model.get("layers") if isinstance(model, Mapping) else None
    if not isinstance(layers, Mapping) or not all(isinstance(layer, Mapping) for layer in layers.values()):
        return None
    loss = model.get("loss")
    softmax = (loss.get("type") if isinstance(loss, Mapping) else loss) == "softmax_cross_entropy"
    behind: list[str] = []
    for name, layer in reversed([*layers.items()]):
        kind = str(layer.get("type"))
        softmax |= layer.get("activation", layer.get("function")) == "softmax"
        if layer.get("after") is not None:
            continue
        behind.append(name)
        if kind not in _PASSING:
            width = _WIDTH.get(kind, "")
            found = softmax and type(layer.get(width)) is int and not _other_width_behind(layers, behind)
            return (("model", "layers", name, width), layer[width]) if found else None
    return None


def _other_width_behind(layers: Mapping[str, Mapping[str, Any]], behind: Collection[str]) -> bool:
    """Does ``after`` put a layer with a width of its own behind one of ``behind``, or behind one that it moved?"""
    moved = {name: layer["after"] for name, layer in layers.items() if layer.get("after") is not None}
    return any(layers[name].get("type") not in _PASSING and (to in behind or to in moved) for name, to in moved.items())
