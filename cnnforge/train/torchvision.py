"""Tensors named and laid out as torchvision's, turned into a net's own.

The map is one rule, not a table per net: our nets and torchvision's have their layers in the same order, so the k-th
layer with weights here is the k-th there. Files keep tensors in any order; torchvision's is found again from the names,
part by part: by number first (``layer1`` before ``layer2``), then by what a part is (``ORDER``). Kinds must agree layer
by layer. It holds for alexnet, vgg, resnet, densenet, squeezenet, googlenet, mobilenet_v2 and efficientnet.

==============================  ========================  ==================================================
torchvision                     here                      layout
==============================  ========================  ==================================================
conv ``weight`` (F, C, KH, KW)  ``w`` (KH, KW, C, F)      also grouped and depthwise
linear ``weight`` (out, in)     ``w`` (in, units)         behind a flatten, in: (C, H, W) there, (H, W, C) here
norm ``weight, bias``           ``gamma, beta``
``running_mean, running_var``   ``mean, var``
``num_batches_tracked``, aux    not used                  googlenet's auxiliary heads
==============================  ========================  ==================================================
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnforge.errors import CheckpointError
from cnnforge.spec import Row

Tensors = Mapping[str, NDArray[Any]]
#: Parts of names that have the same number, in the order of the layers; a norm precedes its conv in densenet's blocks.
ORDER = (
    "features", "squeeze", "norm", "conv", "bn", "denseblock", "layer", "transition", "downsample", "fc", "classifier",
)  # fmt: skip
#: Parts that are not where their number or kind says: (number, place in ORDER).
_EXCEPTIONS = {"squeeze": (0, 0), "norm0": (0, len(ORDER))}
_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "mean", "running_var": "var"}
_OTHER = {"weight": "w", "bias": "b"}
#: densenet's published files say ``norm.1`` for ``norm1``.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d)")


def from_torchvision(tensors: Tensors, rows: Sequence[Row], where: Path) -> dict[str, NDArray[Any]]:
    """``tensors`` by the names and in the layouts of the net whose table is ``rows``.

    Raises CheckpointError where the layers are not of the same kinds in the same order.
    """
    theirs: dict[str, dict[str, NDArray[Any]]] = {}
    for name, array in tensors.items():
        layer, _, part = _OLD_DENSENET.sub(r"\1\2", name).rpartition(".")
        if part in _NORM and not re.match(r"aux\d", layer):
            theirs.setdefault(layer, {})[part] = array
    ours = [index for index, row in enumerate(rows) if row.params]
    renamed: dict[str, NDArray[Any]] = {}
    for index, layer in zip_longest(ours, sorted(theirs, key=_place)):
        there = "nothing" if layer is None else _kind(theirs[layer])
        here = "nothing" if index is None else _kind_here(rows[index])
        if index is None or layer is None or there != here:
            at = "at the end" if index is None else f"at {rows[index].name}"
            raise CheckpointError(
                "its layers are not those of this net",
                where=str(where),
                why=f"{at} the net has {here}, the file {there}" + ("" if layer is None else f" ({layer})"),
                fix="the net that the file was made from; only the sizes of its layers may differ",
            )
        names = _NORM if there == "norm" else _OTHER
        for part, array in theirs[layer].items():
            if part in names:
                renamed[f"{rows[index].name}.{names[part]}"] = _laid_out(array, rows, index)
    return renamed


def _place(layer: str) -> list[tuple[float, float, str]]:
    """What layers are sorted by: each part's number, its place in ORDER, itself."""
    return [(*_EXCEPTIONS.get(part, _number_and_kind(part)), part) for part in layer.split(".")]


def _number_and_kind(part: str) -> tuple[float, float]:
    found = re.match(r"([a-z]*)(\d+)?", part)
    assert found is not None, "both groups may be empty"
    word, number = found.groups()
    return float(number or inf), ORDER.index(word) if word in ORDER else len(ORDER)


def _kind(layer: Tensors) -> str:
    return {1: "norm", 2: "linear", 4: "conv"}.get(layer["weight"].ndim if "weight" in layer else 0, "something else")


def _kind_here(row: Row) -> str:
    kind = {"conv": "conv", "fc": "linear", "batch_norm": "norm"}.get(row.block.type, row.block.type)
    return "a flipped conv" if getattr(row.block, "flip", False) else kind


def _laid_out(array: NDArray[Any], rows: Sequence[Row], index: int) -> NDArray[Any]:
    """A weight in our layout, C-contiguous; vectors as they are."""
    if array.ndim == 4:
        return np.ascontiguousarray(array.transpose(2, 3, 1, 0))
    if array.ndim != 2:
        return array
    below = rows[index]
    while len(below.reads) == 1 and len(below.inputs[0]) == 1 and below.reads[0] >= 0:
        below = rows[below.reads[0]]
        if below.params:
            break
    picture = below.inputs[0]
    if below.block.type == "flatten" and len(picture) == 3 and np.prod(picture) == array.shape[1]:
        height, width, channels = picture
        array = array.reshape(-1, channels, height, width).transpose(0, 2, 3, 1).reshape(len(array), -1)
    return np.ascontiguousarray(array.T)
