"""Convolutions and their gradients, each by one of several ways, and what is fused behind them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cnnforge.backends.numba import bias, conv_samples, depthwise, direct, norm, norm_pool, winograd
from cnnforge.backends.numba.driver import Call
from cnnforge.backends.numba.rules.base import Parts
from cnnforge.backends.numba.rules.conv import BIASED, CONVOLUTIONS, NORMED, TILES
from cnnforge.backends.numba.tiles import UNBOUNDED
from cnnforge.backends.numpy.types import Arrays

Bind = Callable[..., Any]
Calls = tuple[Call, ...]


def _by_samples(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, way: str, window: Any, groups: int, flip: bool,
    added: Any = None, bounds: tuple[float, float] = UNBOUNDED, work: Any = None,
) -> tuple[Calls, None]:  # fmt: skip
    """x, w -> y. No moments: a norm adds them up itself. A ceiling is put on afterwards."""
    (x, w), (y,) = ins, outs
    floor, ceiling = bounds
    if ceiling == np.inf:
        return (conv_samples.forward(x, w, added, floor, y, None, scratch[0], threads, window),), None
    first = conv_samples.forward(x, w, None, -np.inf, y, None, scratch[0], threads, window)
    after = bias.NATIVE["bias+relu6"]((y, added), outs, scratch[1:], threads)
    return (first, after), None


def _gradient_by_samples(op: str) -> Bind:
    def bind(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, window: Any, **_: Any) -> Any:
        first, second = ins
        (result,), space = outs, scratch[-1]
        if op == "conv2d_dx":
            return conv_samples.backward(result, second, first, None, None, None, result, space, threads, window)
        return conv_samples.backward(first, result, second, None, scratch[0], result, None, space, threads, window)

    return bind


#: Forward, by the beginning of a way: calls, and the rows in each shard of the moments that they add up to ``work``.
_FORWARD: dict[str, Bind] = {
    "depthwise": depthwise.convolved,
    "direct": direct.convolved,
    "samples": _by_samples,
    **dict.fromkeys(TILES, winograd.convolved),
}
_BACKWARD: dict[str, dict[str, Bind]] = {
    "depthwise": depthwise.NATIVE,
    "direct": direct.NATIVE,
    "samples": {op: _gradient_by_samples(op) for op in CONVOLUTIONS[1:]},
    **dict.fromkeys(TILES, winograd.NATIVE),
}


def _forward(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, way: str, **attrs: Any) -> Calls:
    return _FORWARD[way](ins, outs, scratch, threads, way=way, **attrs)[0]  # type: ignore[no-any-return]


def _backward(op: str) -> Bind:
    def bind(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, way: str, **attrs: Any) -> Any:
        return _BACKWARD[way][op](ins, outs, scratch, threads, way=way, **attrs)

    return bind


def _biased(op: str) -> Bind:
    """x, w, b -> y, with the bias and the activation function while y is in registers."""

    def bind(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, way: str, parts: Parts) -> Calls:
        x, w, b = ins
        return _forward((x, w), outs, scratch, threads, way=way, **parts[0][2], added=b, bounds=BIASED[op])

    return bind


def _normed(op: str) -> Bind:
    """x, w, … -> y and the norm of y, whose moments are added up while it is in the cache."""
    follow = (norm.NATIVE | norm_pool.NATIVE)[NORMED[op]]

    def bind(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, way: str, parts: Parts) -> Calls:
        (x, w, *rest), (y, *normed), (*space, work, rows) = ins, outs, scratch
        calls, shards = _FORWARD[way]((x, w), (y,), tuple(space), threads, way=way, **parts[0][2], work=work)
        after = follow((y, *rest), tuple(normed), (work, rows), threads, **parts[1][2], shards=shards)
        return (*calls, *after)

    return bind


SEVERAL: dict[str, Bind] = {
    "conv2d": _forward,
    **{op: _backward(op) for op in CONVOLUTIONS[1:]},
    **{op: _biased(op) for op in BIASED},
    **{op: _normed(op) for op in NORMED},
}
