"""What labels ask for, smoothed and weighted, and what they weigh."""

from __future__ import annotations

from cnnforge.backends.base import Array, Step
from cnnforge.backends.cupy.cells import THREADS, ceil_power, cells, constant, matrix
from cnnforge.backends.cupy.device import Arrays, Device, DeviceKernel, ScratchRule, chain
from cnnforge.ir.op import Scratch

SOURCE = "targets"


def _weight(device: Device, labels: Array, weights: Array, total: Array) -> Step:
    """The sum of the labels' weights. Floats are two class numbers of each sample and the share of the first."""
    mixed = str(labels.dtype).startswith("float")
    kernel, count = ("mixed_label_weight", labels.shape[0]) if mixed else ("label_weight", labels.size)
    threads = min(THREADS, ceil_power(count))
    return device.launch(SOURCE, kernel, (1,), (threads,), (labels, weights, total, count, weights.size))


def _factor(device: Device, labels: Array, gathered: Arrays, weights: Array, factor: Array, count: int) -> Step:
    """1 / the mean weight of ``count`` labels, of all processes where ``gathered`` knows of others."""
    if gathered:
        ranks, per_sample = gathered[0].shape[0], count // labels.shape[0]
        mean = device.launch(SOURCE, "mean_weight_of_ranks", (1,), (1,), (gathered[0], factor, ranks, per_sample))
        return mean
    mean = device.launch(SOURCE, "mean_weight", (1,), (1,), (factor, count))
    return chain((_weight(device, labels, weights, factor), mean))


def class_targets(
    device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, smoothing: float, weights: tuple[float, ...]
) -> Step:
    """What each class's log probability counts: q_c = w_c ((1 - smoothing) [c is the label] + smoothing / C).

    labels (N, …) int64[, gathered (ranks, 2)] -> q (N, …, C). With weights, q is divided by the labels' mean weight.
    """
    (labels, *gathered), (q,), (factor,) = ins, outs, scratch
    rows, columns = matrix(q.shape)
    each_weight = constant(device, weights or (1.0,) * columns, str(q.dtype))
    args = labels, each_weight, factor, q, rows, columns, 1 - smoothing, smoothing / columns, int(bool(weights))
    write = cells(device, SOURCE, "class_targets", rows, columns, args)
    if not weights:
        return write
    return chain((_factor(device, labels, tuple(gathered), each_weight, factor, labels.size), write))


def mixed_targets(
    device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, smoothing: float, weights: tuple[float, ...]
) -> Step:
    """As ``class_targets``, of two labels that share a sample; a label's weight counts by its share.

    labels (N, 3)[, gathered (ranks, 2)] -> q (N, C), the label of the larger share (N,) int64.
    """
    (labels, *gathered), (q, best), (factor,) = ins, outs, scratch
    rows, columns = matrix(q.shape)
    each_weight = constant(device, weights or (1.0,) * columns, str(q.dtype))
    args = labels, each_weight, factor, q, best, rows, columns, 1 - smoothing, smoothing / columns, int(bool(weights))
    write = cells(device, SOURCE, "mixed_targets", rows, columns, args)
    if not weights:
        return write
    return chain((_factor(device, labels, tuple(gathered), each_weight, factor, labels.shape[0]), write))


def label_weights(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, weights: tuple[float, ...]) -> Step:
    """Labels -> the sum of their classes' weights, (1,)."""
    return _weight(device, ins[0], constant(device, weights, str(outs[0].dtype)), outs[0])


KERNELS: dict[str, DeviceKernel] = {
    "class_targets": class_targets, "mixed_targets": mixed_targets, "label_weights": label_weights,
}  # fmt: skip

SCRATCH: dict[str, ScratchRule] = {
    "class_targets": lambda i, o, a: (Scratch((1,), o[0].dtype, False),),
    "mixed_targets": lambda i, o, a: (Scratch((1,), o[0].dtype, False),),
}
