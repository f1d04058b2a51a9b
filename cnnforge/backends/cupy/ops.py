"""Every op that there is a kernel for, and the workspace that it takes. Imports neither NumPy nor CuPy."""

from __future__ import annotations

from cnnforge.backends.cupy import (
    activation,
    channels,
    conv,
    dropout,
    guard,
    linear,
    loss,
    norm,
    optimizer,
    pool,
    ranks,
    sample_norm,
    tally,
    targets,
    tensorwise,
)
from cnnforge.backends.cupy.device import DeviceKernel, ScratchRule

KERNELS: dict[str, DeviceKernel] = {
    **activation.KERNELS, **channels.KERNELS, **conv.KERNELS, **dropout.KERNELS, **linear.KERNELS, **loss.KERNELS,
    **norm.KERNELS, **optimizer.KERNELS, **pool.KERNELS, **ranks.KERNELS, **sample_norm.KERNELS, **tally.KERNELS,
    **targets.KERNELS, **tensorwise.KERNELS, **guard.KERNELS,
}  # fmt: skip

#: Of those that need any.
SCRATCH: dict[str, ScratchRule] = {
    **channels.SCRATCH, **conv.SCRATCH, **loss.SCRATCH, **norm.SCRATCH, **optimizer.SCRATCH, **sample_norm.SCRATCH,
    **targets.SCRATCH, **tensorwise.SCRATCH, **guard.SCRATCH,
}  # fmt: skip
