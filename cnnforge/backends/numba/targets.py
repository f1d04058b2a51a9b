"""What each class counts in a label: smoothed, weighted, mixed of two. For ``soft_cross_entropy``."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnforge.backends.numba.driver import Call, bound
from cnnforge.backends.numba.language import float32, float64
from cnnforge.backends.numba.signature import Kernel, doubles, floats, longs
from cnnforge.backends.numba.vectors import LANES, put_upto, splat, upto
from cnnforge.backends.numpy.types import Arrays


@Kernel
def _label_weights(block: int, lo: int, hi: int, thread: int) -> None:
    """labels (n,), w (C,) -> the factor n / sum of the labels' weights, float64. Range: 1, so in one order always."""
    a = longs(block)
    labels, w, factor, n, c = longs(a[0]), floats(a[1]), doubles(a[2]), a[3], a[4]
    s = float64(0)
    for i in range(n):
        if 0 <= labels[i] < c:
            s += float64(w[labels[i]])
    factor[0] = n / s if s > 0 else float64(0)


@Kernel
def _class_targets(block: int, lo: int, hi: int, thread: int) -> None:
    """labels (n,), right, rest (C,), factor -> q (n, C) = factor (rest + right [c is the label]). Range: rows."""
    a = longs(block)
    labels, right, rest, factor, q, c = longs(a[0]), floats(a[1]), a[2], float32(doubles(a[3])[0]), a[4], a[5]
    for row in range(lo, hi):
        at, label = q + 4 * c * row, labels[row]
        known = 0 <= label < c
        share = splat(factor) if known else splat(0)
        for k in range(0, c, LANES):
            put_upto(at + 4 * k, upto(rest + 4 * k, c - k) * share, c - k)
        if known:
            floats(at)[label] += right[label] * factor


@Kernel
def _mixed_weights(block: int, lo: int, hi: int, thread: int) -> None:
    """As ``_label_weights``, of labels (n, 3): two class numbers and the share of the first."""
    a = longs(block)
    labels, w, factor, n, c = floats(a[0]), floats(a[1]), doubles(a[2]), a[3], a[4]
    s = float64(0)
    for i in range(n):
        one, other, share = int(labels[3 * i]), int(labels[3 * i + 1]), float64(labels[3 * i + 2])
        if 0 <= one < c:
            s += float64(w[one]) * share
        if 0 <= other < c:
            s += float64(w[other]) * (1 - share)
    factor[0] = n / s if s > 0 else float64(0)


@Kernel
def _mixed_targets(block: int, lo: int, hi: int, thread: int) -> None:
    """labels (n, 3), right, rest (C,), factor -> q (n, C) = factor (rest + right share [c is a label]), best (n,).

    best: int64, the label of the larger share. Range: rows.
    """
    a = longs(block)
    labels, right, rest, factor = floats(a[0]), floats(a[1]), a[2], float32(doubles(a[3])[0])
    q, best, c = a[4], longs(a[5]), a[6]
    for row in range(lo, hi):
        at, one, other, share = q + 4 * c * row, int(labels[3 * row]), int(labels[3 * row + 1]), labels[3 * row + 2]
        for k in range(0, c, LANES):
            put_upto(at + 4 * k, upto(rest + 4 * k, c - k) * splat(factor), c - k)
        if 0 <= one < c:
            floats(at)[one] += right[one] * factor * share
        if 0 <= other < c:
            floats(at)[other] += right[other] * factor * (float32(1) - share)
        best[row] = one if share >= float32(0.5) else other


def class_targets(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, smoothing: float, weights: tuple[float, ...]
) -> tuple[Call, ...]:
    """One pass, and with weights their sum before it."""
    return _targets(_class_targets, _label_weights, ins[0].size, ins, outs, scratch, threads, smoothing, weights)


def mixed_targets(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, smoothing: float, weights: tuple[float, ...]
) -> tuple[Call, ...]:
    """As ``class_targets``."""
    return _targets(_mixed_targets, _mixed_weights, len(ins[0]), ins, outs, scratch, threads, smoothing, weights)


def _targets(
    fill: Kernel, sum_up: Kernel, n: int, ins: Arrays, outs: Arrays, scratch: Arrays, threads: int,
    smoothing: float, weights: tuple[float, ...],
) -> tuple[Call, ...]:  # fmt: skip
    """n labels, each a row of the targets."""
    (labels,), c = ins, outs[0].shape[-1]
    w = np.array(weights or (1.0,) * c, np.float32)
    right, rest = w * np.float32(1 - smoothing), w * np.float32(smoothing / c)
    factor = scratch[0] if weights else np.ones(1)
    filled = bound(fill, n, threads, labels, right, rest, factor, *outs, c)
    return (bound(sum_up, 1, threads, labels, w, factor, n, c), filled) if weights else (filled,)


NATIVE: dict[str, Any] = {"class_targets": class_targets, "mixed_targets": mixed_targets}
