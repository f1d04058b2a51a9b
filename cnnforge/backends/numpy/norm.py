"""Batch normalisation (Ioffe and Szegedy, ICML 2015).

Shapes: x, y (N, …, C); everything else (C,). R = number of values per channel = N H W. ``var`` is the biased variance.
"""

from __future__ import annotations

import numpy as np

from cnnforge.backends.base import Kernel, Step
from cnnforge.backends.numpy.linear import column_sums
from cnnforge.backends.numpy.types import Array, Arrays


def _inverse_deviation(var: Array, epsilon: float, out: Array) -> None:
    np.add(var, epsilon, out=out)
    np.sqrt(out, out=out)
    np.divide(1, out, out=out)


def batch_norm(ins: Arrays, outs: Arrays, scratch: Arrays, *, epsilon: float) -> Step:
    """x, gamma, beta -> y, mean, var, unbiased var.

    The variance is the mean of squared distances from the mean, never E[x^2] - E[x]^2, which cancels.
    """
    (x, gamma, beta), (y, mean, var, unbiased), (square, ones, scale) = ins, outs, scratch
    channels = x.shape[-1]
    rows = x.size // channels
    sum_x = column_sums(x.reshape(-1, channels), ones, mean)
    sum_square = column_sums(square.reshape(-1, channels), ones, var)
    factor = rows / (rows - 1) if rows > 1 else 1.0

    def step() -> None:
        sum_x()
        np.divide(mean, rows, out=mean)
        np.subtract(x, mean, out=y)
        np.multiply(y, y, out=square)
        sum_square()
        np.divide(var, rows, out=var)
        np.multiply(var, factor, out=unbiased)
        _inverse_deviation(var, epsilon, scale[0])
        np.multiply(scale[0], gamma, out=scale[0])
        np.multiply(y, scale[0], out=y)
        np.add(y, beta, out=y)

    return step


def batch_norm_inference(ins: Arrays, outs: Arrays, scratch: Arrays, *, epsilon: float) -> Step:
    """x, gamma, beta, running mean, running var -> y = x scale + shift."""
    (x, gamma, beta, mean, var), (y,), (per_channel,) = ins, outs, scratch
    scale, shift = per_channel

    def step() -> None:
        _inverse_deviation(var, epsilon, scale)
        np.multiply(scale, gamma, out=scale)
        np.multiply(mean, scale, out=shift)
        np.subtract(beta, shift, out=shift)
        np.multiply(x, scale, out=y)
        np.add(y, shift, out=y)

    return step


def batch_norm_dparams(ins: Arrays, outs: Arrays, scratch: Arrays, *, epsilon: float) -> Step:
    """x, mean, var, dy -> dgamma = sum(dy x_hat), dbeta = sum(dy)."""
    (x, mean, var, dy), (dgamma, dbeta), (product, ones, inverse) = ins, outs, scratch
    channels = x.shape[-1]
    sum_product = column_sums(product.reshape(-1, channels), ones, dgamma)
    sum_dy = column_sums(dy.reshape(-1, channels), ones, dbeta)

    def step() -> None:
        _inverse_deviation(var, epsilon, inverse[0])
        np.subtract(x, mean, out=product)
        np.multiply(product, inverse[0], out=product)
        np.multiply(product, dy, out=product)
        sum_product()
        sum_dy()

    return step


def batch_norm_dx(ins: Arrays, outs: Arrays, scratch: Arrays, *, epsilon: float) -> Step:
    """x, gamma, mean, var, dgamma, dbeta, dy -> dx = gamma/deviation (dy - dbeta/R - x_hat dgamma/R)."""
    (x, gamma, mean, var, dgamma, dbeta, dy), (dx,), (product, per_channel) = ins, outs, scratch
    inverse, factor = per_channel
    rows = x.size // x.shape[-1]

    def step() -> None:
        _inverse_deviation(var, epsilon, inverse)
        np.multiply(inverse, dgamma, out=factor)
        np.divide(factor, rows, out=factor)
        np.subtract(x, mean, out=product)
        np.multiply(product, factor, out=product)
        np.subtract(dy, product, out=dx)
        np.divide(dbeta, rows, out=factor)
        np.subtract(dx, factor, out=dx)
        np.multiply(inverse, gamma, out=inverse)
        np.multiply(dx, inverse, out=dx)

    return step


def batch_norm_running(ins: Arrays, outs: Arrays, scratch: Arrays, *, momentum: float) -> Step:
    """The batch's mean and unbiased var -> running mean and var: momentum old + (1 - momentum) new."""
    share = scratch[0]
    pairs = tuple(zip(ins, outs, strict=True))

    def step() -> None:
        for new, running in pairs:
            np.multiply(running, momentum, out=running)
            np.multiply(new, 1 - momentum, out=share)
            np.add(running, share, out=running)

    return step


def fold_batch_norm(ins: Arrays, outs: Arrays, scratch: Arrays, *, epsilon: float) -> Step:
    """w (…, F), gamma, beta, running mean, running var[, b] -> weights and bias that norm as well."""
    (w, gamma, beta, mean, var, *b), (folded, shift), (scale,) = ins, outs, scratch

    def step() -> None:
        _inverse_deviation(var, epsilon, scale)
        np.multiply(scale, gamma, out=scale)
        np.multiply(w, scale, out=folded)
        np.negative(mean, out=shift)
        for before in b:
            np.add(shift, before, out=shift)
        np.multiply(shift, scale, out=shift)
        np.add(shift, beta, out=shift)

    return step


KERNELS: dict[str, Kernel] = {
    "fold_batch_norm": fold_batch_norm,
    "batch_norm": batch_norm, "batch_norm_inference": batch_norm_inference, "batch_norm_dparams": batch_norm_dparams,
    "batch_norm_dx": batch_norm_dx, "batch_norm_running": batch_norm_running,
}  # fmt: skip
