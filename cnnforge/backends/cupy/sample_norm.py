"""Group, layer and local response normalisation. Shapes: x, y, base (N, …, C); gamma, beta (C,); mean and inverse of
group normalisation (N, G), of layer normalisation (N, …).
"""

from __future__ import annotations

from math import prod

from cnnforge.backends.base import Step
from cnnforge.backends.cupy.cells import THREADS, by_row, ceil_power, cells, column_sums, matrix, sum_scratch
from cnnforge.backends.cupy.device import Arrays, Device, DeviceKernel, ScratchRule, chain, each
from cnnforge.backends.cupy.signature import wide
from cnnforge.ir.op import Scratch

SOURCE = "sample_norm"


def _by_group(device: Device, kernel: str, ins: Arrays, outs: Arrays, groups: int, numbers: tuple[float, ...]) -> Step:
    """A kernel with a block for every group of every sample."""
    (n, *_, c), positions = ins[0].shape, prod(ins[0].shape[1:-1])
    threads = min(THREADS, ceil_power(positions * c // groups))
    return device.launch(SOURCE, kernel, (n * groups,), (threads,), (*ins, *outs, positions, c, groups, *numbers))


def group_norm(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, groups: int, epsilon: float) -> Step:
    """x, gamma, beta -> y, mean, inverse."""
    return _by_group(device, "group_norm", ins, outs, groups, (epsilon,))


def group_norm_dx(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, groups: int) -> Step:
    """x, gamma, mean, inverse, dy -> dx."""
    return _by_group(device, "group_norm_dx", ins, outs, groups, ())


def group_norm_dgamma(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, groups: int) -> Step:
    """x, mean, inverse, dy -> dgamma = sum(dy h)."""
    shape = ins[0].shape
    more = prod(shape[1:-1]), groups
    return column_sums(device, SOURCE, "group_norm_dgamma", ins, outs[0], scratch[0], shape, more)


def layer_norm(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, epsilon: float) -> Step:
    """x, gamma, beta -> y, mean, inverse."""
    rows, columns = matrix(ins[0].shape)
    return by_row(device, SOURCE, "layer_norm", rows, columns, (*ins, *outs, rows, columns, epsilon))


def layer_norm_dx(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """x, gamma, mean, inverse, dy -> dx."""
    rows, columns = matrix(ins[0].shape)
    return by_row(device, SOURCE, "layer_norm_dx", rows, columns, (*ins, *outs, rows, columns))


def layer_norm_dgamma(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """x, mean, inverse, dy -> dgamma = sum(dy h)."""
    return column_sums(device, SOURCE, "layer_norm_dgamma", ins, outs[0], scratch[0], ins[0].shape)


def lrn(
    device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, size: int, alpha: float, beta: float, k: float
) -> Step:
    """x -> y, base."""
    rows, columns = matrix(ins[0].shape)
    args = *ins, *outs, rows, columns, size // 2, (size - 1) // 2, alpha / size, beta, k
    return cells(device, SOURCE, "lrn", rows, columns, args)


def lrn_dx(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, size: int, alpha: float, beta: float) -> Step:
    """x, base, dy -> dx."""
    (share,), n = scratch, ins[0].size
    rows, columns = matrix(ins[0].shape)
    args = *ins, share, *outs, rows, columns, size // 2, (size - 1) // 2, 2 * alpha * beta / size, beta
    return chain(
        (
            each(device, SOURCE, "lrn_share", n, (*ins, share, n, beta)),
            cells(device, SOURCE, "lrn_dx", rows, columns, args),
        )
    )


KERNELS: dict[str, DeviceKernel] = {
    "group_norm": group_norm, "group_norm_dx": group_norm_dx, "group_norm_dgamma": group_norm_dgamma,
    "layer_norm": layer_norm, "layer_norm_dx": layer_norm_dx, "layer_norm_dgamma": layer_norm_dgamma,
    "lrn": lrn, "lrn_dx": lrn_dx,
}  # fmt: skip

SCRATCH: dict[str, ScratchRule] = {
    "group_norm_dgamma": lambda i, o, a: sum_scratch(i[0]),
    "layer_norm_dgamma": lambda i, o, a: sum_scratch(i[0]),
    "lrn_dx": lambda i, o, a: (Scratch(i[0].shape, wide(i[0].dtype), i[0].batched),),
}
