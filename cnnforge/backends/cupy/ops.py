"""Every op that there is a kernel for, and the workspace that it takes. Imports neither NumPy nor CuPy."""

from __future__ import annotations

from cnnforge.backends.cupy import activation, conv, linear
from cnnforge.backends.cupy.device import DeviceKernel, ScratchRule

KERNELS: dict[str, DeviceKernel] = {
    **activation.KERNELS,
    **conv.KERNELS,
    **linear.KERNELS,
}  # fmt: skip

#: Of those that need any.
SCRATCH: dict[str, ScratchRule] = {
    **conv.SCRATCH,
}  # fmt: skip
