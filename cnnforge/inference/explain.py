"""What of a picture mattered for an answer: by hiding parts of it, and by the gradient at the last volume.

Hiding: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4.2. Grad-CAM:
Selvaraju and others, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnforge.data.resample import bilinear
from cnnforge.inference.predict import PIECE, Answer, Task, class_names, says_yes, takes_files, task
from cnnforge.model import INFERENCE_BATCH, Model
from cnnforge.shapes import count
from cnnforge.spec import ModelSpec, Row, ending

#: The hidden square's side is this part of the picture's shorter one, and it moves by half of itself.
PART = 5
#: What may stand behind the last volume: none of it looks at other pictures of a batch.
_BEHIND = ("activation", "dropout", "fc", "flatten", "global_pool", "pool")
_SEEN = "seen_by_grad_cam"


@dataclass(frozen=True)
class Question:
    """Which number of an answer is explained, and whether it speaks for the answer or, as no does, against it."""

    number: int
    sign: int = 1


@dataclass(frozen=True)
class Explanation:
    """What mattered, (H, W) each, on the picture as the network sees it.

    hidden:   how much the number falls where the picture is hidden, on the mean over the squares that hid a pixel
    most:     how much it falls at most, by one square
    grad_cam: from 0 to 1; None where the net has no volume that it could be read from
    """

    hidden: NDArray[np.float64]
    most: float
    grad_cam: NDArray[np.float64] | None


def draw(file: Path, model: Model, answer: Answer) -> None:
    """Write a PNG: the picture as the network sees it, beside what mattered for the answer. Raises OSError."""
    from cnnforge.report.heat_map import HeatMap, save

    assert answer.values is not None
    assert answer.picture is not None
    kind, question = task(model), asked(model, answer)
    found = explain(model, answer.picture, question)
    name, value = class_names(model)[question.number], float(answer.values[question.number])
    if kind == "numbers":
        fall, scale = f"{found.most:.3g}", "the output"
    else:
        fall, scale = f"{found.most * 100:.1f} points", f"the probability of {name}"
    most = float(np.abs(found.hidden).max()) or 1.0
    raises = "lowers" if question.sign > 0 else "raises"
    maps = [
        HeatMap(found.hidden / most, (f"red: hiding it {raises} {scale},", f"by {fall} at most; blue: the opposite"))
    ]
    if found.grad_cam is not None:
        maps.append(HeatMap(found.grad_cam, ("Grad-CAM: where the last volume", "speaks for the answer")))
    save(
        file,
        f"{Path(answer.file).name}: {said(kind, name, value, question)}",
        _seen(model, answer.picture),
        ("what the network sees",),
        maps,
    )


def said(kind: Task, name: str, value: float, question: Question) -> str:
    """The number that is explained, in words: ``cat 97.0%``, ``not cat 97.0%`` where that of a cat is 3%."""
    if kind == "numbers":
        return f"output {value:.4g}"
    return f"{name} {value:.1%}" if question.sign > 0 else f"not {name} {1 - value:.1%}"


def _seen(model: Model, picture: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(H, W, C) network input -> (H, W, 1 or 3), normalisation undone."""
    mean, factor = takes_files(model).constants
    x = picture / factor + mean
    return np.asarray(np.clip(x if x.shape[-1] == 3 else x[..., :1], 0, 255).round().astype(np.uint8))


def asked(model: Model, answer: Answer) -> Question:
    """What there is to explain of an answer: its most probable class, its yes or no, a regression's first number."""
    kind = task(model)
    if kind == "yes_or_no":
        return Question(0, 1 if says_yes(answer) else -1)
    return Question(0 if kind == "numbers" else answer.ranked(1)[0][0])


def explain(model: Model, picture: NDArray[Any], question: Question) -> Explanation:
    """picture: (H, W, C) network input, of a model that gives one vector."""
    hidden, most = occlusion(model, picture, question)
    return Explanation(hidden, most, grad_cam(model, picture, question))


def occlusion(model: Model, picture: NDArray[Any], question: Question) -> tuple[NDArray[np.float64], float]:
    """(how much the number falls where it is hidden (H, W), the most by one square).

    Squares take the picture's mean colour; they reach over its edges, so that each pixel is hidden equally often.
    """
    height, width, _ = picture.shape
    squares = list(_squares(height, width))
    whole = float(model.predict(picture[None])[0, question.number])
    colour = picture.mean(axis=(0, 1))
    falls = np.empty(len(squares))
    piece = max(1, min(INFERENCE_BATCH, PIECE // count(picture.shape)))
    for low in range(0, len(squares), piece):
        part = squares[low : low + piece]
        x = np.repeat(picture[None], len(part), axis=0)
        for i, square in enumerate(part):
            x[i][square] = colour
        falls[low : low + len(part)] = whole - model.predict(x)[:, question.number]
    falls *= question.sign
    total, often = np.zeros((height, width)), np.zeros((height, width))
    for fall, square in zip(falls, squares, strict=True):
        total[square] += fall
        often[square] += 1
    return total / often, float(falls.max())


def _squares(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    side = max(1, min(height, width) // PART)
    step = max(1, side // 2)
    for top in range(step - side, height, step):
        for left in range(step - side, width, step):
            yield slice(max(top, 0), top + side), slice(max(left, 0), left + side)


def grad_cam(model: Model, picture: NDArray[Any], question: Question) -> NDArray[np.float64] | None:
    """(H, W) from 0 to 1: the last volume's channels, each by how much the number grows with it, where they add to it.

    The number is the score, before a last softmax or sigmoid. None where the net has no such volume, or something
    behind it that is more than pooling and fc.
    """
    start = _last_volume(model.spec)
    if start is None:
        return None
    rows = model.spec.table
    seen = model.activations(picture[None])[rows[start - 1].name]
    tail = _tail(rows[start:], seen.shape[1:], model)
    score = tail.forward(seen)
    # mse is the mean of (y - target)^2: this target makes its gradient 1 at the number and 0 elsewhere.
    target = score.copy()
    target[0, question.number] -= question.sign * score.size / 2
    # A bias per channel in front of the tail: its gradient is the sum of the volume's over all positions.
    weights = tail.loss_and_grads(seen, target, {"type": "mse"})[1][f"{_SEEN}.b"]
    heat = np.maximum((seen[0] * (weights / (seen.shape[1] * seen.shape[2]))).sum(axis=-1), 0).astype(np.float64)
    heat = heat / heat.max() if heat.max() > 0 else heat
    resized: NDArray[np.float64] = bilinear((heat.shape[0], heat.shape[1]), (picture.shape[0], picture.shape[1]))(
        heat[None, ..., None]
    )[0, ..., 0]
    return resized


def _last_volume(spec: ModelSpec) -> int | None:
    """The row that reads the last volume with an extent; the volume is its predecessor's."""
    rows = spec.table
    start = len(rows)
    while start and rows[start - 1].type in _BEHIND and rows[start - 1].reads == (start - 2,):
        start -= 1
    while start < len(rows) and rows[start].type in ("activation", "dropout"):
        start += 1  # what an activation lets through is the volume
    if start in (0, len(rows)) or not any("conv" in row.type for row in rows[:start]):
        return None
    volume = rows[start - 1].output
    return start if len(volume) == 3 and volume[0] * volume[1] > 1 else None


def _tail(rows: tuple[Row, ...], volume: tuple[int, ...], model: Model) -> Model:
    """A model of what stands behind the volume, up to the score, with a bias per channel in front."""
    layers: dict[str, Any] = {_SEEN: {"type": "conv", "filters": volume[2], "kernel": 1, "groups": volume[2]}}
    for row in rows:
        block = row.block
        if row is rows[-1] and ending(block) in ("softmax", "sigmoid"):
            if row.type == "activation":
                continue
            block = block.model_copy(update={"activation": "none"})
        if row.type != "dropout":
            names = block.model_dump(mode="json", exclude_none=True, exclude={"after", "input"})
            layers[row.name.replace(".", "-")] = names
    made = Model({"name": "tail", "input": list(volume), "layers": layers}, "numpy", model.precision)
    made.params[f"{_SEEN}.w"] = np.ones_like(made.params[f"{_SEEN}.w"])
    made.params[f"{_SEEN}.b"] = np.zeros_like(made.params[f"{_SEEN}.b"])
    for row in rows:
        for short in row.params:
            made.params[f"{row.name.replace('.', '-')}.{short}"] = model.params[f"{row.name}.{short}"]
    return made
