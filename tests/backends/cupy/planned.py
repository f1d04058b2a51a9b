"""Which of cuDNN's plans the convolutions of a net go by, on a card that is not there.

``python -m tests.backends.cupy.planned NET PRECISION CARD BATCH`` prints a line of JSON for each: [op, x, w, epilogue,
plan or null, the workspace that it wants, the workspace that there is]. cuDNN plans for a card by its description. It
wants a driver to be loaded all the same: one that does nothing will do (see test_cudnn_plans.py).
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from math import prod
from typing import Any

from cnnforge.backends.cupy.backend import CupyBackend
from cnnforge.backends.cupy.capabilities import WITH_LIBRARY
from cnnforge.backends.cupy.convolution import Convolution
from cnnforge.backends.cupy.cudnn import Graph
from cnnforge.backends.cupy.device import Queued
from cnnforge.backends.cupy.library import LIBRARY
from cnnforge.ir.graph import DTYPE_BYTES
from cnnforge.lower import eval_graph, train_graph
from cnnforge.plan import make_plan
from tests.report.diagram.nets import shipped

#: What a card says of itself.
CARDS = {
    "H100": (900, 132, 50 << 20, 232448, 32, 2048), "A100": (800, 108, 40 << 20, 166912, 32, 2048),
    "T4": (750, 40, 4 << 20, 65536, 16, 1024),
}  # fmt: skip
OWN = (
    "deviceVer", "multiProcessorCount", "l2CacheSize", "maxSharedMemoryPerBlockOptin", "maxCtasPerSM",
    "maxThreadsPerSM",
)  # fmt: skip
#: What all of them say.
SHARED = {
    "cudaDeviceId": 0, "driverVer": 12080, "deviceName": "A card", "maxGridSize": [2147483647, 65535, 65535],
    "maxBlockSize": [1024, 1024, 64], "regsPerBlock": 65536, "smClockRateKHz": 1980000, "memClockRateKHz": 2619000,
    "memoryBusWidth": 5120, "warpSize": 32, "maxSharedMemoryPerBlock": 49152, "reservedSharedMemoryPerBlock": 1024,
    "maxRegistersPerSM": 65536, "pciDeviceId": 0, "maxThreadsPerBlock": 1024, "isTccDriver": 0,
    "supportCoopLaunch": 1, "totalGlobalMem": 85045805056,
}  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """An array that is nothing else."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * DTYPE_BYTES[self.dtype]

    @property
    def size(self) -> int:
        return prod(self.shape)

    def reshape(self, *shape: int) -> Shape:
        return self


class Listening:
    """A device that writes down which convolutions are asked of it, and with how much workspace."""

    def __init__(self) -> None:
        self.asked: dict[tuple[Convolution, int], None] = {}

    def convolution(self, how: Convolution, plan: int, arrays: Any, space: Shape) -> Queued:
        for array, (_, layout) in zip(arrays, how.operands, strict=True):
            assert array.size == layout.size
        self.asked[how, space.nbytes] = None
        return Queued(lambda: None)

    def launch(self, *args: Any) -> Queued:
        return Queued(lambda: None)


def convolutions(net: str, precision: str, batch: int) -> list[tuple[Convolution, int]]:
    """Those of a training's step and of an evaluation, each once, with their workspace."""
    device: Any = Listening()
    spec = shipped(net)
    for g in (train_graph(spec, batch, precision, 0), eval_graph(spec, batch, precision)):
        for segment in make_plan(g, WITH_LIBRARY).segments:
            for n in segment.nodes:
                if "way" not in n.attrs:
                    continue
                attrs = {**n.attrs, "way": LIBRARY[0]}
                scratch = WITH_LIBRARY.scratch(n.op, n.ins, n.outs, attrs)
                arrays = (tuple(Shape(v.shape, v.dtype) for v in group) for group in (n.ins, n.outs, scratch))
                CupyBackend(device).kernel(n.op)(*arrays, **attrs)
    return list(device.asked)


def main(net: str, precision: str, card: str, batch: str) -> None:
    """See above."""
    import cudnn

    properties = cudnn.create_device_properties(json.dumps(SHARED | dict(zip(OWN, CARDS[card], strict=True))))
    for how, limit in convolutions(net, precision, int(batch)):
        made = Graph(cudnn, how, limit, None, properties)
        index = made.plan(0)
        name, space = (None, 0) if index is None else (made.name(index), made.workspace(index))
        print(json.dumps([how.op, how.x.dims, how.w.dims, how.epilogue, name, space, limit]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
