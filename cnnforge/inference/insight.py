"""A look into a trained model: its first filters, what its layers make of pictures, and where it is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnforge.data import Preprocessing, Split
from cnnforge.inference.evaluation import Evaluation
from cnnforge.model import Model
from cnnforge.report.facts import Activity, Filters, Mistake, Picture, Seen
from cnnforge.spec import Row, RunSpec
from cnnforge.train.transfer import first_values

#: What is shown of each: mistakes, pictures on their way through the net, layers of those, guesses to a mistake.
MOST_MISTAKES, MOST_SEEN, MOST_LAYERS, MOST_GUESSES = 24, 3, 12, 3
#: Activations of the whole net are kept for as many samples as fit these, at most so many.
MOST_BYTES, MOST_MACS, MOST_SAMPLES = 1 << 27, 3e9, 64
#: Layers whose output is worth a look; what others do shows in the next of these.
SHOWN = frozenset({"conv", "conv_transpose", "pool", "global_pool", "fc", "merge"})


def filters_of(spec: RunSpec, model: Model) -> Filters | None:
    """Of the first convolution, before and after; of a net without one the units of an fc on the picture itself."""
    for row in model.spec.table:
        if "w" not in row.params:
            continue
        name, shape = f"{row.name}.w", row.params["w"].shape
        if len(shape) == 2 and shape[0] == np.prod(model.spec.input):
            shape = (*model.spec.input, shape[1])
        if len(shape) != 4:
            return None
        before = first_values(spec, row, "w").reshape(shape)
        return Filters(row.name, before, model.params[name].astype(np.float64).reshape(shape))
    return None


def mistakes_of(evaluation: Evaluation, split: Split) -> tuple[Mistake, ...]:
    """The surest ones, each picture once."""
    found: dict[int, Mistake] = {}
    for question in evaluation.mistakes(MOST_MISTAKES * (4 if evaluation.places > 1 else 1)).tolist():
        number = question // evaluation.places
        if number not in found and len(found) < MOST_MISTAKES:
            truth, said = _answer(evaluation, question)
            found[number] = Mistake(picture_of(split, number), number, truth, said)
    return tuple(found.values())


def _answer(evaluation: Evaluation, question: int) -> tuple[str, tuple[str, ...]]:
    """(what is right, what the model says), in words."""
    p, names = evaluation.probabilities[question], evaluation.names
    if evaluation.task == "classes":
        best = np.argsort(-p, kind="stable")[:MOST_GUESSES]
        return names[int(evaluation.labels[question])], tuple(f"{names[i]} {p[i]:.1%}" for i in best)
    if evaluation.task == "tags":
        right, said = evaluation.labels[question], evaluation.predicted[question]
        wrong = np.flatnonzero(right != said)
        words = [f"{names[i]} {p[i]:.1%}" for i in wrong[np.argsort(-np.abs(p[wrong] - 0.5))][:MOST_GUESSES]]
        return ", ".join(names[i] for i in np.flatnonzero(right)) or "none", tuple(words)
    return _numbers(evaluation.labels[question]), (_numbers(p),)


def _numbers(values: NDArray[Any]) -> str:
    return ", ".join(f"{v:.4g}" for v in values[:MOST_GUESSES]) + (" …" if len(values) > MOST_GUESSES else "")


def picture_of(split: Split, number: int) -> Picture:
    """A sample as people see it: (h, w, 1 or 3). Floats from their least to their greatest value."""
    x: NDArray[Any] = split.x[number]
    x = x if x.shape[-1] == 3 else x[..., :1]
    if x.dtype == np.uint8:
        return x
    low, high = float(x.min()), float(x.max())
    shown: Picture = ((x - low) * (255 / ((high - low) or 1.0))).astype(np.uint8)
    return shown


def activity_of(model: Model, how: Preprocessing, split: Split) -> tuple[tuple[Activity, ...], int]:
    """Of every layer's output, over the first samples of the split; and how many these are."""
    n = min(_affordable(model), len(split))
    if not n:
        return (), 0
    found = model.activations(how.normalize(split.x[:n]))
    rows = []
    for row in model.spec.table:
        values = found[row.name]
        mean, deviation = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
        rows.append(Activity(row.name, row.type, row.output, mean, deviation, float((values == 0).mean())))
    return tuple(rows), n


def _affordable(model: Model) -> int:
    """How many samples' activations are had in a moment, and have room."""
    table = model.spec.table
    room = MOST_BYTES // (4 * max(1, sum(row.activation_size for row in table)))
    time = int(MOST_MACS // max(1, sum(row.macs for row in table)))
    return max(1, min(MOST_SAMPLES, room, time))


def seen_of(model: Model, how: Preprocessing, split: Split, names: Sequence[str]) -> tuple[Seen, ...]:
    """The first pictures of different classes, and what some layers make of each."""
    if not len(split):
        return ()
    numbers = _different(split, min(MOST_SEEN, _affordable(model)))
    found = model.activations(how.normalize(split.x[numbers]))
    layers = [row.name for row in shown_layers(model.spec.table)]
    return tuple(
        Seen(picture_of(split, number), _label(split, number, names), [(name, found[name][i]) for name in layers])
        for i, number in enumerate(numbers)
    )


def _different(split: Split, most: int) -> list[int]:
    if split.y.dtype.kind != "i" or split.y.ndim > 1:
        return list(range(min(most, len(split))))
    return sorted(np.unique(split.y, return_index=True)[1].tolist())[:most]


def _label(split: Split, number: int, names: Sequence[str]) -> str:
    y = split.y[number]
    if split.y.dtype.kind == "i" and split.y.ndim == 1:
        return f"sample {number}: {names[int(y)] if int(y) < len(names) else int(y)}"
    return f"sample {number}"


def shown_layers(table: Sequence[Row]) -> list[Row]:
    """At most some of the layers, evenly from the first to the last: those that a picture of is worth a look."""
    last = len(table) - 1
    worth = [row for i, row in enumerate(table) if i == last or _is_last_of_its_kind(table, i)]
    if len(worth) <= MOST_LAYERS:
        return worth
    places = np.linspace(0, len(worth) - 1, MOST_LAYERS).round().astype(int)
    return [worth[i] for i in places]


def _is_last_of_its_kind(table: Sequence[Row], i: int) -> bool:
    """Is it a layer to show, and not one whose output a norm or an activation alone goes on to shape?"""
    row = table[i]
    shaped = row.type in SHOWN or row.type.endswith(("norm", "activation"))
    follower = table[i + 1] if i + 1 < len(table) else None
    goes_on = (
        follower is not None
        and follower.reads == (i,)
        and follower.output == row.output
        and (follower.type == "activation" or follower.type.endswith("norm"))
    )
    return shaped and not goes_on
