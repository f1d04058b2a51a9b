"""Updates of the flat parameter buffer that see each tensor by itself: LAMB needs lengths, Muon matrix products.

params, grads, slots: (P,), the tensors of one range side by side; grads are sums over the batch, scaled here by
``inv_n`` of the step block; ``rate`` is the range's factor on the learning rate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import sqrt

import numpy as np

from cnnforge.backends.base import Kernel, Step
from cnnforge.backends.numpy.optimizer import follow_moments
from cnnforge.backends.numpy.types import Array, Arrays
from cnnforge.ir.graph import STEP_FIELDS

_LR, _INV_N, _C1, _C2 = (STEP_FIELDS.index(name) for name in ("lr", "inv_n", "c1", "c2"))


def check_sizes(sizes: Sequence[int], *arrays: Array) -> None:
    """Raise ValueError where tensors of these sizes do not fill the arrays."""
    if any(len(a) != sum(sizes) for a in arrays):
        raise ValueError(f"tensors of {sizes} elements do not fill {[len(a) for a in arrays]}")


def tensors_of(sizes: Sequence[int], *arrays: Array) -> Iterator[tuple[Array, ...]]:
    """Flat arrays cut into tensors of these sizes. Raises ValueError where they do not add up."""
    check_sizes(sizes, *arrays)
    start = 0
    for size in sizes:
        yield tuple(a[start : start + size] for a in arrays)
        start += size


def lamb(
    ins: Arrays,
    outs: Arrays,
    scratch: Arrays,
    *,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
    sizes: tuple[int, ...],
    rate: float = 1.0,
) -> Step:
    """Adam's step and the decay, scaled to each tensor's length.

    Workspace: two pieces. The step is computed twice, once for its length, so that it need not be kept.
    """
    params, grads, block, means, squares = ins
    (space,) = scratch
    width = space.shape[1]
    tensors = []
    for arrays in tensors_of(sizes, params, grads, means, squares):
        pieces = []
        for low in range(0, len(arrays[0]), width):
            p, g, mean, square = (a[low : low + width] for a in arrays)
            pieces.append((p, g, mean, square, space[0, : len(p)], space[1, : len(p)]))
        tensors.append(pieces)

    def along(p: Array, mean: Array, square: Array, u: Array, t: Array, c1: float, c2: float) -> None:
        """u = mean / c1 / (sqrt(square / c2) + epsilon) + weight_decay p."""
        np.sqrt(square, out=t)
        np.divide(t, sqrt(c2), out=t)
        np.add(t, epsilon, out=t)
        np.divide(mean, t, out=u)
        np.divide(u, c1, out=u)
        np.multiply(p, weight_decay, out=t)
        np.add(u, t, out=u)

    def step() -> None:
        inv_n, lr, c1, c2 = float(block[_INV_N]), float(block[_LR]) * rate, float(block[_C1]), float(block[_C2])
        for pieces in tensors:
            weights = steps = 0.0
            for p, sums, mean, square, u, t in pieces:
                np.multiply(sums, inv_n, out=u)
                follow_moments(mean, square, u, t, beta1, beta2)
                along(p, mean, square, u, t, c1, c2)
                weights += float(np.dot(p, p))
                steps += float(np.dot(u, u))
            trust = 1.0 if weights == 0 or steps == 0 else sqrt(weights) / sqrt(steps)
            for p, _, mean, square, u, t in pieces:
                along(p, mean, square, u, t, c1, c2)
                np.multiply(u, lr * trust, out=u)
                np.subtract(p, u, out=p)

    return step


def muon(
    ins: Arrays,
    outs: Arrays,
    scratch: Arrays,
    *,
    momentum: float,
    nesterov: bool,
    coefficients: tuple[float, float, float],
    steps: int,
    epsilon: float,
    weight_decay: float,
    matrices: tuple[tuple[int, int], ...],
    factors: tuple[float, ...],
    rate: float = 1.0,
) -> Step:
    """A running mean of gradients, made nearly orthogonal by Newton-Schulz steps on the shorter side's squares.

    Workspace: two of the largest matrix, two of the largest square.
    """
    params, grads, block, means = ins
    a, b, c = coefficients
    tensors = []
    cut = tensors_of([m * n for m, n in matrices], params, grads, means)
    for (p, g, mean), (m, n), factor in zip(cut, matrices, factors, strict=True):
        side = min(m, n)
        x, y = (space[: m * n].reshape(m, n) for space in scratch[:2])
        gram, square = (space[: side * side].reshape(side, side) for space in scratch[2:])
        tensors.append((p.reshape(m, n), g.reshape(m, n), mean.reshape(m, n), factor, x, y, gram, square))

    def orthogonal(x: Array, y: Array, gram: Array, square: Array) -> Array:
        """x made nearly orthogonal, in its own memory or y's."""
        np.divide(x, max(sqrt(float(np.vdot(x, x))), epsilon), out=x)
        wide = x.shape[0] <= x.shape[1]
        for _ in range(steps):
            np.matmul(*((x, x.T) if wide else (x.T, x)), out=gram)
            np.matmul(gram, gram, out=square)
            np.multiply(square, c, out=square)
            np.multiply(gram, b, out=gram)
            np.add(gram, square, out=gram)
            np.matmul(*((gram, x) if wide else (x, gram)), out=y)
            np.multiply(x, a, out=x)
            np.add(y, x, out=y)
            x, y = y, x
        return x

    def step() -> None:
        inv_n, lr = float(block[_INV_N]), float(block[_LR]) * rate
        for p, sums, mean, factor, x, y, gram, square in tensors:
            np.multiply(sums, inv_n, out=x)
            np.subtract(x, mean, out=y)
            np.multiply(y, 1 - momentum, out=y)
            np.add(mean, y, out=mean)
            if nesterov:
                # g + momentum (m - g), from the end that it is nearer to, as PyTorch does
                np.subtract(x, mean, out=y)
                np.multiply(y, 1 - momentum, out=y)
                np.add(mean, y, out=x)
            else:
                np.copyto(x, mean)
            x = orthogonal(x, y, gram, square)
            np.multiply(p, 1 - lr * weight_decay, out=p)
            np.multiply(x, lr * factor, out=x)
            np.subtract(p, x, out=p)

    return step


KERNELS: dict[str, Kernel] = {"lamb": lamb, "muon": muon}
