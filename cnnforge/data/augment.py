"""Augmentation: where each pixel of a training picture comes from.

Crops, flips and shifts move whole rows and columns, so a moved picture is two lists of positions: the source row of
each row and the source column of each column. The lists that can occur are few and are made once; drawing an
augmentation is picking one of each kind, and whoever moves pixels, NumPy here or compiled code, knows nothing of crops
and flips. What changes pixels comes after it: ``distort.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnforge import rng
from cnnforge.spec import AugmentSpec

#: A position that stands for a black pixel, of value 0.
BLACK = -1


class Moves:
    """What ``spec`` may do to pictures of ``size`` (H, W).

    down:   (R, H) int32: lists of source rows;  across: (K, W) int32: lists of source columns
    """

    def __init__(self, spec: AugmentSpec, size: tuple[int, int], seed: int) -> None:
        self._spec, self._seed = spec, seed
        cropped = [_cropped(n, spec) for n in size]
        flips = (spec.vertical_flip, spec.flip)
        turned = [np.concatenate([at, at[:, ::-1]]) if flip else at for at, flip in zip(cropped, flips, strict=True)]
        self.down, self.across = (_shifted(at, spec) for at in turned)
        self._offsets, self._turned = len(cropped[0]), [len(at) for at in turned]

    @property
    def nothing(self) -> bool:
        """Does every picture stay as it is?"""
        return len(self.down) == len(self.across) == 1

    def picks(self, samples: int, epoch: int) -> NDArray[np.int32]:
        """(samples, 2) int32: the lists of rows and of columns that each sample gets in an epoch.

        Sample i's are a pure function of (seed, epoch, i): crops are words 0 (down) and 1 (across) of the stream
        ``augment:crop``, each offset as likely as the other to 2**-32; flips word 0 of ``augment:flip`` and of
        ``augment:vertical_flip``; shifts words 0 (down) and 1 (across) of ``augment:shift``, like crops.
        """
        picks = np.zeros((samples, 2), np.int32)
        numbers = np.arange(samples)
        if self._spec.crop is not None:
            u = rng.words(rng.stream(self._seed, "augment", "crop"), numbers, 2, epoch).astype(np.uint64)
            picks[...] = u * np.uint64(self._offsets) >> np.uint64(32)
        if self._spec.flip is not None:
            u = rng.words(rng.stream(self._seed, "augment", "flip"), numbers, 1, epoch)[:, 0]
            picks[:, 1] += self._offsets * ((u >> 8) * 2.0**-24 < self._spec.flip.rate)
        if self._spec.vertical_flip is not None:
            u = rng.words(rng.stream(self._seed, "augment", "vertical_flip"), numbers, 1, epoch)[:, 0]
            picks[:, 0] += self._offsets * ((u >> 8) * 2.0**-24 < self._spec.vertical_flip.rate)
        if self._spec.shift is not None:
            u = rng.words(rng.stream(self._seed, "augment", "shift"), numbers, 2, epoch).astype(np.uint64)
            lists = zip((self.down, self.across), self._turned, strict=True)
            for axis, (made, turned) in enumerate(lists):
                picks[:, axis] += turned * (u[:, axis] * np.uint64(len(made) // turned) >> np.uint64(32)).astype(int)
        return picks

    def gather(
        self,
        x: NDArray[Any],
        rows: NDArray[np.int64],
        picks: NDArray[np.int32],
        index: NDArray[np.int64],
        out: NDArray[Any],
    ) -> None:
        """out[i] = x[rows[i]] moved as picks[i] says.

        x: (n, H, W, c), as it lies in memory;  rows: (N,);  picks: (N, 2);  out: (N, H, W, c) of x's type
        index: (N, H, W) int64, workspace
        """
        height, width, c = x.shape[1:]
        down, across = self.down[picks[:, 0]], self.across[picks[:, 1]]
        np.add((rows[:, None] * height + down)[:, :, None] * width, across[:, None, :], out=index)
        np.take(x.reshape(-1, c), index, axis=0, out=out, mode="clip")
        if (self.down == BLACK).any() or (self.across == BLACK).any():
            out[(down == BLACK)[:, :, None] | (across == BLACK)[:, None, :]] = 0


def _cropped(n: int, spec: AugmentSpec) -> NDArray[np.int32]:
    """(2 padding + 1, n): the source positions of n in a row, for a crop that begins at 0, 1 … of the padded row."""
    padding = spec.crop.padding if spec.crop else 0
    at = np.arange(n) + np.arange(-padding, padding + 1)[:, None]
    if spec.crop is not None and spec.crop.border == "zero":
        at = np.where((at < 0) | (at >= n), BLACK, at)
    else:
        at = n - 1 - np.abs(n - 1 - np.abs(at))
    return at.astype(np.int32)


def _shifted(lists: NDArray[np.int32], spec: AugmentSpec) -> NDArray[np.int32]:
    """(D L, n): each of ``lists`` (L, n) shifted by each of D distances; all lists by the first come first."""
    n = lists.shape[1]
    furthest = int(spec.shift.share * n) if spec.shift else 0
    at = np.arange(n) - np.arange(-furthest, furthest + 1)[:, None]
    inside = (at >= 0) & (at < n)
    if spec.shift is not None and spec.shift.border == "reflect":
        at = n - 1 - np.abs(n - 1 - np.abs(at))
    shifted = np.where(inside, 0, BLACK)[:, None] if spec.shift is None or spec.shift.border == "zero" else 0
    found = lists[:, np.clip(at, 0, n - 1)].transpose(1, 0, 2)
    return np.ascontiguousarray(np.where(shifted == BLACK, BLACK, found).reshape(-1, n), np.int32)
