"""What processes that train one net together tell each other, from device to device.

gathered: (ranks, 1 + K), of each rank its samples and its K numbers; 0 samples are of one that has none.
"""

from __future__ import annotations

from cnnforge.backends.base import Step
from cnnforge.backends.cupy.device import Arrays, Device, DeviceKernel, chain
from cnnforge.backends.together import SINGLE, Together


def gather_ranks(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, together: Together = SINGLE) -> Step:
    """x (n, …), vectors (…) -> gathered. Queued, but in no graph: it depends on whether the samples count just now."""
    (x, *vectors), (gathered,) = ins, outs
    width = gathered.shape[1]
    begin = together.rank * width
    row = gathered.reshape(-1)[begin : begin + width]
    own, at = [device.launch("ranks", "samples", (1,), (1,), (row, x.shape[0]))], 1
    for v in vectors:
        own.append(device.copy(v, row[at : at + v.size]))
        at += v.size
    counts, nothing = chain(own), device.fill(row, 0)

    def step() -> None:
        (nothing if together.idle else counts)()
        if together.size > 1:
            device.gather(gathered)

    return step


KERNELS: dict[str, DeviceKernel] = {"gather_ranks": gather_ranks}
