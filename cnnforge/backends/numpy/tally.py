"""What is kept of the losses beside the step block, so that they need not be looked at one by one."""

from __future__ import annotations

from math import isfinite

from cnnforge.backends.base import Kernel, Step
from cnnforge.backends.numpy.types import Arrays
from cnnforge.ir.graph import DEVICE_FIELDS, STEP_FIELDS

_STEP = STEP_FIELDS.index("step")
_SKIP, _STOPPED, _LOSS, _HITS = (DEVICE_FIELDS.index(name) for name in ("skip", "stopped", "loss", "hits"))


def tally(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """loss (N,), hits (N,), step, device -> device: their sums are added to its own.

    The first step whose loss is not finite is kept as ``stopped``; it and what comes after it is not added, and no
    update is made from there on. Steps are numbered from 1: number 0 is an evaluation, which no loss stops.
    """
    (loss, hits, step, _), (device,) = ins, outs

    def run() -> None:
        losses = float(loss.sum(dtype="float64"))
        if not device[_STOPPED] and step[_STEP] and not isfinite(losses):
            device[_STOPPED] = step[_STEP]
        if device[_STOPPED]:
            device[_SKIP] = 1
            return
        device[_LOSS] += losses
        device[_HITS] += hits.sum(dtype="float64")

    return run


KERNELS: dict[str, Kernel] = {"tally": tally}
