"""Augmentation that takes two pictures of a batch: one laid over the other, or a part of one put into the other.

The pictures of a batch go in pairs, the first with the second, the third with the fourth: training shuffles them anew
each epoch, so that is a random partner. Both of a pair get the same draw, each with itself and the other in turn, and
labels are shared out as the pictures were. The last picture of an odd batch stays as it is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cnnforge import rng
from cnnforge.backends.base import MIXED
from cnnforge.spec import AugmentSpec

#: log2 of how many shares there are: quantiles of the beta distribution.
_BITS = 12


class Mixing:
    """What ``spec`` may do to two pictures of ``size`` (H, W)."""

    def __init__(self, spec: AugmentSpec, size: tuple[int, int], seed: int) -> None:
        self._spec, self._size, self._seed = spec, size, seed
        self._shares = {kind.alpha: _quantiles(kind.alpha) for kind in (spec.mixup, spec.cutmix) if kind is not None}

    @property
    def nothing(self) -> bool:
        """Does every picture keep to itself?"""
        return not self._spec.mixes

    def draws(self, samples: int, epoch: int) -> NDArray[np.float32]:
        """(samples, MIXED) float32: what a pair gets in an epoch whose first sample this is.

        Sample i's are a pure function of (seed, epoch, i): words of the streams ``augment:mixup`` (0: whether, 1: the
        share, one of 4,096 quantiles) and ``augment:cutmix`` (the same, 2, 3: the middle of the part).
        """
        drawn = np.zeros((samples, MIXED), np.float32)
        drawn[:, 0] = 1
        numbers, (height, width) = np.arange(samples), self._size
        if (mixup := self._spec.mixup) is not None:
            u = rng.words(rng.stream(self._seed, "augment", "mixup"), numbers, 2, epoch)
            share = self._shares[mixup.alpha][u[:, 1] >> (32 - _BITS)]
            drawn[:, 0] = np.where((u[:, 0] >> 8) * 2.0**-24 < mixup.rate, share, 1)
        if (cutmix := self._spec.cutmix) is not None:
            u = rng.words(rng.stream(self._seed, "augment", "cutmix"), numbers, 4, epoch)
            side = np.sqrt(1 - self._shares[cutmix.alpha][u[:, 1] >> (32 - _BITS)])
            sides = np.floor(side[:, None] * (height, width))
            middle = np.floor((u[:, 2:] >> 8) * 2.0**-24 * (height, width))
            first = middle - sides // 2
            box = np.clip(np.concatenate([first, first + sides], axis=1), 0, (height, width) * 2)
            own = 1 - (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]) / (height * width)
            chosen = (u[:, 0] >> 8) * 2.0**-24 < cutmix.rate
            drawn[chosen] = np.column_stack([own, box])[chosen]
        return drawn

    def apply(self, x: NDArray[np.floating], drawn: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mix the pictures x (N, H, W, C) in place, drawn (N, MIXED); (N,) float32, what is its own of each."""
        pairs = len(x) // 2 * 2
        first, second, draw = x[0:pairs:2], x[1:pairs:2], drawn[0:pairs:2]
        cut = draw[:, 3] > draw[:, 1]
        for i in np.flatnonzero(cut):
            top, left, bottom, right = draw[i, 1:].astype(int)
            part = np.s_[i, top:bottom, left:right]
            first[part], second[part] = second[part].copy(), first[part].copy()
        laid = np.flatnonzero(~cut & (draw[:, 0] < 1))
        if len(laid):
            change = (second[laid] - first[laid]) * (1 - draw[laid, 0])[:, None, None, None]
            first[laid] += change
            second[laid] -= change
        return shares(drawn)


def shares(drawn: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N,): what is its own of each picture of a batch; drawn (N, MIXED)."""
    found = np.ones(len(drawn), np.float32)
    pairs = len(drawn) // 2 * 2
    found[:pairs] = drawn[0:pairs:2, 0].repeat(2)
    return found


def partners(n: int) -> NDArray[np.int64]:
    """(n,): with whom each of a batch is mixed."""
    numbers = np.arange(n)
    return np.where(numbers // 2 * 2 + 1 < n, numbers ^ 1, numbers)


def _quantiles(alpha: float) -> NDArray[np.float64]:
    """Of the beta distribution with both parameters ``alpha``, in the middle of each step of the probability."""
    from scipy.special import betaincinv

    steps = 1 << _BITS
    quantiles: NDArray[np.float64] = betaincinv(alpha, alpha, (np.arange(steps) + 0.5) / steps)
    return quantiles
