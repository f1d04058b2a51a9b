"""Dropout of single values, channels or samples, drawn by the counter-based generator: to the bit as everywhere."""

from __future__ import annotations

from math import ceil, prod

from cnnforge.backends.base import Array, Step
from cnnforge.backends.cupy.cells import cells, matrix
from cnnforge.backends.cupy.device import Arrays, Device, DeviceKernel, chain, each
from cnnforge.backends.cupy.tail import NOTHING, Tail


def _applied(device: Device, x: Array, mask: Array, y: Array, rate: float, then: Tail = NOTHING) -> Step:
    """y = x mask / (1 - rate); axes of the mask of length 1 stand for the whole axis of x."""
    rows, columns = matrix(x.shape)
    missing = (1,) * (4 - len(x.shape))
    sizes, kept = ((a.shape[0], *missing, *a.shape[1:]) for a in (x, mask))
    strides = [0 if kept[k] == 1 else prod(kept[k + 1 :]) for k in range(4)]
    args = x, mask, y, rows, columns, sizes[1], sizes[2], *strides, 1.0 / (1.0 - rate)
    return cells(device, "dropout", "dropout_apply", rows, columns, args, then)


def dropout(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, rate: float, key: tuple[int, int]) -> Step:
    """x, step -> y = x mask / (1 - rate), mask."""
    (x, block), (y, mask) = ins, outs
    samples, elements = mask.shape[0], prod(mask.shape[1:])
    threshold = ceil(rate * 2**24) << 8  # (word >> 8) * 2**-24 >= rate, on the whole word
    draw = each(
        device, "dropout", "dropout_mask", samples * -(-elements // 4),
        (block, mask, samples, elements, threshold, *key),
    )  # fmt: skip
    return chain((draw, _applied(device, x, mask, y, rate)))


def dropout_dx(
    device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, rate: float, then: Tail = NOTHING
) -> Step:
    """mask, dy -> dx = dy mask / (1 - rate)."""
    (mask, dy), (dx,) = ins, outs
    return _applied(device, dy, mask, dx, rate, then)


KERNELS: dict[str, DeviceKernel] = {"dropout": dropout, "dropout_dx": dropout_dx}
