"""How well a model does on samples whose labels are known: the numbers that a person asks for next after the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnnforge.data import Preprocessing
from cnnforge.errors import DataError
from cnnforge.losses import Loss
from cnnforge.model import INFERENCE_BATCH, Model
from cnnforge.shapes import count
from cnnforge.spec import ModelSpec

#: A yes is a probability above this, or a label that is nearer to 1 than to 0.
THRESHOLD = 0.5

#: Network input: all of it, one piece after another, or what gives the samples from ``low`` to ``high``.
Pictures = NDArray[Any] | Iterable[NDArray[Any]] | Callable[[int, int], NDArray[Any]]


@dataclass(frozen=True)
class ClassScore:
    """How one class fares. What would divide by zero is 0.

    precision: of those that were called this class, the share that is;  recall: of those that are, the share that was
    called so;  f1: the harmonic mean of both;  support: samples of the class
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class ErrorScore:
    """How far one output of a regression is from its target.

    bias: mean of output - target;  mean_absolute, root_mean_square: of the same;  r2: the share of the targets'
    variance that is explained, nan where they have none
    """

    name: str
    bias: float
    mean_absolute: float
    root_mean_square: float
    r2: float


@dataclass(frozen=True)
class Evaluation:
    """A model's answers to n questions and what is right.

    A net that answers at every place of its output has asked a question at each: n is then samples times ``places``.

    task:          ``classes``: one class out of k;  ``tags``: k answers of yes or no each;  ``numbers``: k outputs
    names:         of the k classes or outputs
    probabilities: (n, k); one sigmoid unit is two classes, no and yes; of ``numbers`` the outputs themselves
    labels:        (n,) class numbers;  (n, k) of 0 and 1;  (n, k) targets
    losses:        (samples,), each sample's;  loss: their mean
    accuracy:      the share of right answers; None for numbers
    confusion:     (k, k) int64, [true, predicted]; None unless ``classes``
    per_class:     a row for each class, or each tag; empty for numbers
    errors:        a row for each output; empty unless ``numbers``
    """

    task: Literal["classes", "tags", "numbers"]
    names: tuple[str, ...]
    probabilities: NDArray[Any]
    labels: NDArray[Any]
    losses: NDArray[np.float64]
    loss: float
    accuracy: float | None
    confusion: NDArray[np.int64] | None
    per_class: tuple[ClassScore, ...]
    errors: tuple[ErrorScore, ...]
    places: int = 1

    @property
    def predicted(self) -> NDArray[Any]:
        """(n,) the most probable class, (n, k) 0 and 1, or (n, k) outputs: of the form of ``labels``."""
        return _predicted(self.task, self.probabilities)

    @property
    def macro_f1(self) -> float | None:
        """The plain mean of the classes' f1; None for numbers."""
        return float(np.mean([score.f1 for score in self.per_class])) if self.per_class else None

    def mistakes(self, n: int) -> NDArray[np.int64]:
        """At most n questions that were answered wrongly, those first whose wrong answer was surest.

        Of numbers those that are furthest off, in the sum of squares; of tags by the surest wrong one.
        """
        if self.task == "numbers":
            off = np.square(self.probabilities.astype(np.float64) - self.labels).sum(axis=1)
            wrong = np.flatnonzero(off > 0)
            sure = off[wrong]
        elif self.task == "tags":
            p = np.where(self.labels == 1, 1.0 - self.probabilities, self.probabilities)
            miss = np.where(self.predicted != self.labels, p, -1.0).max(axis=1, initial=-1.0)
            wrong = np.flatnonzero(miss >= 0)
            sure = miss[wrong]
        else:
            wrong = np.flatnonzero(self.predicted != self.labels)
            sure = self.probabilities[wrong].max(axis=1, initial=0.0)
        order = np.argsort(-sure, kind="stable")[:n]
        return wrong[order].astype(np.int64)


def evaluate_split(
    model: Model, x: Pictures, y: ArrayLike, *, loss: Loss | None = None, names: Sequence[str] = ()
) -> Evaluation:
    """Everything about ``model``'s answers to ``x``, all of it, a piece at a time.

    x: network input (n, *model.spec.input): an array, pieces of one after another, or a function of (low, high), such
       as ``network_input`` makes
    y: (n, …) labels as the loss takes them
    loss: instead of the model's own, such as one whose class weights were measured on training's labels
    names: of the classes; the model's own, else their numbers, where not given
    Raises DataError where pictures or labels do not fit the model, or there are none.
    """
    labels = np.asarray(y)
    probabilities, losses = [], []
    for low, piece in _pieces(x, len(labels)):
        answers, each = model.score(piece, labels[low : low + len(piece)], loss)
        probabilities.append(answers)
        losses.append(each)
    if not probabilities:
        model.score(np.empty((0, *model.spec.input), np.float32), labels, loss)  # says what is wrong
    answers, each = np.concatenate(probabilities), np.concatenate(losses)
    if len(answers) != len(labels):
        raise DataError(
            f"{len(answers):,} pictures and {len(labels):,} labels", where=f"model {model.spec.name}",
            why="one label belongs to each picture", fix="take both from the same source",
        )  # fmt: skip
    return evaluation_of(model.spec, answers, labels, each, names or model.classes)


def network_input(preprocessing: Preprocessing, kept: NDArray[Any]) -> Callable[[int, int], NDArray[np.float32]]:
    """What gives a split's pictures, (n, H, W, channels) as a ``Dataset`` keeps them, as network input, piecewise."""
    return lambda low, high: preprocessing.normalize(kept[low:high])


def _pieces(x: Pictures, n: int) -> Iterator[tuple[int, NDArray[Any]]]:
    """(number of the first sample, pictures) of each piece."""
    if isinstance(x, np.ndarray):
        for low in range(0, len(x), INFERENCE_BATCH):
            yield low, x[low : low + INFERENCE_BATCH]
    elif callable(x):
        for low in range(0, n, INFERENCE_BATCH):
            yield low, x(low, min(low + INFERENCE_BATCH, n))
    else:
        low = 0
        for piece in x:
            yield low, piece
            low += len(piece)


def evaluation_of(
    model: ModelSpec, answers: NDArray[Any], y: NDArray[Any], losses: NDArray[Any], names: Sequence[str] = ()
) -> Evaluation:
    """As ``evaluate_split``, of answers that there are already.

    answers: (n, *model.output) predictions;  y: (n, …) labels;  losses: (n,)
    """
    width = model.output[-1]
    places = count(model.output[:-1])
    table = answers.reshape(-1, width)
    kind = model.effective_loss
    task: Literal["classes", "tags", "numbers"]
    if not kind.scores_hits():
        task, labels = "numbers", y.reshape(-1, width)
    elif kind.labels(model.output)[1] == "int64":
        task, labels = "classes", y.reshape(-1)
    elif width == 1:
        task, labels = "classes", (y.reshape(-1) > THRESHOLD).astype(np.int64)
        table = np.concatenate([1 - table, table], axis=1)
    else:
        task, labels = "tags", (y.reshape(-1, width) > THRESHOLD).astype(np.int64)
    k = table.shape[1]
    names = tuple(names) if len(names) == k else tuple(str(i) for i in range(k))
    predicted = _predicted(task, table)
    confusion = np.bincount(labels * k + predicted, minlength=k * k).reshape(k, k) if task == "classes" else None
    return Evaluation(
        task, names, table, labels, losses.astype(np.float64), float(losses.mean(dtype=np.float64)),
        None if task == "numbers" else float((predicted == labels).mean()), confusion,
        _per_class(names, labels, predicted, confusion) if task != "numbers" else (),
        _errors(names, table, labels) if task == "numbers" else (), places,
    )  # fmt: skip


def _predicted(task: str, table: NDArray[Any]) -> NDArray[Any]:
    if task == "classes":
        # Of two classes yes has to be above the threshold, as in the loss's own count of right answers.
        return table.argmax(axis=1).astype(np.int64)
    return (table > THRESHOLD).astype(np.int64) if task == "tags" else table


def _per_class(
    names: Sequence[str], labels: NDArray[Any], predicted: NDArray[Any], confusion: NDArray[np.int64] | None
) -> tuple[ClassScore, ...]:
    if confusion is not None:
        right, called, support = confusion.diagonal(), confusion.sum(axis=0), confusion.sum(axis=1)
    else:
        right, called, support = (labels & predicted).sum(axis=0), predicted.sum(axis=0), labels.sum(axis=0)
    return tuple(
        ClassScore(name, _share(r, c), _share(r, s), _share(2 * r, c + s), s)
        for name, r, c, s in zip(names, right.tolist(), called.tolist(), support.tolist(), strict=True)
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _errors(names: Sequence[str], outputs: NDArray[Any], targets: NDArray[Any]) -> tuple[ErrorScore, ...]:
    goal = targets.astype(np.float64)
    off = outputs - goal
    squares, variances = np.square(off).mean(axis=0), goal.var(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        explained = np.where(variances > 0, 1 - squares / variances, np.nan)
    return tuple(
        ErrorScore(name, *map(float, numbers))
        for name, *numbers in zip(
            names, off.mean(axis=0), np.abs(off).mean(axis=0), np.sqrt(squares), explained, strict=True
        )
    )
