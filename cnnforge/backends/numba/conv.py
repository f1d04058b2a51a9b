"""Convolutions and their gradients, each by one of several ways, and what is fused behind them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cnnforge.backends.numba import bias, conv_samples, depthwise, direct, winograd
from cnnforge.backends.numba.rules.base import Parts
from cnnforge.backends.numba.rules.conv import BIASED, CONVOLUTIONS
from cnnforge.backends.numpy.types import Arrays

Bind = Callable[..., Any]


def _by_samples(op: str) -> Bind:
    def bind(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, window: Any, **_: Any) -> Any:
        first, second = ins
        (result,), space = outs, scratch[-1]
        if op == "conv2d":
            return conv_samples.forward(first, second, None, -np.inf, result, None, space, threads, window)
        if op == "conv2d_dx":
            return conv_samples.backward(result, second, first, None, None, None, result, space, threads, window)
        return conv_samples.backward(first, result, second, None, scratch[0], result, None, space, threads, window)

    return bind


_WAYS: dict[str, dict[str, Bind]] = {
    "depthwise": depthwise.NATIVE,
    "direct": direct.NATIVE,
    "winograd": winograd.NATIVE,
    "samples": {op: _by_samples(op) for op in CONVOLUTIONS},
}


def _several(op: str) -> Bind:
    def bind(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, way: str, **attrs: Any) -> Any:
        return _WAYS[way][op](ins, outs, scratch, threads, **attrs)

    return bind


def _biased(op: str) -> Bind:
    """x, w, b -> y, with the bias and the activation function while y is in registers."""

    def bind(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, way: str, parts: Parts) -> Any:
        x, w, b = ins
        attrs, (floor, ceiling) = parts[0][2], BIASED[op]
        if way != "samples":
            return _WAYS[way]["conv2d"]((x, w), outs, scratch, threads, **attrs, added=b, bounds=(floor, ceiling))
        if ceiling == np.inf:
            return conv_samples.forward(x, w, b, floor, outs[0], None, scratch[0], threads, attrs["window"])
        call = _WAYS[way]["conv2d"]((x, w), outs, scratch[:-1], threads, **attrs)
        return call, bias.NATIVE[op.partition("+")[2]]((outs[0], b), outs, scratch[-1:], threads)

    return bind


SEVERAL: dict[str, Bind] = {
    **{op: _several(op) for op in CONVOLUTIONS},
    **{op: _biased(op) for op in BIASED},
}
