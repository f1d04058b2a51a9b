"""Updates of the flat parameter buffer, in pieces that stay in the cache.

params, grads, slots: (P,); grads are sums over the batch, scaled here by ``inv_n`` of the step block.
Workspace: two pieces of ``FLAT_CHUNK`` elements. The order of operations is PyTorch's, so rounding agrees closely.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import numpy as np

from cnnforge.backends.base import Kernel, Step
from cnnforge.backends.constants import CLIP_EPSILON
from cnnforge.backends.numpy.types import Array, Arrays
from cnnforge.ir.graph import STEP_FIELDS

_LR, _INV_N, _C1, _C2, _KEEP = (STEP_FIELDS.index(name) for name in ("lr", "inv_n", "c1", "c2", "keep"))

#: ``update(p, g, t, slots, lr, c1, c2)`` on one piece: g is the mean gradient, which it may overwrite, t is free.
Update = Callable[[Array, Array, Array, Arrays, float, float, float], None]


def _in_chunks(ins: Arrays, scratch: Arrays, decay: float, rate: float, update: Update) -> Step:
    """Run ``update`` over pieces; ``decay`` is coupled weight decay, added to the gradient; ``rate`` times the lr."""
    params, grads, block, *slots = ins
    (space,) = scratch
    width = space.shape[1]
    pieces = []
    for low in range(0, len(params), width):
        here = slice(low, low + width)
        size = len(params[here])
        pieces.append((params[here], grads[here], space[0, :size], space[1, :size], tuple(s[here] for s in slots)))

    def step() -> None:
        inv_n, lr, c1, c2 = float(block[_INV_N]), float(block[_LR]) * rate, float(block[_C1]), float(block[_C2])
        for p, sums, g, t, own in pieces:
            np.multiply(sums, inv_n, out=g)
            if decay:
                np.multiply(p, decay, out=t)
                np.add(g, t, out=g)
            update(p, g, t, own, lr, c1, c2)

    return step


def sgd(
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

    def update(p: Array, g: Array, t: Array, slots: Arrays, lr: float, c1: float, c2: float) -> None:
        if momentum:
            (velocity,) = slots
            np.multiply(velocity, momentum, out=velocity)
            np.add(velocity, g, out=velocity)
            if nesterov:
                np.multiply(velocity, momentum, out=t)
                np.add(g, t, out=g)
            else:
                np.copyto(g, velocity)
        np.multiply(g, lr, out=g)
        np.subtract(p, g, out=p)

    return _in_chunks(ins, scratch, weight_decay, rate, update)


def rmsprop(
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

    def update(p: Array, g: Array, t: Array, slots: Arrays, lr: float, c1: float, c2: float) -> None:
        square = slots[0]
        np.multiply(square, alpha, out=square)
        np.multiply(g, g, out=t)
        np.multiply(t, 1 - alpha, out=t)
        np.add(square, t, out=square)
        np.sqrt(square, out=t)
        np.add(t, epsilon, out=t)
        np.divide(g, t, out=g)
        if momentum:
            velocity = slots[1]
            np.multiply(velocity, momentum, out=velocity)
            np.add(velocity, g, out=velocity)
            np.multiply(velocity, lr, out=g)
        else:
            np.multiply(g, lr, out=g)
        np.subtract(p, g, out=p)

    return _in_chunks(ins, scratch, weight_decay, rate, update)


def follow_moments(mean: Array, square: Array, g: Array, t: Array, beta1: float, beta2: float) -> None:
    """mean += (1 - beta1) (g - mean); square = beta2 square + (1 - beta2) g^2. g, t: become workspace."""
    np.subtract(g, mean, out=t)
    np.multiply(t, 1 - beta1, out=t)
    np.add(mean, t, out=mean)
    np.multiply(square, beta2, out=square)
    np.multiply(g, g, out=g)
    np.multiply(g, 1 - beta2, out=g)
    np.add(square, g, out=square)


def _adam(beta1: float, beta2: float, epsilon: float, decoupled: float) -> Update:
    def update(p: Array, g: Array, t: Array, slots: Arrays, lr: float, c1: float, c2: float) -> None:
        mean, square = slots
        if decoupled:
            np.multiply(p, 1 - lr * decoupled, out=p)
        follow_moments(mean, square, g, t, beta1, beta2)
        np.sqrt(square, out=t)
        np.divide(t, sqrt(c2), out=t)
        np.add(t, epsilon, out=t)
        np.divide(mean, t, out=t)
        np.multiply(t, lr / c1, out=t)
        np.subtract(p, t, out=p)

    return update


def adam(
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
    """Adam with coupled weight decay."""
    return _in_chunks(ins, scratch, weight_decay, rate, _adam(beta1, beta2, epsilon, 0.0))


def adamw(
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
    """Adam with decoupled weight decay."""
    return _in_chunks(ins, scratch, 0.0, rate, _adam(beta1, beta2, epsilon, weight_decay))


def gather(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """gathered += grads, both (P,)."""
    grads, gathered = ins

    def step() -> None:
        np.add(gathered, grads, out=gathered)

    return step


def take(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """grads = gathered; gathered = 0."""
    (gathered,), (grads, _) = ins, outs

    def step() -> None:
        np.copyto(grads, gathered)
        gathered.fill(0)

    return step


def average(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """mean += (1 - keep) (params - mean), both (P,), keep of the step block (Polyak and Juditsky 1992).

    Where nothing is kept it is params, to the bit.
    """
    mean, params, block = ins
    (space,) = scratch
    pieces = []
    for low in range(0, len(mean), len(space)):
        here = slice(low, low + len(space))
        pieces.append((mean[here], params[here], space[: len(mean[here])]))

    def step() -> None:
        if block[_KEEP] == 0:
            np.copyto(mean, params)
            return
        new = 1 - block[_KEEP]
        for m, p, t in pieces:
            np.subtract(p, m, out=t)
            np.multiply(t, new, out=t)
            np.add(m, t, out=m)

    return step


def clip_norm(ins: Arrays, outs: Arrays, scratch: Arrays, *, most: float) -> Step:
    """grads (P,) sums -> the same, scaled so that the mean gradient is no longer than ``most``; its length before.

    As torch.nn.utils.clip_grad_norm_: the factor is most / (length + 1e-6), and never above 1.
    """
    (grads, block), (_, length) = ins, outs

    def step() -> None:
        length[0] = sqrt(float(np.dot(grads, grads))) * float(block[_INV_N])
        factor = most / (float(length[0]) + CLIP_EPSILON)
        if factor < 1:
            np.multiply(grads, factor, out=grads)

    return step


def clip_value(ins: Arrays, outs: Arrays, scratch: Arrays, *, most: float) -> Step:
    """grads (P,) sums -> the same, each cut off where its mean would be beyond plus or minus ``most``."""
    grads, block = ins

    def step() -> None:
        bound = most / float(block[_INV_N])
        np.clip(grads, -bound, bound, out=grads)

    return step


KERNELS: dict[str, Kernel] = {
    "gather": gather, "take": take, "average": average, "clip_norm": clip_norm, "clip_value": clip_value,
    "sgd": sgd, "rmsprop": rmsprop, "adam": adam, "adamw": adamw,
}  # fmt: skip
