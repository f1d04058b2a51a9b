"""Matrix products: cuBLAS's where the device has it, else tiles of our own.

Shapes: x (N, in), w (in, units), y (N, units).
"""

from __future__ import annotations

from cnnforge.backends.base import Array, Step
from cnnforge.backends.cupy.activation import apply
from cnnforge.backends.cupy.device import Arrays, Device, DeviceKernel, chain
from cnnforge.backends.cupy.tail import NOTHING, Tail

#: Rows and columns that one block of the kernel makes, and its threads (see ``source/gemm.cuh``).
TILE, THREADS = 64, 256


def product(
    device: Device, a: Array, b: Array, out: Array, turn_a: bool = False, turn_b: bool = False, tf32: bool = False,
    then: Tail = NOTHING,
) -> Step:  # fmt: skip
    """out = a b, and what follows; a and b are transposed first where asked. A library has a kernel behind it.

    a: (M, K), turned (K, M);  b: (K, U), turned (U, K);  out: (M, U)
    tf32: a library may round to TF32; our tiles do not
    """
    if (library := device.product(a, b, out, turn_a, turn_b, tf32)) is not None:
        return chain((library, apply(device, out, out, then))) if then.functions else library
    rows, columns = out.shape
    depth = a.shape[0 if turn_a else 1]
    down, across = (1, depth) if turn_b else (columns, 1)
    return device.launch(
        "linear", "product_turned" if turn_a else "product", (-(-rows // TILE), -(-columns // TILE)), (THREADS,),
        (a, b, out, rows, columns, depth, down, across), then,
    )  # fmt: skip


def matmul(
    device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, tf32: bool = False, then: Tail = NOTHING
) -> Step:
    """x, w -> y = x w."""
    (x, w), (y,) = ins, outs
    return product(device, x, w, y, tf32=tf32, then=then)


def matmul_dx(
    device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, tf32: bool = False, then: Tail = NOTHING
) -> Step:
    """dy, w -> dx = dy w^T."""
    (dy, w), (dx,) = ins, outs
    return product(device, dy, w, dx, turn_b=True, tf32=tf32, then=then)


def matmul_dw(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, tf32: bool = False) -> Step:
    """x, dy -> dw = x^T dy, summed over the batch."""
    (x, dy), (dw,) = ins, outs
    return product(device, x, dy, dw, turn_a=True, tf32=tf32)


KERNELS: dict[str, DeviceKernel] = {"matmul": matmul, "matmul_dx": matmul_dx, "matmul_dw": matmul_dw}
