"""Loading a data set: read, split, adapt, measure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cnnforge import rng
from cnnforge.data import cifar10, digits, edges, idx, image_folder, npz, synthetic
from cnnforge.data.adapt import Adaptation, Picture, adaptation
from cnnforge.data.dataset import Dataset, Split, Stored, no_samples
from cnnforge.data.pictures import Form
from cnnforge.data.preprocess import measure
from cnnforge.errors import DataError
from cnnforge.shapes import Shape
from cnnforge.spec import (
    Cifar10Data,
    DataSpec,
    DigitsData,
    EdgesData,
    IdxSpec,
    NpzData,
    PicturesSpec,
    SyntheticData,
)
from cnnforge.spec.data import share_of

Rows = NDArray[np.int64]


def load(data: DataSpec, input: Picture, seed: int, tell: Callable[[str], None] = lambda text: None) -> Dataset:
    """Read the data set that ``data`` names and make it fit a model whose input is (H, W, C).

    tell: is told of what takes long

    Which sample goes into which split follows from ``seed`` and the number of samples alone: a plain random draw; with
    ``stratify`` from their classes too. One permutation of all training samples is drawn; the test takes the first of
    it (where the files have no test part), validation the next, training the rest *in that order*. So ``validation``
    does not change the test split, and ``limit``, applied last, keeps a random part of the training samples, the same
    ones and more when it grows, even from a file that is sorted by class. Normalisation is measured on what is then
    left.

    Raises DataError where files are missing, damaged or not what they should be, where pictures cannot be adapted, and
    where no training sample is left.
    """
    stored = _read(data, input, seed, tell)
    _same_pictures(stored, data.type)
    shape = stored.train.x.shape[1:]
    rule = adaptation(shape, input, data.resize)
    train_rows, validation_rows, test_rows, notes = _cut(stored, data, seed)
    train = _adapted(rule, stored.train, train_rows)
    preprocessing, measured = measure(rule, train.x, data.normalize)
    empty = no_samples(train)
    return Dataset(
        name=data.type,
        source=stored.source,
        digest=stored.digest,
        classes=stored.classes,
        class_names=stored.class_names,
        train=train,
        validation=_part(rule, stored.train, validation_rows, stored.validation) or empty,
        test=_part(rule, stored.train, test_rows, stored.test) or empty,
        preprocessing=replace(preprocessing, form=_form(data, shape)),
        notes=tuple(note for note in (*stored.notes, rule.note(shape), *notes, *measured) if note),
    )


def _read(data: DataSpec, input: Picture, seed: int, tell: Callable[[str], None]) -> Stored:
    if isinstance(data, DigitsData):
        return digits.read(data)
    if isinstance(data, EdgesData):
        return edges.read(data)
    if isinstance(data, IdxSpec):
        return idx.read(data, tell)
    if isinstance(data, Cifar10Data):
        return cifar10.read(data, tell)
    if isinstance(data, PicturesSpec):
        return image_folder.read(data, input, tell)
    if isinstance(data, NpzData):
        return npz.read(data)
    if isinstance(data, SyntheticData):
        return synthetic.read(data, input, seed)
    raise NotImplementedError(f"no reader for data '{data.type}'")


def _form(data: DataSpec, shape: Shape) -> Form | None:
    """What picture files have to be brought to so that they are as the data's own are, (h, w, c)."""
    h, w, channels = shape
    return (
        Form((h, w), data.fit if isinstance(data, PicturesSpec) else "crop", channels) if channels in (1, 3) else None
    )


def _same_pictures(stored: Stored, name: str) -> None:
    shapes = {
        part: split.x.shape[1:]
        for part, split in (("training", stored.train), ("validation", stored.validation), ("test", stored.test))
        if split is not None
    }
    if len(set(shapes.values())) > 1:
        raise DataError(
            f"{name}: pictures of different sizes",
            where=stored.source,
            why=", ".join(f"{part} pictures are {'x'.join(map(str, shape))}" for part, shape in shapes.items()),
            fix="store every part's pictures in the same size",
        )


def _cut(stored: Stored, data: DataSpec, seed: int) -> tuple[Rows, Rows, Rows, list[str]]:
    """Rows of the stored training part for training, validation, test, and notes."""
    n = len(stored.train)
    notes: list[str] = []
    test = _share(n, stored.test_share, "test", notes) if stored.test is None else 0
    if data.folds is not None:
        return _fold(data, stored, seed, test, notes)
    validation = _share(n - test, data.validation, "validation", notes) if stored.validation is None else 0
    if n - test - validation < 1:
        raise DataError(
            f"{data.type}: no training samples",
            where=stored.source,
            why=f"{n} samples - {test} for the test - {validation} for validation = {n - test - validation}",
            fix="more samples" if n < 2 else "smaller shares: data.validation, data.test",
        )
    order = _drawn(data, stored, seed)
    train = order[test + validation :]
    if data.limit is not None and data.limit < len(train):
        notes.append(f"the first {data.limit:,} of {len(train):,} training samples (data.limit)")
        train = train[: data.limit]
    return train, order[test : test + validation], order[:test], notes


def _drawn(data: DataSpec, stored: Stored, seed: int) -> Rows:
    """The stored training samples in the order in which they are dealt out."""
    order = rng.permutation(seed, "split", len(stored.train)).astype(np.int64, copy=False)
    return _in_turn(order, stored.train.y, data.type, stored.source) if data.stratify else order


def _fold(data: DataSpec, stored: Stored, seed: int, test: int, notes: list[str]) -> tuple[Rows, Rows, Rows, list[str]]:
    """As ``_cut``: every k-th sample of what the test leaves is validation, begun at the fold's number."""
    assert data.folds is not None
    order = _drawn(data, stored, seed)
    rest, fold = order[test:], (data.fold or 1) - 1
    if len(rest) < data.folds:
        raise DataError(
            f"{data.type}: {len(rest)} training samples cannot be cut into {data.folds} folds", where=stored.source,
            why="each fold needs one at least", fix=f"data.folds={len(rest)}" if len(rest) > 1 else "more samples",
        )  # fmt: skip
    mine = np.arange(len(rest)) % data.folds == fold
    train = rest[~mine]
    return train[: data.limit], rest[mine], order[:test], [*notes, f"fold {fold + 1} of {data.folds}"]


def _in_turn(order: Rows, y: NDArray[np.generic], name: str, source: str) -> Rows:
    """The same order with the classes spread evenly, so that every beginning of it has the shares of the whole.

    Sample k of the m of its class comes at (k + 1/2) / m of the way, those of one place in the drawn order.
    """
    if y.ndim != 1 or y.dtype.kind != "i":
        raise DataError(
            f"{name}: the labels are no classes", where=source, why="data.stratify cuts each class in the same shares",
            fix="data.stratify: false",
        )  # fmt: skip
    drawn = y[order].astype(np.int64)
    sizes = np.bincount(drawn)
    rank = np.empty(len(order))
    for label in np.flatnonzero(sizes):
        rank[drawn == label] = (np.arange(sizes[label]) + 0.5) / sizes[label]
    return order[np.argsort(rank, kind="stable")]


def _share(n: int, share: float, name: str, notes: list[str]) -> int:
    """``share`` of ``n`` samples; says so where there are none of them."""
    size = share_of(n, share)
    if n and share and not size:
        notes.append(f"no {name} samples: {share:g} of {n} rounds to 0")
    return size


def _adapted(rule: Adaptation, split: Split, rows: Rows | None = None) -> Split:
    x = rule.adapt(split.x, rows)
    if rows is None:
        return Split(x, split.y, split.names)
    return Split(x, split.y[rows], None if split.names is None else split.names[rows])


def _part(rule: Adaptation, stored_train: Split, rows: Rows, own: Split | None) -> Split | None:
    """A split that the files have, or that is cut from their training part; None where it has no samples."""
    if own is not None:
        return _adapted(rule, own)
    return _adapted(rule, stored_train, rows) if len(rows) else None
