"""Samples to evaluate a trained model on: the run's own, or any others, as the model takes them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnforge.data import Dataset, Preprocessing, Split, load
from cnnforge.data.labels import class_counts
from cnnforge.errors import DataError, suggest
from cnnforge.losses import Loss
from cnnforge.model import Model
from cnnforge.spec import DataSpec, PicturesSpec, RunSpec

Part = Literal["train", "validation", "test"]
#: Which samples say most of a model, best first.
PARTS: tuple[Part, ...] = ("test", "validation", "train")
#: What decides which sample is in which part, and what it is where nothing is cut.
CUTS: Mapping[str, object] = {
    "validation": 0.0, "test": 0.0, "folds": None, "fold": None, "stratify": False, "limit": None,
}  # fmt: skip


@dataclass(frozen=True)
class Samples:
    """Labelled samples for one model.

    part:   ``test``, ``validation``, ``train``; or ``all`` of data that have no parts
    source: what was read, for people;  digest: of it
    x:      gives network input of the samples from low to high
    y:      labels, class numbers as the model counts them
    files:  names of the files that they come from; None where they come from no files of their own
    loss:   where training's own labels say what it weighs; None for the model's own
    """

    name: str
    part: str
    source: str
    digest: str
    x: Callable[[int, int], NDArray[np.float32]]
    y: NDArray[Any]
    files: NDArray[np.object_] | None
    loss: Loss | None
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.y)


def samples(
    run: RunSpec, data: DataSpec, model: Model, part: Part | None = None, *, said: Collection[str] = (),
    tell: Callable[[str], None] = lambda text: None,
) -> Samples:  # fmt: skip
    """The samples of ``data`` for the model that ``run`` trained, with the model's own preprocessing.

    Of the source that the run read, parts are cut as the run cut them, so that no test sample was trained on. Other
    data are not cut, but for the parts that they have. ``said`` names fields of ``data`` that were asked for: those
    stay. Without ``part`` it is the test's, else validation's, else all.

    Raises DataError where the data, their labels or their classes do not fit the model, or the part is empty.
    """
    made = _preprocessing(model)
    own = _source(run.data) == _source(data)
    if data != run.data:
        data = _as_trained(data, made, run.data if own else None, said)
    found = load(data, run.model.input, run.seed, tell)
    loss = model.spec.effective_loss
    found.check_labels(*loss.labels(model.spec.output))
    there = [p for p in PARTS if len(_split(found, p))]
    chosen: Part = there[0] if part is None else part
    split = _split(found, chosen)
    if not len(split):
        raise DataError(
            f"{found.name}: there are no {chosen} samples", where=found.source,
            why=f"its parts are {', '.join(f'{p} {len(_split(found, p)):,}' for p in there)}",
            fix=f"--split {there[0]}",
        )  # fmt: skip
    y = _as_counted(found, split.y, model)
    classes = loss.classes_to_count(model.spec.output) if own else 0
    whole = not own and part is None and chosen == "train"
    return Samples(
        found.name, "all" if whole else chosen, found.source, found.digest,
        lambda low, high: made.apply(split.x[low:high]), y, split.names,
        loss.measured(class_counts(found.train.y, classes)) if classes else None,
        found.notes,
    )  # fmt: skip


def _split(data: Dataset, part: Part) -> Split:
    return {"train": data.train, "validation": data.validation, "test": data.test}[part]


def _preprocessing(model: Model) -> Preprocessing:
    if model.preprocessing is None:
        raise DataError(
            f"model {model.spec.name} does not say how pictures become its input",
            why="it was not trained by a run", fix="a run of cnnforge train",
        )  # fmt: skip
    return model.preprocessing


def _source(data: DataSpec) -> tuple[object, ...]:
    return data.type, getattr(data, "path", None), data.root


def _as_trained(data: DataSpec, made: Preprocessing, run: DataSpec | None, said: Collection[str]) -> DataSpec:
    """``data`` brought to what the model knows, and cut as ``run`` was, or not at all."""
    changes: dict[str, Any] = {"resize": made.adaptation.resize, "normalize": "none"}
    if isinstance(data, PicturesSpec) and made.form is not None:
        changes |= {"size": made.form.size, "fit": made.form.fit, "channels": made.form.channels}
    for field, uncut in CUTS.items():
        if field in type(data).model_fields and field not in said:
            changes[field] = uncut if run is None else getattr(run, field)
    if run is None and isinstance(data, PicturesSpec) and isinstance(data.classes, int) and "classes" not in said:
        changes["classes"] = None  # others may have fewer of them; their names are looked at instead
    return data.model_copy(update=changes)


def _as_counted(data: Dataset, y: NDArray[Any], model: Model) -> NDArray[Any]:
    """Labels whose class numbers are the model's. Raises DataError where the data have classes that it does not."""
    if y.dtype.kind != "i" or data.classes is None:
        return y
    outputs = model.spec.output[-1]
    known = 2 if outputs == 1 else outputs
    if model.classes and data.class_names:
        if strange := [name for name in data.class_names if name not in model.classes]:
            raise DataError(
                f"{data.name}: the model knows no class {', '.join(strange[:5])}", where=data.source,
                why=f"its classes are {', '.join(model.classes[:12])}{', …' * (len(model.classes) > 12)}",
                fix=suggest(strange[0], model.classes) or "data of the same classes"
                + (", or data.positive=[…] for the yes of a yes-or-no question" if outputs == 1 else ""),
            )  # fmt: skip
        return np.array([model.classes.index(name) for name in data.class_names], np.int64).take(y)
    if data.classes != known:
        raise DataError(
            f"{data.name}: {data.classes} classes, and the model tells {known} apart", where=data.source,
            why="their names are not known, so that their numbers have to be the same", fix=f"data of {known} classes",
        )  # fmt: skip
    return y
