"""What a data set is: before splitting and adaptation (``Stored``) and after (``Dataset``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnforge.data.labels import with_samples
from cnnforge.data.preprocess import Preprocessing
from cnnforge.errors import DataError
from cnnforge.shapes import Shape


@dataclass(frozen=True)
class Split:
    """Samples and their labels.

    x: (n, H, W, C) uint8 from 0 to 255, or float32
    y: (n,) int64 class numbers, or (n, …) float32 or float64 targets
    names: (n,) of the files that they come from; None where they come from no files of their own
    """

    x: NDArray[Any]
    y: NDArray[Any]
    names: NDArray[np.object_] | None = None

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Stored:
    """What a format's reader gives: pictures as large as they are stored, parts as the files have them.

    source:     what was read, for people
    digest:     sha256 of the decompressed bytes, in hex
    validation, test: None where the files have no such part and it is cut from ``train``
    test_share: how much of ``train`` to cut off for the test where ``test`` is None
    classes:    number of classes; None where ``y`` holds targets
    notes:      what the reader decided by itself
    """

    source: str
    digest: str
    train: Split
    validation: Split | None = None
    test: Split | None = None
    test_share: float = 0.0
    classes: int | None = None
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """A data set ready for one model: split, and adapted to the model's input except for what is cheap per batch.

    name:   the format's name in YAML
    source, digest, classes, class_names: as in ``Stored``
    train, validation, test: pictures (n, H, W, C or the one channel that is repeated); the last two may be empty
    preprocessing: what turns a raw picture, or a sample of a split, into network input
    notes:  every adaptation and decision that the user did not write down, in words
    """

    name: str
    source: str
    digest: str
    classes: int | None
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    preprocessing: Preprocessing
    notes: tuple[str, ...]

    def check_labels(self, shape: Shape, dtype: str) -> None:
        """Can these labels serve a loss that wants ``shape`` per sample and ``dtype`` (``int64``: class numbers)?

        Class numbers also serve one sigmoid unit, targets (n,) an output of one number. Raises DataError.
        """
        y = self.train.y
        numbers = y.dtype.kind == "i"
        fits = y.shape[1:] == shape or (y.shape[1:], shape) in {((), (1,)), ((1,), ())}
        if fits and (numbers or dtype != "int64"):
            return
        kinds = {True: "class numbers", False: "targets"}
        wanted = f"{kinds[dtype == 'int64']} {with_samples(shape)}"
        raise DataError(
            f"{self.name}: the labels do not fit the model's output",
            where=self.source,
            why=f"the loss takes {wanted}, the labels are {kinds[numbers]} {with_samples(y.shape[1:])}",
            fix="labels of that shape, or a last layer and loss for the labels there are",
        )


def no_samples(like: Split) -> Split:
    """An empty split of the same sample shape and types."""
    return Split(np.empty((0, *like.x.shape[1:]), like.x.dtype), np.empty((0, *like.y.shape[1:]), like.y.dtype))
