"""A split cut into batches, written straight into the arrays of a training step."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnforge import rng
from cnnforge.data.dataset import Split
from cnnforge.data.preprocess import Preprocessing


class Batches:
    """One split in batches of ``batch_size``, the last one smaller where it does not divide.

    Nothing is remembered between calls: which samples a batch holds follows from (seed, epoch, step) alone, so a
    resumed run needs no iterator state. The buffers inside are scratch, so one object serves one thread.

    split:      samples as ``Dataset`` keeps them, (n, *preprocessing.kept)
    shuffle:    a new order each epoch; False keeps the split's own
    """

    def __init__(
        self, split: Split, preprocessing: Preprocessing, batch_size: int, *, seed: int, shuffle: bool
    ) -> None:
        # np.take copies the whole of an array that is not contiguous, on every call.
        self._x, self._y = np.ascontiguousarray(split.x), np.ascontiguousarray(split.y)
        self._preprocessing, self._seed, self._shuffle = preprocessing, seed, shuffle
        self._n, self._batch_size = len(split), batch_size
        largest = min(batch_size, self._n)
        self._raw = np.empty((largest, *split.x.shape[1:]), split.x.dtype)
        self._scratch = np.empty(self._raw.shape, np.float32)
        self._labels = np.empty((largest, *split.y.shape[1:]), split.y.dtype)

    @property
    def samples(self) -> int:
        """Samples in an epoch."""
        return self._n

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch; 0 for an empty split."""
        return -(-self._n // self._batch_size)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The batch sizes that occur, largest first: none, one or two."""
        return tuple(s for s in (min(self._batch_size, self._n), self._n % self._batch_size) if s)[
            : self.steps_per_epoch
        ]

    def size(self, step_in_epoch: int) -> int:
        """Samples in one batch of an epoch."""
        return min(self._batch_size, self._n - step_in_epoch * self._batch_size)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """(n,) int64: the samples of an epoch in the order they come, a pure function of (seed, epoch)."""
        if not self._shuffle:
            return np.arange(self._n, dtype=np.int64)
        return rng.permutation(self._seed, "shuffle", self._n, epoch).astype(np.int64, copy=False)

    def fill(
        self, epoch_order: NDArray[np.int64], step_in_epoch: int, x_out: NDArray[Any], labels_out: NDArray[Any]
    ) -> int:
        """Write a batch into the first rows of the given arrays; returns how many rows, n.

        epoch_order:   of ``order``
        x_out:         (at least n, *preprocessing.input) of a float type
        labels_out:    (at least n, …) class numbers or floats; a last axis of 1 may be there or not
        """
        start = step_in_epoch * self._batch_size
        rows = epoch_order[start : start + self._batch_size]
        n = len(rows)
        if len(epoch_order) != self._n or n == 0:
            raise IndexError(
                f"step {step_in_epoch} of an order of {len(epoch_order)}: "
                f"{self._n} samples give {self.steps_per_epoch} steps"
            )
        raw, labels = self._raw[:n], self._labels[:n]
        # mode="clip" only says that np.take may write to ``out`` directly; the rows are those of ``order``.
        np.take(self._x, rows, axis=0, out=raw, mode="clip")
        self._preprocessing.normalize_into(raw, self._scratch[:n], x_out[:n])
        np.take(self._y, rows, axis=0, out=labels, mode="clip")
        wanted = labels_out[:n]
        if wanted.ndim > labels.ndim:
            wanted = np.squeeze(wanted, -1)
        elif wanted.ndim < labels.ndim:
            labels = np.squeeze(labels, -1)
        if wanted.shape != labels.shape:
            raise ValueError(f"labels {labels.shape} do not go into {wanted.shape}")
        np.copyto(wanted, labels, casting="same_kind")
        return n
