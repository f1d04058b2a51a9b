"""What processes that train one net together make of each other's parts of a batch.

gathered: (ranks, 1 + K), of each rank its samples and its K numbers; 0 samples are of one that has none.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from cnnforge.backends.base import Collect, Kernel, Step
from cnnforge.backends.numpy.types import Array, Arrays


def alone(own: Array, into: Array) -> None:
    """The only process's part."""
    into[0] = own


def gather_ranks(ins: Arrays, outs: Arrays, scratch: Arrays, *, collect: Collect) -> Step:
    """x (n, …), vectors (…) -> gathered."""
    (x, *vectors), (gathered,), (own,) = ins, outs, scratch
    parts = []
    begin = 1
    for v in vectors:
        parts.append((own[begin : begin + v.size].reshape(v.shape), v))
        begin += v.size

    def step() -> None:
        own[0] = len(x)
        for part, v in parts:
            np.copyto(part, v)
        collect(own, gathered)

    return step


def batch_norm_merge(ins: Arrays, outs: Arrays, scratch: Arrays, *, per_sample: int) -> Step:
    """gathered means and variances (C,), (C,) -> mean, var, unbiased var of all samples, of ``per_sample`` values each.

    var = sum n (var of a rank + (its mean - mean)^2) / sum n (Chan, Golub and LeVeque, 1983).
    """
    (gathered,), (mean, var, unbiased), (samples, square) = ins, outs, scratch
    c = len(mean)
    means, variances = gathered[:, 1 : 1 + c], gathered[:, 1 + c :]
    by_row, mean_row, var_row = samples.reshape(1, -1), mean.reshape(1, -1), var.reshape(1, -1)

    def step() -> None:
        np.copyto(samples, gathered[:, 0])
        total = float(samples.sum())
        np.matmul(by_row, means, out=mean_row)
        np.divide(mean, total, out=mean)
        np.subtract(means, mean, out=square)
        np.multiply(square, square, out=square)
        np.add(square, variances, out=square)
        np.matmul(by_row, square, out=var_row)
        np.divide(var, total, out=var)
        rows = total * per_sample
        np.multiply(var, rows / (rows - 1) if rows > 1 else 1.0, out=unbiased)

    return step


def batch_norm_parts(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """x (n, …, C), gathered dgamma and dbeta -> n / all samples of their sums over the ranks, each (C,)."""
    (x, gathered), (dgamma, dbeta) = ins, outs
    c = len(dgamma)

    def step() -> None:
        share = len(x) / float(gathered[:, 0].sum())
        for part, columns in ((dgamma, gathered[:, 1 : 1 + c]), (dbeta, gathered[:, 1 + c :])):
            np.sum(columns, axis=0, out=part)
            np.multiply(part, share, out=part)

    return step


def label_weights(ins: Arrays, outs: Arrays, scratch: Arrays, *, weights: tuple[float, ...]) -> Step:
    """Labels -> the sum of their classes' weights, (1,).

    labels: class numbers (N, …), one that is no class has no weight; or, as floats, two for each sample and the share
    of the first, (N, 3)
    """
    (labels,), (total,), (is_one,) = ins, outs, scratch
    mixed = labels.dtype.kind == "f"

    def step() -> None:
        found = 0.0
        for number, weight in enumerate(weights):
            np.equal(labels, number, out=is_one)
            if mixed:
                own = float(np.sum(labels[:, 2], where=is_one[:, 0]))
                found += weight * (own + float(np.sum(1 - labels[:, 2], where=is_one[:, 1])))
            else:
                found += weight * np.count_nonzero(is_one)
        total[0] = found

    return step


KERNELS: dict[str, Kernel] = {
    "gather_ranks": partial(gather_ranks, collect=alone),
    "batch_norm_merge": batch_norm_merge, "batch_norm_parts": batch_norm_parts, "label_weights": label_weights,
}  # fmt: skip
