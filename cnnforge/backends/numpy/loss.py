"""Losses with their last activation folded in.

Forward: z, labels -> loss (N,), hits (N,), both means over a sample's outputs. Backward: z, labels -> dz, the gradient
of the loss *summed* over the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnforge.backends.base import Kernel, Step
from cnnforge.backends.numpy.activation import softmax_into
from cnnforge.backends.numpy.types import Array, Arrays


def _mean_per_sample(values: Array, out: Array) -> Step:
    """(N, …) -> (N,)."""
    flat = values.reshape(len(values), -1)

    def step() -> None:
        np.mean(flat, axis=1, out=out)

    return step


def softmax_cross_entropy(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """log(sum e^z) - z[label], with the largest z subtracted first. z (N, …, C), labels (N, …) int64."""
    (z, labels), (loss, hits), (shifted, right, per_row, picked, best) = ins, outs, scratch
    numbers = np.arange(z.shape[-1])
    log_sum = per_row[..., 0]
    mean_loss, mean_hits = _mean_per_sample(log_sum, loss), _mean_per_sample(picked, hits)

    def step() -> None:
        np.equal(labels[..., None], numbers, out=right)
        np.argmax(z, axis=-1, out=best)
        np.max(z, axis=-1, keepdims=True, out=per_row)
        np.subtract(z, per_row, out=shifted)
        np.sum(shifted, axis=-1, out=picked, where=right)
        np.exp(shifted, out=shifted)
        np.sum(shifted, axis=-1, keepdims=True, out=per_row)
        np.log(per_row, out=per_row)
        np.subtract(log_sum, picked, out=log_sum)
        mean_loss()
        np.equal(best, labels, out=picked)
        mean_hits()

    return step


def softmax_cross_entropy_dz(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """softmax(z) - one-hot(label), over the number of rows per sample."""
    (z, labels), (dz,), (right, per_row) = ins, outs, scratch
    numbers = np.arange(z.shape[-1])
    rows = labels.size // max(1, len(labels))

    def step() -> None:
        softmax_into(z, dz, per_row)
        np.equal(labels[..., None], numbers, out=right)
        np.subtract(dz, right, out=dz)
        if rows > 1:
            np.divide(dz, rows, out=dz)

    return step


def _weighted(q: Array, labels: int, per_sample: int, gathered: Sequence[Array]) -> float:
    """Labels / the sum of their weights, which is that of ``q``; 0 where none has a weight. Of all processes where
    ``gathered`` knows of others.
    """
    if gathered:
        labels, weight = int(gathered[0][:, 0].sum()) * per_sample, float(gathered[0][:, 1].sum())
    else:
        weight = float(q.sum())
    return labels / weight if weight > 0 else 0.0


def class_targets(ins: Arrays, outs: Arrays, scratch: Arrays, smoothing: float, weights: tuple[float, ...]) -> Step:
    """What each class's log probability counts: q_c = w_c ((1 - smoothing) [c is the label] + smoothing / C).

    labels (N, …) int64 -> q (N, …, C). With weights, q is divided by the mean weight of the batch's labels, so that the
    mean over samples of what follows is the weighted one. A label that is no class counts nothing.
    A second input, of several processes: (ranks, 2), the samples of each and the sum of their labels' weights.
    """
    (labels, *gathered), (q,), (right, known, total) = ins, outs, scratch
    numbers = np.arange(q.shape[-1])
    w = np.ones(q.shape[-1], q.dtype) if not weights else np.array(weights, q.dtype)
    rest = w * (smoothing / len(w))

    def step() -> None:
        np.equal(labels[..., None], numbers, out=right)
        np.multiply(right, w, out=q)
        if weights:
            total[0] = _weighted(q, labels.size, labels.size // len(labels), gathered)
        np.multiply(q, 1 - smoothing, out=q)
        np.any(right, axis=-1, keepdims=True, out=known)
        np.add(q, rest, out=q, where=known)
        if weights:
            np.multiply(q, total, out=q)

    return step


def mixed_targets(ins: Arrays, outs: Arrays, scratch: Arrays, smoothing: float, weights: tuple[float, ...]) -> Step:
    """As ``class_targets``, of two labels that share a sample; a label's weight counts by its share.

    labels (N, 3): two class numbers and the share of the first -> q (N, C), the label of the larger share (N,) int64.
    """
    (labels, *gathered), (q, best), (one, other, right, total) = ins, outs, scratch
    numbers = np.arange(q.shape[-1])
    w = np.ones(q.shape[-1], q.dtype) if not weights else np.array(weights, q.dtype)
    rest = w * (smoothing / len(w))
    (a, b), share = (labels[:, k, None] for k in (0, 1)), labels[:, 2, None]

    def step() -> None:
        np.equal(a, numbers, out=right)
        np.multiply(right, share, out=one)
        np.equal(b, numbers, out=right)
        np.multiply(right, share, out=other)
        np.subtract(right, other, out=other)
        np.add(one, other, out=q)
        np.multiply(q, w, out=q)
        np.copyto(best, labels[:, 1], casting="unsafe")
        np.copyto(best, labels[:, 0], casting="unsafe", where=labels[:, 2] >= 0.5)
        if weights:
            total[0] = _weighted(q, len(labels), 1, gathered)
        np.multiply(q, 1 - smoothing, out=q)
        np.add(q, rest, out=q)
        if weights:
            np.multiply(q, total, out=q)

    return step


def soft_cross_entropy(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """sum of q (log(sum e^z) - z), with the largest z subtracted first. z, q (N, …, C); labels (N, …) for the hits."""
    (z, q, labels), (loss, hits), (shifted, per_row, picked, best) = ins, outs, scratch
    mean_loss, mean_hits = _mean_per_sample(picked, loss), _mean_per_sample(picked, hits)

    def step() -> None:
        np.argmax(z, axis=-1, out=best)
        np.max(z, axis=-1, keepdims=True, out=per_row)
        np.subtract(z, per_row, out=shifted)
        np.exp(shifted, out=shifted)
        np.sum(shifted, axis=-1, keepdims=True, out=picked[..., None])
        np.log(picked, out=picked)
        np.subtract(z, per_row, out=shifted)
        np.subtract(picked[..., None], shifted, out=shifted)
        np.multiply(shifted, q, out=shifted)
        np.sum(shifted, axis=-1, out=picked)
        mean_loss()
        np.equal(best, labels, out=picked)
        mean_hits()

    return step


def soft_cross_entropy_dz(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """softmax(z) sum(q) - q, over the number of rows per sample."""
    (z, q), (dz,), (per_row,) = ins, outs, scratch
    rows = z[0].size // z.shape[-1] if len(z) else 1

    def step() -> None:
        softmax_into(z, dz, per_row)
        np.sum(q, axis=-1, keepdims=True, out=per_row)
        np.multiply(dz, per_row, out=dz)
        np.subtract(dz, q, out=dz)
        if rows > 1:
            np.divide(dz, rows, out=dz)

    return step


def sigmoid_cross_entropy(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """max(z, 0) - z t + log(1 + e^-|z|): no exponential of a large number. z, labels t (N, …)."""
    (z, t), (loss, hits), (a, b, yes, wanted) = ins, outs, scratch
    mean_loss, mean_hits = _mean_per_sample(a, loss), _mean_per_sample(b, hits)

    def step() -> None:
        # The difference first: it is 0 for a right answer, and a small loss keeps its digits.
        np.maximum(z, 0, out=a)
        np.multiply(z, t, out=b)
        np.subtract(a, b, out=a)
        np.abs(z, out=b)
        np.negative(b, out=b)
        np.exp(b, out=b)
        np.log1p(b, out=b)
        np.add(a, b, out=a)
        mean_loss()
        np.greater(z, 0, out=yes)
        np.greater(t, 0.5, out=wanted)
        np.equal(yes, wanted, out=b)
        mean_hits()

    return step


def sigmoid_cross_entropy_dz(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """(sigmoid(z) - t) over the number of outputs per sample."""
    from scipy.special import expit

    (z, t), (dz,) = ins, outs
    outputs = z.size // max(1, len(z))

    def step() -> None:
        expit(z, out=dz)
        np.subtract(dz, t, out=dz)
        if outputs > 1:
            np.divide(dz, outputs, out=dz)

    return step


def weighted_sigmoid_cross_entropy(
    ins: Arrays, outs: Arrays, scratch: Arrays, smoothing: float, pos_weight: float
) -> Step:
    """yes (max(-z, 0) + l) + no (max(z, 0) + l) with l = log(1 + e^-|z|), yes = pos_weight t', no = 1 - t'.

    t' = (1 - smoothing) t + smoothing / 2. z, labels t (N, …).
    """
    (z, t), (loss, hits), (yes, no, a, b, above, wanted) = ins, outs, scratch
    mean_loss, mean_hits = _mean_per_sample(a, loss), _mean_per_sample(b, hits)

    def step() -> None:
        _yes_and_no(t, smoothing, pos_weight, yes, no)
        np.maximum(z, 0, out=a)
        np.multiply(a, no, out=a)
        np.minimum(z, 0, out=b)
        np.multiply(b, yes, out=b)
        np.subtract(a, b, out=a)
        np.add(yes, no, out=yes)
        np.abs(z, out=b)
        np.negative(b, out=b)
        np.exp(b, out=b)
        np.log1p(b, out=b)
        np.multiply(b, yes, out=b)
        np.add(a, b, out=a)
        mean_loss()
        np.greater(z, 0, out=above)
        np.greater(t, 0.5, out=wanted)
        np.equal(above, wanted, out=b)
        mean_hits()

    return step


def weighted_sigmoid_cross_entropy_dz(
    ins: Arrays, outs: Arrays, scratch: Arrays, smoothing: float, pos_weight: float
) -> Step:
    """(sigmoid(z) (yes + no) - yes) over the number of outputs per sample."""
    from scipy.special import expit

    (z, t), (dz,), (yes, no) = ins, outs, scratch
    outputs = z.size // max(1, len(z))

    def step() -> None:
        _yes_and_no(t, smoothing, pos_weight, yes, no)
        np.add(yes, no, out=no)
        expit(z, out=dz)
        np.multiply(dz, no, out=dz)
        np.subtract(dz, yes, out=dz)
        if outputs > 1:
            np.divide(dz, outputs, out=dz)

    return step


def _yes_and_no(t: Array, smoothing: float, pos_weight: float, yes: Array, no: Array) -> None:
    """What the two answers count: pos_weight t' and 1 - t'."""
    np.multiply(t, 1 - smoothing, out=yes)
    np.add(yes, smoothing / 2, out=yes)
    np.subtract(1, yes, out=no)
    np.multiply(yes, pos_weight, out=yes)


def mse(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """(y - target)^2. Nothing is right or wrong here: hits are 0."""
    (y, target), (loss, hits), (square,) = ins, outs, scratch
    mean_loss = _mean_per_sample(square, loss)

    def step() -> None:
        np.subtract(y, target, out=square)
        np.multiply(square, square, out=square)
        mean_loss()
        hits.fill(0)

    return step


def mse_dz(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """2 (y - target) over the number of outputs per sample."""
    (y, target), (dz,) = ins, outs
    outputs = y.size // max(1, len(y))

    def step() -> None:
        np.subtract(y, target, out=dz)
        np.multiply(dz, 2.0 / outputs, out=dz)

    return step


KERNELS: dict[str, Kernel] = {
    "softmax_cross_entropy": softmax_cross_entropy, "softmax_cross_entropy_dz": softmax_cross_entropy_dz,
    "sigmoid_cross_entropy": sigmoid_cross_entropy, "sigmoid_cross_entropy_dz": sigmoid_cross_entropy_dz,
    "class_targets": class_targets, "mixed_targets": mixed_targets,
    "soft_cross_entropy": soft_cross_entropy, "soft_cross_entropy_dz": soft_cross_entropy_dz,
    "weighted_sigmoid_cross_entropy": weighted_sigmoid_cross_entropy,
    "weighted_sigmoid_cross_entropy_dz": weighted_sigmoid_cross_entropy_dz,
    "mse": mse, "mse_dz": mse_dz,
}  # fmt: skip
