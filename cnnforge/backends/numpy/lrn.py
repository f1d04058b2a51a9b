"""Local response normalisation across channels (Krizhevsky et al., NeurIPS 2012), with PyTorch's window and scale.

Shapes: x, y, base (N, H, W, C). base = k + alpha/size * sum of x^2 over the channels from c - size//2 to
c + (size - 1)//2; y = x base^-beta.
"""

from __future__ import annotations

import numpy as np

from cnnforge.backends.base import Kernel, Step
from cnnforge.backends.numpy.types import Array, Arrays


def _window_sum(x: Array, before: int, after: int, out: Array) -> Step:
    """out[c] = sum of x from channel c - before to c + after, one shift of the whole array at a time."""
    channels = x.shape[-1]
    shifts = []
    for shift in range(max(-before, 1 - channels), min(after, channels - 1) + 1):
        low, high = max(0, -shift), min(channels, channels - shift)
        shifts.append((out[..., low:high], x[..., low + shift : high + shift]))

    def step() -> None:
        out.fill(0)
        for into, part in shifts:
            np.add(into, part, out=into)

    return step


def lrn(ins: Arrays, outs: Arrays, scratch: Arrays, *, size: int, alpha: float, beta: float, k: float) -> Step:
    """x -> y, base."""
    (x,), (y, base), (square,) = ins, outs, scratch
    sum_squares = _window_sum(square, size // 2, (size - 1) // 2, base)

    def step() -> None:
        np.multiply(x, x, out=square)
        sum_squares()
        np.multiply(base, alpha / size, out=base)
        np.add(base, k, out=base)
        np.power(base, -beta, out=y)
        np.multiply(y, x, out=y)

    return step


def lrn_dx(ins: Arrays, outs: Arrays, scratch: Arrays, *, size: int, alpha: float, beta: float) -> Step:
    """x, base, dy -> dx = dy base^-beta - 2 alpha beta/size x * sum of dy x base^-(beta + 1).

    The sum is over the channels in whose window this one lies: the window turned round.
    """
    (x, base, dy), (dx,), (share, sums) = ins, outs, scratch
    sum_shares = _window_sum(share, (size - 1) // 2, size // 2, sums)

    def step() -> None:
        np.power(base, -beta, out=share)
        np.multiply(dy, share, out=dx)
        np.multiply(dx, x, out=share)
        np.divide(share, base, out=share)
        sum_shares()
        np.multiply(sums, x, out=sums)
        np.multiply(sums, 2 * alpha * beta / size, out=sums)
        np.subtract(dx, sums, out=dx)

    return step


KERNELS: dict[str, Kernel] = {"lrn": lrn, "lrn_dx": lrn_dx}
