"""A split cut into batches, written straight into the arrays of a training step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnforge import rng
from cnnforge.backends.base import Backend, Canvas, Order, Stock
from cnnforge.data.augment import Moves
from cnnforge.data.dataset import Split
from cnnforge.data.distort import Distortions
from cnnforge.data.mix import Mixing, partners, shares
from cnnforge.data.preprocess import Preprocessing
from cnnforge.spec import AugmentSpec


@dataclass(frozen=True)
class Epoch:
    """What is drawn for one pass over the samples, in the order in which they come.

    rows:  (n,) int64: the samples
    picks: (n, 2) int32: how each is moved, as ``Moves`` says; None where nothing is
    drawn: (n, DRAWN) float32: how each is distorted, as ``Distortions`` says; None where nothing is
    number: the epoch's
    mixed: (n, MIXED) float32: how each is mixed with another, as ``Mixing`` says; None where nothing is
    """

    rows: NDArray[np.int64]
    picks: NDArray[np.int32] | None
    drawn: NDArray[np.float32] | None = None
    number: int = 0
    mixed: NDArray[np.float32] | None = None


class Batches:
    """One split in batches of ``batch_size``, the last one smaller where it does not divide.

    Nothing is remembered between calls: which samples a batch holds, and how they are augmented, follows from (seed,
    epoch, step) alone, so a resumed run needs no iterator state. The buffers inside are scratch, so one object serves
    one thread.

    split:      samples as ``Dataset`` keeps them, (n, *preprocessing.kept)
    shuffle:    a new order each epoch; False keeps the split's own
    augment:    what is done to training pictures; nothing by default
    backend:    whose compiled code makes float32 batches, where it has some; NumPy by default, with the same result
    share:      which of a batch's n samples are wanted here; by default all
    stock:      the split's pictures where ``backend`` makes batches on its device, into its own canvases
    """

    def __init__(
        self,
        split: Split,
        preprocessing: Preprocessing,
        batch_size: int,
        *,
        seed: int,
        shuffle: bool,
        augment: AugmentSpec | None = None,
        backend: Backend | None = None,
        share: Callable[[int], range] = range,
        stock: Stock | None = None,
    ) -> None:
        # np.take copies the whole of an array that is not contiguous, on every call.
        self._x, self._y = np.ascontiguousarray(split.x), np.ascontiguousarray(split.y)
        self._preprocessing, self._seed, self._shuffle, self._share = preprocessing, seed, shuffle, share
        self._n, self._batch_size = len(split), batch_size
        self._labels = np.empty((min(batch_size, self._n), *split.y.shape[1:]), split.y.dtype)
        moves = Moves(augment or AugmentSpec(), preprocessing.kept[:2], seed)
        self._moves = None if moves.nothing else moves
        as_bytes = self._x.dtype == np.uint8
        distortions = Distortions(
            augment or AugmentSpec(), preprocessing.kept[:2], seed, preprocessing.constants, as_bytes
        )
        self._distortions = None if distortions.nothing else distortions
        mixing = Mixing(augment or AugmentSpec(), preprocessing.input[:2], seed)
        self._mixing = None if mixing.nothing else mixing
        self._compiled, self._distorted = None, None
        constants = preprocessing.constants
        lists = (*constants, preprocessing.input[2], moves.down, moves.across)
        how = None if self._distortions is None else self._distortions.how
        self._maker = None if stock is None else stock.maker(*lists, how, self._mixing is not None)
        if backend is not None:
            bound = (self._x, *lists)
            if self._distortions is None:
                self._compiled = backend.gather(*bound)
            else:
                self._distorted = backend.distort(*bound, self._distortions.how)

    @property
    def samples(self) -> int:
        """Samples in an epoch."""
        return self._n

    def nbytes(self, canvases: int) -> int:
        """Device memory that making these batches on so many canvases takes, beside what ``stock`` does."""
        return 0 if self._maker is None else self._maker.nbytes(canvases)

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

    def shard(self, step_in_epoch: int) -> range:
        """Which samples of a batch are wanted here."""
        return self._share(self.size(step_in_epoch))

    def _filled(self, step_in_epoch: int) -> slice:
        """Of an epoch's samples those that ``fill`` writes: a shard's, the batch's first where that is empty."""
        begin, shard = step_in_epoch * self._batch_size, self.shard(step_in_epoch) or range(1)
        return slice(begin + shard.start, begin + shard.stop)

    def epoch(self, number: int) -> Epoch:
        """The draws of an epoch, a pure function of (seed, number); a sample's own do not depend on the shuffle."""
        rows = self._order(number)
        picks = None if self._moves is None else self._moves.picks(self._n, number)[rows]
        drawn = None if self._distortions is None else self._distortions.draws(self._n, number)[rows]
        mixed = None if self._mixing is None else self._mixing.draws(self._n, number)[rows]
        return Epoch(rows, picks, drawn, number, mixed)

    def rows(self, number: int, step_in_epoch: int) -> NDArray[np.int64]:
        """The samples that ``fill`` writes of one batch of epoch ``number``, counted in the split: (n,)."""
        return self._order(number)[self._filled(step_in_epoch)]

    def _order(self, number: int) -> NDArray[np.int64]:
        if not self._shuffle:
            return np.arange(self._n, dtype=np.int64)
        return rng.permutation(self._seed, "shuffle", self._n, number).astype(np.int64, copy=False)

    def fill(
        self, epoch: Epoch, step_in_epoch: int, x_out: NDArray[Any] | Canvas, labels_out: NDArray[Any] | None
    ) -> int:
        """Write a batch's shard into the first rows of the given arrays; returns how many rows, n.

        Of an empty shard it is the first sample of the batch.

        epoch:         of ``epoch``
        x_out:         (at least n, *preprocessing.input) of a float type, or a canvas of such a batch: its device then
                       makes the pictures of ``stock``
        labels_out:    (at least n, …) class numbers or floats; a last axis of 1 may be there or not. Of classes that
                       are mixed (at least n, 3) floats: two class numbers, and the share of the first. None for none
        """
        part = self._filled(step_in_epoch)
        rows = epoch.rows[part]
        n = len(rows)
        if len(epoch.rows) != self._n or n == 0:
            raise IndexError(
                f"step {step_in_epoch} of an order of {len(epoch.rows)}: "
                f"{self._n} samples give {self.steps_per_epoch} steps"
            )
        picks = None if epoch.picks is None else epoch.picks[part]
        drawn = None if epoch.drawn is None else epoch.drawn[part]
        mixed = None if epoch.mixed is None else epoch.mixed[part]
        own = None if mixed is None else shares(mixed)
        order = Order(rows, picks, drawn, epoch.number, mixed)
        if isinstance(x_out, np.ndarray):
            self._write(order, x_out[:n])
        elif self._maker is None:
            self._write(order, x_out.pixels()[:n])
        else:
            x_out.order(self._maker, order)
        if labels_out is not None:
            self._write_labels(rows, labels_out[:n], own)
        return n

    def _write(self, order: Order, out: NDArray[Any]) -> None:
        """Pictures made here."""
        if order.drawn is None:
            self._write_pictures(order.rows, order.picks, out)
        else:
            self._write_distorted(order.rows, order.picks, order.drawn, order.epoch, out)
        if self._mixing is not None and order.mixed is not None:
            self._mixing.apply(out, order.mixed)

    def _write_pictures(self, rows: NDArray[np.int64], picks: NDArray[np.int32] | None, out: NDArray[Any]) -> None:
        if self._compiled is not None and out.dtype == np.float32 and out.flags.c_contiguous:
            self._compiled(rows, picks, out)
            return
        x, preprocessing = self._x, self._preprocessing
        if picks is None and preprocessing.is_identity and (x.dtype, x.shape[1:]) == (out.dtype, out.shape[1:]):
            _take(x, rows, out)
            return
        preprocessing.normalize_into(self._moved(rows, picks), self._floats[: len(rows)], out)

    def _write_distorted(
        self,
        rows: NDArray[np.int64],
        picks: NDArray[np.int32] | None,
        drawn: NDArray[np.float32],
        epoch: int,
        out: NDArray[Any],
    ) -> None:
        if self._distorted is not None and out.dtype == np.float32 and out.flags.c_contiguous:
            self._distorted(rows, picks, drawn, epoch, out)
            return
        assert self._distortions is not None, "nothing else draws any"
        floats = self._floats[: len(rows)]
        np.copyto(floats, self._moved(rows, picks), casting="same_kind")
        np.copyto(out, self._distortions.apply(floats, rows, drawn, epoch), casting="same_kind")

    def _moved(self, rows: NDArray[np.int64], picks: NDArray[np.int32] | None) -> NDArray[Any]:
        """Pictures as they are stored, each moved as its pick says; in scratch."""
        n = len(rows)
        raw: NDArray[Any] = self._raw[:n]
        if picks is None or self._moves is None:
            _take(self._x, rows, raw)
        else:
            self._moves.gather(self._x, rows, picks, self._index[:n], raw)
        return raw

    # Scratch, made when NumPy first needs it: a batch as it is stored, the same as floats, and its pixels' numbers.

    @cached_property
    def _raw(self) -> NDArray[Any]:
        return np.empty((len(self._labels), *self._x.shape[1:]), self._x.dtype)

    @cached_property
    def _floats(self) -> NDArray[np.float32]:
        return np.empty(self._raw.shape, np.float32)

    @cached_property
    def _index(self) -> NDArray[np.int64]:
        return np.empty(self._raw.shape[:3], np.int64)

    def _write_labels(self, rows: NDArray[np.int64], wanted: NDArray[Any], own: NDArray[np.float32] | None) -> None:
        labels: NDArray[Any] = self._labels[: len(rows)]
        _take(self._y, rows, labels)
        if own is not None:
            others = labels[partners(len(rows))]
            if wanted.shape == (len(rows), 3) and labels.ndim == 1:
                wanted[:, 0], wanted[:, 1], wanted[:, 2] = labels, others, own
                return
            own = own.reshape(-1, *(1,) * (labels.ndim - 1))
            labels = labels * own + others * (1 - own)
        if wanted.ndim > labels.ndim:
            wanted = np.squeeze(wanted, -1)
        elif wanted.ndim < labels.ndim:
            labels = np.squeeze(labels, -1)
        if wanted.shape != labels.shape:
            raise ValueError(f"labels {labels.shape} do not go into {wanted.shape}")
        np.copyto(wanted, labels, casting="same_kind")


def _take(x: NDArray[Any], rows: NDArray[np.int64], out: NDArray[Any]) -> None:
    """out[i] = x[rows[i]]. ``clip`` only says that NumPy may write to ``out`` directly: all rows exist."""
    np.take(x, rows, axis=0, out=out, mode="clip")
