"""Softmax, and losses with their last activation folded in.

Forward: z, labels -> loss (N,), hits (N,), both means over a sample's outputs. Backward: z, labels -> dz, the gradient
of the loss *summed* over the batch.
"""

from __future__ import annotations

from math import prod

from cnnforge.backends.base import Array, Step
from cnnforge.backends.cupy.cells import by_row, matrix
from cnnforge.backends.cupy.device import Arrays, Device, DeviceKernel, ScratchRule, chain, each
from cnnforge.backends.cupy.signature import wide
from cnnforge.ir.graph import Value
from cnnforge.ir.op import Scratch

SOURCE = "loss"


def softmax(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """Softmax over the last axis."""
    rows, columns = matrix(ins[0].shape)
    return by_row(device, SOURCE, "softmax", rows, columns, (*ins, *outs, rows, columns))


def softmax_dx(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """y, dy -> y (dy - sum(dy y))."""
    rows, columns = matrix(ins[0].shape)
    return by_row(device, SOURCE, "softmax_dx", rows, columns, (*ins, *outs, rows, columns))


def _rows_per_sample(shape: tuple[int, ...]) -> int:
    return prod(shape[1:-1])


def _by_scores(device: Device, kernel: str, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """A loss of every row of scores, and its means where a sample has several rows."""
    rows, columns = matrix(ins[0].shape)
    per_sample = _rows_per_sample(ins[0].shape)
    if per_sample == 1:
        return by_row(device, SOURCE, kernel, rows, columns, (*ins, *outs, rows, columns))

    def mean(of_rows: Array, out: Array) -> Step:
        return by_row(device, SOURCE, "row_means", out.size, per_sample, (of_rows, out, out.size, per_sample))

    return chain(
        (
            by_row(device, SOURCE, kernel, rows, columns, (*ins, *scratch, rows, columns)),
            *(mean(of_rows, out) for of_rows, out in zip(scratch, outs, strict=True)),
        )
    )


def _of_rows(z: Value) -> tuple[Scratch, ...]:
    """The loss and the hits of every row, where a sample has several."""
    return (Scratch(z.shape[:-1], wide(z.dtype)),) * 2 if _rows_per_sample(z.shape) > 1 else ()


def softmax_cross_entropy(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """log(sum e^z) - z[label], with the largest z subtracted first. z (N, …, C), labels (N, …) int64."""
    return _by_scores(device, "softmax_cross_entropy", ins, outs, scratch)


def soft_cross_entropy(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """sum of q (log(sum e^z) - z), with the largest z subtracted first. z, q (N, …, C); labels (N, …) for the hits."""
    return _by_scores(device, "soft_cross_entropy", ins, outs, scratch)


def _dz_by_scores(device: Device, kernel: str, ins: Arrays, outs: Arrays) -> Step:
    rows, columns = matrix(ins[0].shape)
    args = *ins, *outs, rows, columns, _rows_per_sample(ins[0].shape)
    return by_row(device, SOURCE, kernel, rows, columns, args)


def softmax_cross_entropy_dz(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """softmax(z) - one-hot(label), over the number of rows per sample."""
    return _dz_by_scores(device, "softmax_cross_entropy_dz", ins, outs)


def soft_cross_entropy_dz(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """softmax(z) sum(q) - q, over the number of rows per sample."""
    return _dz_by_scores(device, "soft_cross_entropy_dz", ins, outs)


def weighted_sigmoid_cross_entropy(
    device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, smoothing: float, pos_weight: float
) -> Step:
    """yes (max(-z, 0) + l) + no (max(z, 0) + l) with l = log(1 + e^-|z|), yes = pos_weight t', no = 1 - t'.

    t' = (1 - smoothing) t + smoothing / 2. z, labels t (N, …).
    """
    n, outputs = ins[0].shape[0], prod(ins[0].shape[1:])
    args = *ins, *outs, n, outputs, 1 - smoothing, smoothing / 2, pos_weight
    return by_row(device, SOURCE, "weighted_sigmoid_cross_entropy", n, outputs, args)


def weighted_sigmoid_cross_entropy_dz(
    device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, smoothing: float, pos_weight: float
) -> Step:
    """(sigmoid(z) (yes + no) - yes) over the number of outputs per sample."""
    size, outputs = ins[0].size, prod(ins[0].shape[1:])
    args = *ins, *outs, size, outputs, 1 - smoothing, smoothing / 2, pos_weight
    return each(device, SOURCE, "weighted_sigmoid_cross_entropy_dz", size, args)


def sigmoid_cross_entropy(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """max(z, 0) - z t + log(1 + e^-|z|): both answers count 1. z, labels t (N, …)."""
    return weighted_sigmoid_cross_entropy(device, ins, outs, scratch, 0.0, 1.0)


def sigmoid_cross_entropy_dz(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """(sigmoid(z) - t) over the number of outputs per sample."""
    return weighted_sigmoid_cross_entropy_dz(device, ins, outs, scratch, 0.0, 1.0)


def mse(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """(y - target)^2. Nothing is right or wrong here: hits are 0."""
    n, outputs = ins[0].shape[0], prod(ins[0].shape[1:])
    return by_row(device, SOURCE, "mse", n, outputs, (*ins, *outs, n, outputs))


def mse_dz(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """2 (y - target) over the number of outputs per sample."""
    size = ins[0].size
    return each(device, SOURCE, "mse_dz", size, (*ins, *outs, size, 2.0 / prod(ins[0].shape[1:])))


KERNELS: dict[str, DeviceKernel] = {
    "softmax": softmax, "softmax_dx": softmax_dx,
    "softmax_cross_entropy": softmax_cross_entropy, "softmax_cross_entropy_dz": softmax_cross_entropy_dz,
    "soft_cross_entropy": soft_cross_entropy, "soft_cross_entropy_dz": soft_cross_entropy_dz,
    "sigmoid_cross_entropy": sigmoid_cross_entropy, "sigmoid_cross_entropy_dz": sigmoid_cross_entropy_dz,
    "weighted_sigmoid_cross_entropy": weighted_sigmoid_cross_entropy,
    "weighted_sigmoid_cross_entropy_dz": weighted_sigmoid_cross_entropy_dz,
    "mse": mse, "mse_dz": mse_dz,
}  # fmt: skip

SCRATCH: dict[str, ScratchRule] = {
    "softmax_cross_entropy": lambda i, o, a: _of_rows(i[0]),
    "soft_cross_entropy": lambda i, o, a: _of_rows(i[0]),
}
