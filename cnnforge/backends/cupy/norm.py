"""Batch normalisation, folded and over several processes too. Shapes: x, y (N, …, C); everything else (C,).

gathered: (ranks, 1 + 2 C), of each rank its samples and its numbers; 0 samples are of one that has none.
"""

from __future__ import annotations

from cnnforge.backends.base import Step
from cnnforge.backends.cupy.cells import cells, finish, matrix, parts_of, sum_scratch, sums
from cnnforge.backends.cupy.device import Arrays, Device, DeviceKernel, ScratchRule, chain, cut, each

SOURCE = "norm"


def batch_norm(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, epsilon: float) -> Step:
    """x, gamma, beta -> y, mean, var, unbiased var: Welford's means and squared distances, merged in a fixed order."""
    (x, gamma, beta), (y, mean, var, unbiased), (partial,) = ins, outs, scratch
    rows, columns = matrix(x.shape)
    parts = parts_of(rows, columns)
    statistics = partial, mean, var, unbiased, rows, columns, parts
    return chain(
        (
            sums(device, SOURCE, "batch_norm_spread", rows, columns, (x, partial, rows, columns)),
            finish(device, SOURCE, "batch_norm_statistics", parts, columns, statistics),
            batch_norm_inference(device, (x, gamma, beta, mean, var), (y,), (), epsilon=epsilon),
        )
    )


def batch_norm_inference(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, epsilon: float) -> Step:
    """x, gamma, beta, mean, var -> y."""
    rows, columns = matrix(ins[0].shape)
    return cells(device, SOURCE, "batch_norm_apply", rows, columns, (*ins, *outs, rows, columns, epsilon))


def batch_norm_dparams(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, epsilon: float) -> Step:
    """x, mean, var, dy -> dgamma = sum(dy x_hat), dbeta = sum(dy)."""
    (dgamma, dbeta), (partial,) = outs, scratch
    rows, columns = matrix(ins[0].shape)
    parts = parts_of(rows, columns)
    return chain(
        (
            sums(device, SOURCE, "batch_norm_dparams", rows, columns, (*ins, partial, rows, columns, epsilon)),
            finish(device, SOURCE, "batch_norm_dparams_sum", parts, columns, (partial, dgamma, dbeta, columns, parts)),
        )
    )


def batch_norm_dx(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, epsilon: float) -> Step:
    """x, gamma, mean, var, dgamma, dbeta, dy -> dx."""
    rows, columns = matrix(ins[0].shape)
    return cells(device, SOURCE, "batch_norm_dx", rows, columns, (*ins, *outs, rows, columns, epsilon))


def batch_norm_running(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, momentum: float) -> Step:
    """The batch's mean and unbiased var -> running mean and var: momentum old + (1 - momentum) new."""
    new, kept = cut(ins, 2)
    columns = new[0].size
    return each(device, SOURCE, "batch_norm_running", columns, (*new, *outs, columns, momentum, 1 - momentum, kept))


def fold_batch_norm(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, epsilon: float) -> Step:
    """w (…, F), gamma, beta, running mean, running var[, b] -> weights and bias that norm as well."""
    (w, gamma, beta, mean, var, *b), (folded, shift) = ins, outs
    rows, columns = matrix(w.shape)
    shifted = gamma, beta, mean, var, b[0] if b else mean, shift, columns, epsilon, len(b)
    return chain(
        (
            cells(device, SOURCE, "fold_weights", rows, columns, (w, gamma, var, folded, rows, columns, epsilon)),
            each(device, SOURCE, "fold_shift", columns, shifted),
        )
    )


def batch_norm_merge(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, per_sample: int) -> Step:
    """gathered means and variances -> mean, var, unbiased var of all samples, of ``per_sample`` values each."""
    ranks, columns = ins[0].shape[0], outs[0].size
    return each(device, SOURCE, "batch_norm_merge", columns, (*ins, *outs, ranks, columns, per_sample))


def batch_norm_parts(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """x (n, …, C), gathered dgamma and dbeta -> n / all samples of their sums over the ranks."""
    x, gathered = ins
    ranks, columns = gathered.shape[0], outs[0].size
    return each(device, SOURCE, "batch_norm_parts", columns, (gathered, *outs, ranks, columns, x.shape[0]))


KERNELS: dict[str, DeviceKernel] = {
    "batch_norm": batch_norm, "batch_norm_inference": batch_norm_inference, "batch_norm_dparams": batch_norm_dparams,
    "batch_norm_dx": batch_norm_dx, "batch_norm_running": batch_norm_running, "fold_batch_norm": fold_batch_norm,
    "batch_norm_merge": batch_norm_merge, "batch_norm_parts": batch_norm_parts,
}  # fmt: skip

SCRATCH: dict[str, ScratchRule] = {
    "batch_norm": lambda i, o, a: sum_scratch(i[0], 3),
    "batch_norm_dparams": lambda i, o, a: sum_scratch(i[0], 2),
}
