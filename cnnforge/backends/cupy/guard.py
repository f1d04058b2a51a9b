"""The loss scaled up, its gradients scaled back, and whether an update is left out: decided on the device.

What it does is said at the numpy backend's ``guard``.
"""

from __future__ import annotations

from cnnforge.backends.base import Step
from cnnforge.backends.constants import LEAST_SCALE, MOST_SCALE, SCALE_BACKOFF, SCALE_GROWTH, SCALE_INTERVAL
from cnnforge.backends.cupy.cells import THREADS
from cnnforge.backends.cupy.device import Arrays, Device, DeviceKernel, ScratchRule, chain, each
from cnnforge.backends.cupy.optimizer import square_parts
from cnnforge.ir.op import Scratch

SOURCE = "guard"


def scale_loss(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """dz, device -> dz times the loss scale."""
    (dz, kept), (scaled,) = ins, outs
    return each(device, SOURCE, "scale_loss", dz.size, (dz, kept, scaled, dz.size))


def guard(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """grads (P,), device -> the same: blocks look at their share each, then one block at what they found."""
    (grads, kept), (partial,) = ins, scratch
    n, parts = grads.size, square_parts(grads.size)
    numbers = SCALE_GROWTH, SCALE_INTERVAL, SCALE_BACKOFF, LEAST_SCALE, MOST_SCALE
    return chain(
        (
            device.launch(SOURCE, "unscale", (parts,), (THREADS,), (grads, kept, partial, n)),
            device.launch(SOURCE, "judge", (1,), (THREADS,), (partial, kept, parts, *numbers)),
        )
    )


KERNELS: dict[str, DeviceKernel] = {"scale_loss": scale_loss, "guard": guard}

SCRATCH: dict[str, ScratchRule] = {
    "guard": lambda i, o, a: (Scratch((square_parts(i[0].shape[0]),), i[0].dtype, False),),
}
