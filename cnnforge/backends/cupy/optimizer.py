"""Updates of the flat parameter buffer, its gradients cut off, added up and averaged.

params, grads, slots: (P,); grads are sums over the batch, scaled here by ``inv_n`` of the step block. What changes
params or slots does nothing where the device says so by what it keeps (``cut``).
"""

from __future__ import annotations

from cnnforge.backends.base import Array, Step
from cnnforge.backends.constants import CLIP_EPSILON
from cnnforge.backends.cupy.cells import THREADS
from cnnforge.backends.cupy.device import Arrays, Device, DeviceKernel, Queued, ScratchRule, chain, cut, each
from cnnforge.ir.op import Scratch

SOURCE = "optimizer"

#: Elements that a thread adds up before there are more blocks, and blocks at most, of a sum of squares.
ELEMENTS, MOST_PARTS = 8, 512


def square_parts(n: int) -> int:
    """How many sums the squares of n elements are first cut into."""
    return max(1, min(-(-n // (THREADS * ELEMENTS)), MOST_PARTS))


def squares(device: Device, x: Array, partial: Array) -> Queued:
    """The first step of a sum of squares: partial (square_parts,)."""
    return device.launch(SOURCE, "squares", (square_parts(x.size),), (THREADS,), (x, partial, x.size))


def sgd(
    device: Device,
    ins: Arrays,
    outs: Arrays,
    scratch: Arrays,
    *,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
    rate: float = 1.0,
) -> Step:
    """Plain, with momentum, or with Nesterov's."""
    own, kept = cut(ins, 4 if momentum else 3)
    n = ins[0].size
    if not momentum:
        return each(device, SOURCE, "sgd", n, (*own, n, weight_decay, rate, kept))
    return each(device, SOURCE, "sgd_momentum", n, (*own, n, weight_decay, rate, momentum, int(nesterov), kept))


def rmsprop(
    device: Device,
    ins: Arrays,
    outs: Arrays,
    scratch: Arrays,
    *,
    alpha: float,
    epsilon: float,
    momentum: float,
    weight_decay: float,
    rate: float = 1.0,
) -> Step:
    """Divide by the root of the running mean square."""
    own, kept = cut(ins, 5 if momentum else 4)
    n = ins[0].size
    numbers = weight_decay, rate, alpha, 1 - alpha, epsilon
    if not momentum:
        return each(device, SOURCE, "rmsprop", n, (*own, n, *numbers, kept))
    return each(device, SOURCE, "rmsprop_momentum", n, (*own, n, *numbers, momentum, kept))


def _adam(coupled: bool) -> DeviceKernel:
    def bind(
        device: Device,
        ins: Arrays,
        outs: Arrays,
        scratch: Arrays,
        *,
        beta1: float,
        beta2: float,
        epsilon: float,
        weight_decay: float,
        rate: float = 1.0,
    ) -> Step:
        own, kept = cut(ins, 5)
        n = ins[0].size
        beside, apart = (weight_decay, 0.0) if coupled else (0.0, weight_decay)
        numbers = beside, rate, 1 - beta1, beta2, 1 - beta2, epsilon, apart
        return each(device, SOURCE, "adam", n, (*own, n, *numbers, kept))

    return bind


def gather(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """gathered += grads, both (P,)."""
    return each(device, SOURCE, "gather", ins[0].size, (*ins, ins[0].size))


def take(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """grads = gathered; gathered = 0."""
    return each(device, SOURCE, "take", ins[0].size, (ins[0], outs[0], ins[0].size))


def average(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """mean += (1 - keep) (params - mean), both (P,), keep of the step block; params, to the bit, where that is 0."""
    own, kept = cut(ins, 3)
    return each(device, SOURCE, "average", ins[0].size, (*own, ins[0].size, kept))


def clip_norm(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, most: float) -> Step:
    """grads (P,) sums -> the same, scaled so that the mean gradient is no longer than ``most``; its length before."""
    (grads, block), (_, length), (partial,) = ins, outs, scratch
    n, parts = grads.size, square_parts(grads.size)
    return chain(
        (
            squares(device, grads, partial),
            device.launch(SOURCE, "clip_length", (1,), (THREADS,), (partial, block, length, parts)),
            each(device, SOURCE, "clip_norm", n, (grads, length, n, most, CLIP_EPSILON)),
        )
    )


def clip_value(device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, most: float) -> Step:
    """grads (P,) sums -> the same, each cut off where its mean would be beyond plus or minus ``most``."""
    return each(device, SOURCE, "clip_value", ins[0].size, (*ins, ins[0].size, most))


KERNELS: dict[str, DeviceKernel] = {
    "gather": gather, "take": take, "average": average, "clip_norm": clip_norm, "clip_value": clip_value,
    "sgd": sgd, "rmsprop": rmsprop, "adam": _adam(True), "adamw": _adam(False),
}  # fmt: skip

SCRATCH: dict[str, ScratchRule] = {
    "clip_norm": lambda i, o, a: (Scratch((square_parts(i[0].shape[0]),), i[0].dtype, False),),
}
