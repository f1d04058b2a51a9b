"""Where numbers stopped being finite: the first layer, the samples, and what went in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnforge.executable import Bound, Executable

#: Kinds of dtype whose numbers are always finite: NumPy knows bfloat16 by none of its own.
WHOLE = "biu"
#: Samples that are named.
NAMED = 8


@dataclass(frozen=True)
class Finding:
    """The first place that holds a number that is not finite.

    what:    one line, e.g. ``conv2 is the first layer whose output is not finite``
    layer:   its name; of a parameter, the parameter's
    samples: numbers of the samples it happened to, in the order of the training split; none where all weights are
        concerned
    numbers: largest and mean absolute value of what the layer reads and of its weights, by name
    intact:  are the weights still finite, so that a checkpoint of them is worth having?
    place:   how far from the beginning of a step it is: data, weights, then each kernel call
    """

    what: str
    layer: str
    samples: tuple[int, ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)
    intact: bool = True
    place: int = 0

    def __str__(self) -> str:
        parts = [self.what]
        if self.samples:
            more = ", …" if len(self.samples) > NAMED else ""
            named = ", ".join(map(str, self.samples[:NAMED]))
            parts.append(f"samples {named}{more} ({len(self.samples)} of the batch)")
        if self.numbers:
            parts.append(", ".join(f"{name} {value:.3g}" for name, value in self.numbers.items()))
        return "; ".join(parts)


def locate(train: Executable, bound: Bound, rows: NDArray[np.int64], names: Mapping[Any, str]) -> Finding | None:
    """Look at the inputs, then at the parameters, then run the batch again, forward, one kernel call at a time.

    bound: holds the batch, before its update;  rows: its samples' numbers;  names: of layers by their path
    None where everything is finite after all. Whatever it finds it runs to the end: where processes share a batch, some
    of these calls are theirs too.
    """
    places = _in_data(train, bound, rows), _in_weights(train), _in_layers(train, bound, rows, names)
    return next((found for found in places if found is not None), None)


def _in_data(train: Executable, bound: Bound, rows: NDArray[np.int64]) -> Finding | None:
    for name, array in (("input", bound.x), ("label", bound.labels)):
        if bad := _samples(train.backend.get(array), rows):
            return Finding(f"the data are not finite: an {name} is nan or infinite", "data", bad)
    return None


def _in_weights(train: Executable) -> Finding | None:
    for name, array in (train.weights.params | train.weights.state).items():
        if not _finite(train.backend.get(array)):
            what = f"{name} is not finite: the gradient of an earlier step was not, or too large"
            return Finding(what, name, intact=False, place=1)
    return None


def _in_layers(train: Executable, bound: Bound, rows: NDArray[np.int64], names: Mapping[Any, str]) -> Finding | None:
    get, first = train.backend.get, None
    for place, call in enumerate(bound.each("forward", "loss"), 2):
        if first is not None:
            continue
        for value, array in zip(call.node.outs, call.outs, strict=True):
            found = get(array)
            if not _finite(found):
                layer = names.get(call.node.path, call.node.path[-1] if call.node.path else call.node.op)
                bad = _samples(found, rows) if value.batched else ()
                what = f"{layer} is the first layer whose output is not finite ({call.node.op})"
                numbers = dict(_sizes(call.node.ins, [get(a) for a in call.ins]))
                first = Finding(what, str(layer), bad, numbers, place=place)
                break
    return first


def _finite(array: Any) -> bool:
    return array.dtype.kind in WHOLE or bool(np.isfinite(array).all())


def _samples(array: Any, rows: NDArray[np.int64]) -> tuple[int, ...]:
    """The samples of a batch whose numbers are not all finite."""
    if _finite(array):
        return ()
    bad = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
    return tuple(int(row) for row in rows[: len(array)][bad])


def _sizes(values: Any, arrays: list[Any]) -> Iterator[tuple[str, float]]:
    """What a kernel call read: how large it is."""
    for value, array in zip(values, arrays, strict=True):
        if array.dtype.kind not in WHOLE and array.size:
            name = "its input" if value.batched else value.name
            size = np.abs(array.astype(np.float64))
            yield f"largest |{name}|", float(size.max())
            yield f"mean |{name}|", float(size.mean())
