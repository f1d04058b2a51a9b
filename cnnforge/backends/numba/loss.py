"""Losses with their last activation folded in, and softmax, whose rows they share.

Forward: z, labels -> loss (N,), hits (N,), both means over a sample's outputs. Backward: z, labels -> dz, the gradient
of the loss *summed* over the batch. What is not finite in z is so in the loss.
Rows are short and are read two or three times from the first cache; exponentials limit all of them but mse.
"""

from __future__ import annotations

from math import log
from typing import Any

from cnnforge.backends.numba.driver import Call, bound
from cnnforge.backends.numba.elementwise import streamed
from cnnforge.backends.numba.functions import exp, log1p_of_share, sigmoid
from cnnforge.backends.numba.language import float32, float64
from cnnforge.backends.numba.rules.elementwise import PIECE
from cnnforge.backends.numba.signature import Kernel, doubles, floats, longs, part
from cnnforge.backends.numba.vectors import (
    LANES,
    larger,
    largest,
    leading,
    magnitude,
    put_upto,
    splat,
    splat_at,
    total,
    upto,
    where,
)
from cnnforge.backends.numpy.types import Arrays


@part
def _largest_of(row: int, c: int) -> Any:
    """The largest of c numbers."""
    top = splat_at(row)
    for k in range(0, c, LANES):
        top = larger(where(leading(c - k), upto(row + 4 * k, c - k), top), top)
    return largest(top)


@part
def _softmax_row(row: int, into: int, c: int, share: float) -> None:
    """share e^z / sum e^z of c numbers, after subtracting the largest so that nothing overflows."""
    top, s = splat(_largest_of(row, c)), splat(0)
    for k in range(0, c, LANES):
        v = exp(upto(row + 4 * k, c - k) - top)
        put_upto(into + 4 * k, v, c - k)
        s += where(leading(c - k), v, splat(0))
    divisor, factor = splat(total(s)), splat(share)
    for k in range(0, c, LANES):
        put_upto(into + 4 * k, upto(into + 4 * k, c - k) / divisor * factor, c - k)


@Kernel
def _softmax(block: int, lo: int, hi: int, thread: int) -> None:
    """x -> y. Range: rows of C."""
    a = longs(block)
    x, y, c = a[0], a[1], a[2]
    for row in range(lo, hi):
        _softmax_row(x + 4 * c * row, y + 4 * c * row, c, 1.0)


@Kernel
def _softmax_dx(block: int, lo: int, hi: int, thread: int) -> None:
    """y, dy -> dx = y (dy - sum(dy y)). Range: rows of C."""
    a = longs(block)
    c = a[3]
    for row in range(lo, hi):
        y, dy, dx = a[0] + 4 * c * row, a[1] + 4 * c * row, a[2] + 4 * c * row
        s = splat(0)
        for k in range(0, c, LANES):
            s += upto(y + 4 * k, c - k) * upto(dy + 4 * k, c - k)
        dot = splat(total(s))
        for k in range(0, c, LANES):
            put_upto(dx + 4 * k, (upto(dy + 4 * k, c - k) - dot) * upto(y + 4 * k, c - k), c - k)


@part
def _is_first_best(row: int, label: int, best: float) -> bool:
    """Is the label's number the largest, and the first that is so large?"""
    numbers = floats(row)
    first = 0
    while first < label and numbers[first] < best:
        first += 1
    return first == label and numbers[label] == best


@Kernel
def _softmax_cross_entropy(block: int, lo: int, hi: int, thread: int) -> None:
    """log(sum e^z) - z[label], with the largest z subtracted first; a hit where the first largest is the label's.

    z (N, rows, C), labels (N, rows) int64. Range: samples.
    """
    a = longs(block)
    z, labels, losses, hits, rows, c = a[0], longs(a[1]), floats(a[2]), floats(a[3]), a[4], a[5]
    for sample in range(lo, hi):
        loss, right = float64(0), 0
        for row in range(sample * rows, (sample + 1) * rows):
            at, label = z + 4 * c * row, labels[row]
            best = _largest_of(at, c)
            s = splat(0)
            for k in range(0, c, LANES):
                s += where(leading(c - k), exp(upto(at + 4 * k, c - k) - splat(best)), splat(0))
            loss += log(float64(total(s)))
            if 0 <= label < c:
                loss -= float64(floats(at)[label] - best)
                right += _is_first_best(at, label, best)
        losses[sample] = loss / rows
        hits[sample] = right / rows


@Kernel
def _softmax_cross_entropy_dz(block: int, lo: int, hi: int, thread: int) -> None:
    """(softmax(z) - one-hot(label)) / rows. Range: rows of C of all samples."""
    a = longs(block)
    z, labels, dz, c, share = a[0], longs(a[1]), a[2], a[3], doubles(a[4])[0]
    for row in range(lo, hi):
        at, label = dz + 4 * c * row, labels[row]
        _softmax_row(z + 4 * c * row, at, c, share)
        if 0 <= label < c:
            floats(at)[label] -= float32(share)


@Kernel
def _soft_cross_entropy(block: int, lo: int, hi: int, thread: int) -> None:
    """sum of q (log(sum e^z) - z), with the largest z subtracted first; a hit where the first largest is the label's.

    z, q (N, rows, C), labels (N, rows) int64. Range: samples.
    """
    a = longs(block)
    z, q, labels, losses, hits, rows, c = a[0], a[1], longs(a[2]), floats(a[3]), floats(a[4]), a[5], a[6]
    for sample in range(lo, hi):
        loss, right = float64(0), 0
        for row in range(sample * rows, (sample + 1) * rows):
            at, wanted, label = z + 4 * c * row, q + 4 * c * row, labels[row]
            best = _largest_of(at, c)
            s = weight = dot = splat(0)
            for k in range(0, c, LANES):
                v, share = upto(at + 4 * k, c - k) - splat(best), upto(wanted + 4 * k, c - k)
                s += where(leading(c - k), exp(v), splat(0))
                weight += where(leading(c - k), share, splat(0))
                dot += where(leading(c - k), share * v, splat(0))
            loss += log(float64(total(s))) * float64(total(weight)) - float64(total(dot))
            if 0 <= label < c:
                right += _is_first_best(at, label, best)
        losses[sample] = loss / rows
        hits[sample] = right / rows


@Kernel
def _soft_cross_entropy_dz(block: int, lo: int, hi: int, thread: int) -> None:
    """(softmax(z) sum(q) - q) share. Range: rows of C of all samples."""
    a = longs(block)
    z, q, dz, c, share = a[0], a[1], a[2], a[3], doubles(a[4])[0]
    for row in range(lo, hi):
        at, wanted = dz + 4 * c * row, q + 4 * c * row
        weight = splat(0)
        for k in range(0, c, LANES):
            weight += where(leading(c - k), upto(wanted + 4 * k, c - k), splat(0))
        _softmax_row(z + 4 * c * row, at, c, total(weight) * share)
        factor = splat(share)
        for k in range(0, c, LANES):
            put_upto(at + 4 * k, upto(at + 4 * k, c - k) - upto(wanted + 4 * k, c - k) * factor, c - k)


@Kernel
def _weighted_sigmoid_cross_entropy(block: int, lo: int, hi: int, thread: int) -> None:
    """yes (max(-z, 0) + l) + no (max(z, 0) + l) with l = log(1 + e^-|z|), yes = pos_weight t', no = 1 - t'.

    t' = (1 - smoothing) t + smoothing / 2. z, labels t (N, n). Range: samples. A hit as without weights.
    """
    a = longs(block)
    losses, hits, n = floats(a[2]), floats(a[3]), a[4]
    keep, add, pos_weight = splat(1 - doubles(a[5])[0]), splat(doubles(a[5])[0] / 2), splat(doubles(a[6])[0])
    zero, one, half = splat(0), splat(1), splat(0.5)
    for sample in range(lo, hi):
        z, t = a[0] + 4 * n * sample, a[1] + 4 * n * sample
        loss, right = float64(0), float64(0)
        for first in range(0, n, PIECE):
            s = hit = zero
            for i in range(first, min(first + PIECE, n), LANES):
                score, truth = upto(z + 4 * i, n - i), upto(t + 4 * i, n - i)
                soft = truth * keep + add
                yes, no = soft * pos_weight, one - soft
                # The sides apart: that of a right answer is 0, and a small loss keeps its digits.
                v = larger(zero, score) * no + larger(zero, -score) * yes
                v += (yes + no) * log1p_of_share(exp(-magnitude(score)))
                s += where(leading(n - i), v, zero)
                above = where(score > zero, one, zero)
                hit += where(leading(n - i), where(truth > half, above, one - above), zero)
            loss += float64(total(s))
            right += float64(total(hit))
        losses[sample] = loss / n
        hits[sample] = right / n


@Kernel
def _weighted_sigmoid_cross_entropy_dz(block: int, lo: int, hi: int, thread: int) -> None:
    """dz = (sigmoid(z) (yes + no) - yes) share. Range: pieces."""
    a = longs(block)
    z, t, dz, share, n = a[0], a[1], a[2], splat(doubles(a[3])[0]), a[6]
    keep, add, pos_weight = splat(1 - doubles(a[4])[0]), splat(doubles(a[4])[0] / 2), splat(doubles(a[5])[0])
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        soft = upto(t + 4 * i, n - i) * keep + add
        yes, no = soft * pos_weight, splat(1) - soft
        put_upto(dz + 4 * i, (sigmoid(upto(z + 4 * i, n - i)) * (yes + no) - yes) * share, n - i)


@Kernel
def _sigmoid_cross_entropy(block: int, lo: int, hi: int, thread: int) -> None:
    """max(z, 0) - z t + log(1 + e^-|z|): no exponential of a large number. z, labels t (N, n). Range: samples.

    A hit is z > 0 where t > 1/2, and not elsewhere.
    """
    a = longs(block)
    losses, hits, n = floats(a[2]), floats(a[3]), a[4]
    zero, one, half = splat(0), splat(1), splat(0.5)
    for sample in range(lo, hi):
        z, t = a[0] + 4 * n * sample, a[1] + 4 * n * sample
        loss, right = float64(0), float64(0)
        for first in range(0, n, PIECE):
            s = hit = zero
            for i in range(first, min(first + PIECE, n), LANES):
                score, truth = upto(z + 4 * i, n - i), upto(t + 4 * i, n - i)
                # The difference first: it is 0 for a right answer, and a small loss keeps its digits.
                v = larger(zero, score) - score * truth + log1p_of_share(exp(-magnitude(score)))
                s += where(leading(n - i), v, zero)
                yes = where(score > zero, one, zero)
                same = where(truth > half, yes, one - yes)
                hit += where(leading(n - i), same, zero)
            loss += float64(total(s))
            right += float64(total(hit))
        losses[sample] = loss / n
        hits[sample] = right / n


@Kernel
def _sigmoid_cross_entropy_dz(block: int, lo: int, hi: int, thread: int) -> None:
    """dz = (sigmoid(z) - t) share. Range: pieces."""
    a = longs(block)
    z, t, dz, share, n = a[0], a[1], a[2], splat(doubles(a[3])[0]), a[4]
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        put_upto(dz + 4 * i, (sigmoid(upto(z + 4 * i, n - i)) - upto(t + 4 * i, n - i)) * share, n - i)


@Kernel
def _mse(block: int, lo: int, hi: int, thread: int) -> None:
    """(y - target)^2. Nothing is right or wrong here: hits are 0. y, target (N, n). Range: samples."""
    a = longs(block)
    losses, hits, n = floats(a[2]), floats(a[3]), a[4]
    for sample in range(lo, hi):
        y, target = a[0] + 4 * n * sample, a[1] + 4 * n * sample
        loss = float64(0)
        for first in range(0, n, PIECE):
            s = splat(0)
            for i in range(first, min(first + PIECE, n), LANES):
                d = upto(y + 4 * i, n - i) - upto(target + 4 * i, n - i)
                s += d * d
            loss += float64(total(s))
        losses[sample] = loss / n
        hits[sample] = 0


@Kernel
def _mse_dz(block: int, lo: int, hi: int, thread: int) -> None:
    """dz = (y - target) share. Range: pieces."""
    a = longs(block)
    y, target, dz, share, n = a[0], a[1], a[2], splat(doubles(a[3])[0]), a[4]
    for i in range(lo * PIECE, min(hi * PIECE, n), LANES):
        put_upto(dz + 4 * i, (upto(y + 4 * i, n - i) - upto(target + 4 * i, n - i)) * share, n - i)


def softmax(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int) -> Call:
    """Over the last axis."""
    (x,), (y,) = ins, outs
    c = x.shape[-1]
    return bound(_softmax, x.size // c, threads, x, y, c)


def softmax_dx(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int) -> Call:
    (y, dy), (dx,) = ins, outs
    c = y.shape[-1]
    return bound(_softmax_dx, y.size // c, threads, y, dy, dx, c)


def softmax_cross_entropy(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int) -> Call:
    (z, labels), (loss, hits) = ins, outs
    rows = labels.size // len(labels)
    return bound(_softmax_cross_entropy, len(z), threads, z, labels, loss, hits, rows, z.shape[-1])


def softmax_cross_entropy_dz(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int) -> Call:
    (z, labels), (dz,) = ins, outs
    share = len(labels) / labels.size
    return bound(_softmax_cross_entropy_dz, labels.size, threads, z, labels, dz, z.shape[-1], share)


def soft_cross_entropy(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int) -> Call:
    z, _, labels = ins
    return bound(_soft_cross_entropy, len(z), threads, *ins, *outs, labels.size // len(labels), z.shape[-1])


def soft_cross_entropy_dz(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int) -> Call:
    z, c = ins[0], ins[0].shape[-1]
    return bound(_soft_cross_entropy_dz, z.size // c, threads, *ins, *outs, c, len(z) * c / z.size)


def weighted_sigmoid_cross_entropy(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, smoothing: float, pos_weight: float
) -> Call:
    z, options = ins[0], (float(smoothing), float(pos_weight))
    return bound(_weighted_sigmoid_cross_entropy, len(z), threads, *ins, *outs, z.size // len(z), *options)


def weighted_sigmoid_cross_entropy_dz(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, smoothing: float, pos_weight: float
) -> Call:
    z, options = ins[0], (float(smoothing), float(pos_weight))
    return streamed(_weighted_sigmoid_cross_entropy_dz, threads, *ins, *outs, len(z) / z.size, *options, n=z.size)


def _per_sample(kernel: Kernel) -> Any:
    def bind(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int) -> Call:
        z = ins[0]
        return bound(kernel, len(z), threads, *ins, *outs, z.size // len(z))

    return bind


def _gradient(kernel: Kernel, factor: float) -> Any:
    def bind(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int) -> Call:
        z = ins[0]
        return streamed(kernel, threads, *ins, outs[0], factor * len(z) / z.size, n=z.size)

    return bind


NATIVE: dict[str, Any] = {
    "softmax": softmax, "softmax_dx": softmax_dx,
    "softmax_cross_entropy": softmax_cross_entropy, "softmax_cross_entropy_dz": softmax_cross_entropy_dz,
    "soft_cross_entropy": soft_cross_entropy, "soft_cross_entropy_dz": soft_cross_entropy_dz,
    "weighted_sigmoid_cross_entropy": weighted_sigmoid_cross_entropy,
    "weighted_sigmoid_cross_entropy_dz": weighted_sigmoid_cross_entropy_dz,
    "sigmoid_cross_entropy": _per_sample(_sigmoid_cross_entropy),
    "sigmoid_cross_entropy_dz": _gradient(_sigmoid_cross_entropy_dz, 1.0),
    "mse": _per_sample(_mse), "mse_dz": _gradient(_mse_dz, 2.0),
}  # fmt: skip
