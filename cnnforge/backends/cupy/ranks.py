"""What processes that train one net together tell each other, by way of the host.

gathered: (ranks, 1 + K), of each rank its samples and its K numbers; 0 samples are of one that has none.
"""

from __future__ import annotations

from typing import Any

from cnnforge.backends.base import Collect, Step
from cnnforge.backends.cupy.device import Arrays, Device, DeviceKernel


def alone(own: Any, into: Any) -> None:
    """The only process's part."""
    into[0] = own


def gather_ranks(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, collect: Collect = alone) -> Step:
    """x (n, …), vectors (…) -> gathered. Waits for the device: no part of a graph."""
    (x, *vectors), (gathered,) = ins, outs

    def step() -> None:
        into = device.get(gathered)
        own, begin = into[0].copy(), 1
        own[0] = x.shape[0]
        for v in vectors:
            own[begin : begin + v.size] = device.get(v).reshape(-1)
            begin += v.size
        collect(own, into)
        device.put(into, gathered)

    return step


KERNELS: dict[str, DeviceKernel] = {"gather_ranks": gather_ranks}
