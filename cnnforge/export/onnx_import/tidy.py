"""From layers as an exporter wrote them to layers as a person would: fewer, each with its bias and its activation."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from cnnforge.blocks import BLOCKS
from cnnforge.blocks.activation import ALPHA, Function
from cnnforge.export.onnx_import.net import INPUT, Layer

_NORMS = ("batch_norm", "group_norm", "layer_norm")
_LINEAR = ("conv", "conv_transpose", "fc")
#: Of a batch_norm that only scales and shifts: what it divides by is then 1.
_EPSILON = 1e-5


def tidy(layers: dict[str, Layer], last: str) -> list[Layer]:
    """The layers that ``last`` depends on, in running order, with nothing that could stand inside another."""
    kept = _needed(layers, last)
    _join(kept, _join_affine)
    for layer in [one for one in kept.values() if one.type == "affine"]:
        if _does_nothing(layer):
            _replace(kept, layer, layer.reads[0])
        else:
            _finish_affine(layer)
    _join(kept, _join_activation)
    for layer in kept.values():
        if layer.type in _LINEAR and layer.fields.get("bias") is True:
            del layer.fields["bias"]
    return list(kept.values())


def _join(layers: dict[str, Layer], join: Callable[[Layer, Layer], bool]) -> None:
    """Take layers into those before them where ``join`` can, and nobody else reads what was between."""
    readers = _readers(layers)
    for name in list(layers):
        layer = layers[name]
        before = layers.get(layer.reads[0])
        if before is not None and len(layer.reads) == 1 and readers[before.name] == 1 and join(layer, before):
            _replace(layers, layer, before.name)
            readers[before.name] = readers.pop(name)


def _needed(layers: dict[str, Layer], last: str) -> dict[str, Layer]:
    wanted = {last}
    for name in reversed(list(layers)):
        if name in wanted:
            wanted.update(layers[name].reads)
    return {name: layer for name, layer in layers.items() if name in wanted}


def _readers(layers: dict[str, Layer]) -> dict[str, int]:
    """How many layers read each; the last is read by whoever wants the output."""
    readers = dict.fromkeys([INPUT, *layers], 0)
    for layer in layers.values():
        for name in layer.reads:
            readers[name] += 1
    readers[next(reversed(layers))] += 1
    return readers


def _replace(layers: dict[str, Layer], layer: Layer, name: str) -> None:
    """Let those that read ``layer`` read ``name``, and drop it."""
    del layers[layer.name]
    for other in layers.values():
        other.reads = [name if one == layer.name else one for one in other.reads]


def _plain(layer: Layer) -> bool:
    """Could something be added to what the layer gives?"""
    return "activation" not in layer.fields


def _join_affine(layer: Layer, before: Layer) -> bool:
    """Let ``before`` do what an affine behind it does, where it can; say whether."""
    if layer.type != "affine" or not _plain(before):
        return False
    factor, shift = layer.arrays["factor"], layer.arrays["shift"]
    if before.type == "affine":
        before.arrays = {"factor": before.arrays["factor"] * factor, "shift": before.arrays["shift"] * factor + shift}
    elif before.type in _NORMS:
        before.arrays["gamma"] = before.arrays["gamma"] * factor
        before.arrays["beta"] = before.arrays["beta"] * factor + shift
    elif before.type in _LINEAR and np.all(factor == 1):
        before.arrays["b"] = before.arrays["b"] + shift if "b" in before.arrays else shift
        before.fields["bias"] = True
    else:
        return False
    return True


def _join_activation(layer: Layer, before: Layer) -> bool:
    """Let ``before`` end with an activation behind it, where it has a field for that; say whether."""
    if layer.type != "activation" or before.type not in (*_NORMS, *_LINEAR, "merge", "scale") or not _plain(before):
        return False
    function, rest = layer.fields["function"], {k: v for k, v in layer.fields.items() if k not in ("type", "function")}
    if function in ALPHA and rest == {"alpha": ALPHA[function]}:
        rest = {}
    if function not in get_args(Function) or rest or "activation" not in BLOCKS[before.type].model_fields:
        return False
    before.fields["activation"] = function
    return True


def _does_nothing(layer: Layer) -> bool:
    return bool(np.all(layer.arrays["factor"] == 1) and not np.any(layer.arrays["shift"]))


def _finish_affine(layer: Layer) -> None:
    """One factor for all is a scale; a factor and a shift per channel a depthwise 1x1 convolution, or, of a vector, a
    batch_norm whose mean is 0 and whose variance is 1.
    """
    factor, shift = (np.ascontiguousarray(layer.arrays[k], np.float32) for k in ("factor", "shift"))
    if not shift.any() and np.all(factor == factor[0]):
        layer.fields, layer.arrays = {"type": "scale", "factor": _short(float(factor[0]))}, {}
    elif len(layer.shape) == 3:
        layer.fields = {"type": "conv", "groups": "depthwise", "kernel": 1}
        layer.arrays = {"w": factor[None, None, None], "b": shift}
    else:
        ones = np.ones_like(factor)
        layer.fields = {"type": "batch_norm"}
        layer.arrays = {"gamma": factor * np.float32(sqrt(1 + _EPSILON)), "beta": shift, "mean": 0 * ones, "var": ones}


def _short(value: float) -> float:
    """0.1 for the float32 that is nearest to it."""
    short = float(f"{value:.7g}")
    return short if np.float32(short) == np.float32(value) else value


def written(layers: list[Layer]) -> dict[str, dict[str, Any]]:
    """Blocks by name, as YAML has them: ``input`` only where a layer does not read the one before it."""
    tree: dict[str, dict[str, Any]] = {}
    before = INPUT
    for layer in layers:
        fields = dict(layer.fields)
        if layer.type == "merge":
            fields["inputs"] = list(layer.reads)
        elif layer.reads != [before]:
            fields = {"type": fields.pop("type"), "input": layer.reads[0], **fields}
        if "function" in fields and fields["function"] in ALPHA and fields.get("alpha") == ALPHA[fields["function"]]:
            del fields["alpha"]
        tree[layer.name] = fields
        before = layer.name
    return tree


def arrays(layers: list[Layer]) -> dict[str, NDArray[Any]]:
    """Weights and running state by the names that the model gives them."""
    named = {f"{layer.name}.{k}": v for layer in layers for k, v in layer.arrays.items()}
    return {name: np.ascontiguousarray(v, np.float32) for name, v in named.items()}
