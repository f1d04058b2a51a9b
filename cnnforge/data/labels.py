"""Checking labels: class numbers, targets, and that there is one for each picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnforge.errors import DataError


def class_numbers(y: NDArray[Any], classes: int, name: str, where: str) -> NDArray[np.int64]:
    """y: (n,) or (n, 1) of whole numbers -> (n,) int64. Raises DataError unless all are in 0 … classes - 1.

    name, where: the array and the file, for errors. Whole numbers stored as floats are taken, ``2.5`` is not.
    """
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        one_hot = y.ndim == 2 and y.shape[1] == classes
        raise DataError(
            f"{name} has the shape {y.shape}",
            where=where,
            why=f"class numbers have one axis, (N,){'; this looks like one-hot vectors' * one_hot}",
            fix=f"store {name}.argmax(axis=1)" if one_hot else "store one class number per picture",
        )
    if y.dtype.kind not in "biuf":
        raise DataError(
            f"{name} holds {y.dtype}, not class numbers",
            where=where,
            why="a class is a whole number from 0",
            fix="number the classes: classes, y = np.unique(names, return_inverse=True)",
        )
    if y.dtype.kind == "f" and not (whole := np.isfinite(y) & (y == np.floor(y))).all():
        raise DataError(
            f"{name} holds numbers that are not whole",
            where=where,
            why=f"sample {(i := int(np.argmin(whole)))} has the label {y[i]:g}",
            fix="whole class numbers, or leave data.classes out and end with loss: mse for targets",
        )
    wrong = (y < 0) | (y >= classes)
    if wrong.any():
        i = int(np.argmax(wrong))
        low, high = int(y.min()), int(y.max())
        raise DataError(
            f"{name} holds labels outside 0 to {classes - 1}",
            where=where,
            why=f"sample {i} has the label {int(y[i])}; {classes} classes are numbered 0 to {classes - 1}",
            fix=_fix(low, high, classes),
        )
    return y.astype(np.int64)


def class_counts(y: NDArray[Any], classes: int) -> list[int]:
    """How often each class occurs. Labels that are no class are refused elsewhere, and not counted here."""
    if y.dtype.kind not in "biu":
        return [0] * classes
    known = y[(y >= 0) & (y < classes)]
    counts: list[int] = np.bincount(known.reshape(-1).astype(np.int64), minlength=classes).tolist()
    return counts


def targets(y: NDArray[Any], name: str, where: str) -> NDArray[Any]:
    """y: (n, …) numbers -> the same as float64 where it was, else float32. Raises DataError unless finite."""
    if y.dtype.kind not in "biuf":
        raise DataError(
            f"{name} holds {y.dtype}, not numbers",
            where=where,
            why="targets are numbers; names of classes are not",
            fix="data.classes, and class numbers from 0 for labels; or targets as floats",
        )
    with np.errstate(over="ignore"):
        y = y if y.dtype == np.float64 else y.astype(np.float32)
    finite(y, name, where)
    return y


def finite(x: NDArray[Any], name: str, where: str) -> None:
    """Raises DataError, naming the first sample, where a float array (n, …) holds NaN or infinities."""
    for i, sample in enumerate(x):
        if not np.isfinite(sample).all():
            raise DataError(
                f"{name} holds NaN or infinite values",
                where=where,
                why=f"sample {i} is the first that does",
                fix="remove those samples, or repair them with np.nan_to_num",
            )


def paired(x: NDArray[Any], y: NDArray[Any], names: tuple[str, str], where: str) -> None:
    """Raises DataError unless there are as many labels as pictures."""
    if y.ndim == 0:
        raise DataError(
            f"{names[1]} is a single number",
            where=where,
            why=f"there are {len(x):,} pictures, and one label belongs to each",
            fix=f"store {names[1]} with shape (N,)",
        )
    if len(x) != len(y):
        raise DataError(
            f"{len(x):,} pictures and {len(y):,} labels",
            where=where,
            why=f"{names[0]} and {names[1]} belong together, one label for each picture",
            fix="take both from the same source",
        )


def _fix(low: int, high: int, classes: int) -> str:
    if low == 1 and high == classes:
        return "count from 0: y - 1"
    if low < 0:
        return "number the classes from 0"
    return f"data.classes: {high + 1}, if that many classes are meant"


def with_samples(shape: tuple[int, ...]) -> str:
    """The shape of many samples, each of ``shape``, as people write it: ``(N, 3)``, ``(N,)``."""
    return f"(N, {', '.join(map(str, shape))})" if shape else "(N,)"
