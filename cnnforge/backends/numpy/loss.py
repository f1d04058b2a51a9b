"""Losses with their last activation folded in.

Forward: z, labels -> loss (N,), hits (N,), both means over a sample's outputs. Backward: z, labels -> dz, the gradient
of the loss *summed* over the batch.
"""

from __future__ import annotations

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
    "mse": mse, "mse_dz": mse_dz,
}  # fmt: skip
