"""Dropout."""

from __future__ import annotations

from math import prod
from typing import Any

from cnnforge.backends.numba.rules.base import LANES, THREADS, Rule
from cnnforge.ir.op import Scratch


def _repeats(x: Any, mask: Any) -> bool:
    """Is the mask of a sample, as it lies, a part of the sample, over and over?"""
    shared = 0
    while shared < len(mask.shape) - 1 and mask.shape[1 + shared] == 1:
        shared += 1
    return tuple(mask.shape[1 + shared :]) == tuple(x.shape[1 + shared :])


def _band(x: Any, mask: Any) -> tuple[Scratch, ...]:
    """Of a mask smaller than the sample, for each thread: a sample's factors, with the beginning repeated."""
    if tuple(mask.shape) == tuple(x.shape):
        return ()
    return (Scratch((THREADS, prod(mask.shape[1:]) + LANES), x.dtype, False),)


RULES = {
    "dropout": Rule(
        lambda i, o, a: _repeats(i[0], o[1]),
        lambda i, o, a: (Scratch((THREADS, 4 * LANES), "uint8", False), *_band(i[0], o[1])),
    ),
    "dropout_dx": Rule(lambda i, o, a: _repeats(i[1], i[0]), lambda i, o, a: _band(i[1], i[0])),
}
