"""Numbers in another dtype, and a loss that is scaled up so that small gradients are not lost in one of 2 bytes."""

from __future__ import annotations

import numpy as np

from cnnforge.backends.base import Kernel, Step
from cnnforge.backends.constants import LEAST_SCALE, MOST_SCALE, SCALE_BACKOFF, SCALE_GROWTH, SCALE_INTERVAL
from cnnforge.backends.numpy.types import Arrays
from cnnforge.ir.graph import DEVICE_FIELDS

_SCALE, _SINCE, _SKIP, _STOPPED = (DEVICE_FIELDS.index(name) for name in ("scale", "since", "skip", "stopped"))


def cast(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """x -> y of the same shape, rounded to the nearest number of y's dtype."""
    (x,), (y,) = ins, outs
    return lambda: np.copyto(y, x, casting="unsafe")


def scale_loss(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """dz, device -> dz times the loss scale, of the same shape."""
    (dz, device), (scaled,) = ins, outs
    return lambda: np.multiply(dz, dz.dtype.type(device[_SCALE]), out=scaled)


def guard(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """grads (P,), device -> the same: gradients divided by the loss scale; whether this update is left out.

    It is where one of them is not finite, and the scale then is halved; after ``SCALE_INTERVAL`` updates on end that
    were not left out it is doubled (Micikevicius et al., ICLR 2018). A power of two, it changes no gradient's digits.
    Once training has ``stopped``, every update is left out and the scale stays.
    """
    (grads, device), (space,) = ins, scratch
    pieces = [(grads[low : low + len(space)], space) for low in range(0, len(grads), len(space))]
    pieces[-1] = pieces[-1][0], space[: len(pieces[-1][0])]

    def run() -> None:
        inverse, finite = grads.dtype.type(1 / device[_SCALE]), True
        for piece, is_finite in pieces:
            np.isfinite(piece, out=is_finite)
            finite = finite and bool(is_finite.all())
            np.multiply(piece, inverse, out=piece)
        device[_SKIP] = not finite or device[_STOPPED] != 0
        if device[_STOPPED]:
            return
        device[_SINCE] = device[_SINCE] + 1 if finite else 0
        if not finite:
            device[_SCALE] = max(device[_SCALE] * SCALE_BACKOFF, LEAST_SCALE)
        elif device[_SINCE] == SCALE_INTERVAL:
            device[_SCALE], device[_SINCE] = min(device[_SCALE] * SCALE_GROWTH, MOST_SCALE), 0

    return run


KERNELS: dict[str, Kernel] = {"cast": cast, "scale_loss": scale_loss, "guard": guard}
