"""Group normalisation (Wu and He, ECCV 2018) and layer normalisation (Ba, Kiros and Hinton, 2016).

Shapes: x, y (N, …, C); gamma, beta (C,); mean and inverse, which is 1 / sqrt(biased variance + epsilon), are (N, G) for
G groups of channels, (N, …) for layer normalisation, which is over the channels of one position. The variance is the
mean of squared distances from the mean, never E[x^2] - E[x]^2, which cancels.

With h = (x - mean) inverse, d = gamma dy, and means over what was normalised together:
dx = inverse (d - mean(d) - h mean(d h)).
"""

from __future__ import annotations

import numpy as np

from cnnforge.backends.base import Kernel, Step
from cnnforge.backends.numpy.linear import column_sums
from cnnforge.backends.numpy.types import Array, Arrays


def _group_means(x: Array, groups: int, ones: Array, per_channel: Array, out: Array) -> Step:
    """Means over positions and over the channels of a group.

    x: (N, P, C), ones: P elements and per_channel: (N, 1, C) of workspace, out: (N, G).
    """
    n, positions, c = x.shape
    row, parts = ones.reshape(1, positions), per_channel.reshape(n, groups, c // groups)
    size = positions * c // groups

    def step() -> None:
        row.fill(1)
        np.matmul(row, x, out=per_channel)  # sums over positions, by BLAS
        np.add.reduce(parts, axis=2, out=out)
        np.divide(out, size, out=out)

    return step


def _spread(per_group: Array, per_channel: Array) -> Step:
    """(N, G) -> every channel of a group has its group's number: (N, 1, C)."""
    parts = per_channel.reshape(*per_group.shape, -1)
    return lambda: np.copyto(parts, per_group[:, :, None])


def _invert(var: Array, epsilon: float) -> None:
    """var -> 1 / sqrt(var + epsilon), in place."""
    np.add(var, epsilon, out=var)
    np.sqrt(var, out=var)
    np.divide(1, var, out=var)


def group_norm(ins: Arrays, outs: Arrays, scratch: Arrays, *, groups: int, epsilon: float) -> Step:
    """x, gamma, beta -> y, mean, inverse."""
    (x, gamma, beta), (y, mean, inverse), (square, ones, per_channel) = ins, outs, scratch
    x, y, square = (a.reshape(len(a), -1, a.shape[-1]) for a in (x, y, square))
    mean_of_x = _group_means(x, groups, ones, per_channel, mean)
    mean_of_square = _group_means(square, groups, ones, per_channel, inverse)
    spread_mean, spread_inverse = _spread(mean, per_channel), _spread(inverse, per_channel)

    def step() -> None:
        mean_of_x()
        spread_mean()
        np.subtract(x, per_channel, out=y)
        np.multiply(y, y, out=square)
        mean_of_square()
        _invert(inverse, epsilon)
        spread_inverse()
        np.multiply(per_channel, gamma, out=per_channel)
        np.multiply(y, per_channel, out=y)
        np.add(y, beta, out=y)

    return step


def _group_normalised(x: Array, mean: Array, inverse: Array, per_channel: Array, out: Array) -> Step:
    """h, for the way back."""
    spread_mean, spread_inverse = _spread(mean, per_channel), _spread(inverse, per_channel)

    def step() -> None:
        spread_mean()
        np.subtract(x, per_channel, out=out)
        spread_inverse()
        np.multiply(out, per_channel, out=out)

    return step


def group_norm_dgamma(ins: Arrays, outs: Arrays, scratch: Arrays, *, groups: int) -> Step:
    """x, mean, inverse, dy -> dgamma = sum(dy h)."""
    (x, mean, inverse, dy), (dgamma,), (h, ones, per_channel) = ins, outs, scratch
    x, dy, h = (a.reshape(len(a), -1, a.shape[-1]) for a in (x, dy, h))
    normalise = _group_normalised(x, mean, inverse, per_channel, h)
    total = column_sums(h.reshape(-1, h.shape[-1]), ones, dgamma)

    def step() -> None:
        normalise()
        np.multiply(h, dy, out=h)
        total()

    return step


def group_norm_dx(ins: Arrays, outs: Arrays, scratch: Arrays, *, groups: int) -> Step:
    """x, gamma, mean, inverse, dy -> dx."""
    (x, gamma, mean, inverse, dy), (dx,), (h, product, ones, per_channel, per_group) = ins, outs, scratch
    x, dy, dx, h, product = (a.reshape(len(a), -1, a.shape[-1]) for a in (x, dy, dx, h, product))
    of_d, of_product = per_group[:, 0], per_group[:, 1]
    normalise = _group_normalised(x, mean, inverse, per_channel, h)
    mean_of_d = _group_means(dx, groups, ones, per_channel, of_d)
    mean_of_product = _group_means(product, groups, ones, per_channel, of_product)
    spread_d, spread_product = _spread(of_d, per_channel), _spread(of_product, per_channel)
    spread_inverse = _spread(inverse, per_channel)

    def step() -> None:
        normalise()
        np.multiply(dy, gamma, out=dx)
        np.multiply(dx, h, out=product)
        mean_of_d()
        mean_of_product()
        spread_d()
        np.subtract(dx, per_channel, out=dx)
        spread_product()
        np.multiply(h, per_channel, out=h)
        np.subtract(dx, h, out=dx)
        spread_inverse()
        np.multiply(dx, per_channel, out=dx)

    return step


def _rows(*arrays: Array) -> tuple[Array, ...]:
    """(N, …, C) -> (R, C): a row per position of every sample."""
    return tuple(a.reshape(-1, a.shape[-1]) for a in arrays)


def layer_norm(ins: Arrays, outs: Arrays, scratch: Arrays, *, epsilon: float) -> Step:
    """x, gamma, beta -> y, mean, inverse."""
    (x, y, square), (_, gamma, beta) = _rows(ins[0], outs[0], scratch[0]), ins
    mean, inverse = (a.reshape(-1, 1) for a in outs[1:])
    channels = x.shape[1]

    def step() -> None:
        np.add.reduce(x, axis=1, keepdims=True, out=mean)
        np.divide(mean, channels, out=mean)
        np.subtract(x, mean, out=y)
        np.multiply(y, y, out=square)
        np.add.reduce(square, axis=1, keepdims=True, out=inverse)
        np.divide(inverse, channels, out=inverse)
        _invert(inverse, epsilon)
        np.multiply(y, inverse, out=y)
        np.multiply(y, gamma, out=y)
        np.add(y, beta, out=y)

    return step


def layer_norm_dgamma(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """x, mean, inverse, dy -> dgamma = sum(dy h)."""
    (x, dy, h), ones = _rows(ins[0], ins[3], scratch[0]), scratch[1]
    mean, inverse = (a.reshape(-1, 1) for a in ins[1:3])
    total = column_sums(h, ones, outs[0])

    def step() -> None:
        np.subtract(x, mean, out=h)
        np.multiply(h, inverse, out=h)
        np.multiply(h, dy, out=h)
        total()

    return step


def layer_norm_dx(ins: Arrays, outs: Arrays, scratch: Arrays) -> Step:
    """x, gamma, mean, inverse, dy -> dx."""
    (x, dy, dx, h, product), gamma = _rows(ins[0], ins[4], outs[0], *scratch[:2]), ins[1]
    mean, inverse, per_row = (a.reshape(-1, 1) for a in (ins[2], ins[3], scratch[2]))
    channels = x.shape[1]

    def step() -> None:
        np.subtract(x, mean, out=h)
        np.multiply(h, inverse, out=h)
        np.multiply(dy, gamma, out=dx)
        np.multiply(dx, h, out=product)
        np.add.reduce(product, axis=1, keepdims=True, out=per_row)
        np.divide(per_row, channels, out=per_row)
        np.multiply(h, per_row, out=h)
        np.add.reduce(dx, axis=1, keepdims=True, out=per_row)
        np.divide(per_row, channels, out=per_row)
        np.subtract(dx, per_row, out=dx)
        np.subtract(dx, h, out=dx)
        np.multiply(dx, inverse, out=dx)

    return step


KERNELS: dict[str, Kernel] = {
    "group_norm": group_norm, "group_norm_dx": group_norm_dx, "group_norm_dgamma": group_norm_dgamma,
    "layer_norm": layer_norm, "layer_norm_dx": layer_norm_dx, "layer_norm_dgamma": layer_norm_dgamma,
}  # fmt: skip
