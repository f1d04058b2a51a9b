"""Dropout of single values, channels or samples, drawn by the counter-based generator."""

from __future__ import annotations

from math import ceil

import numpy as np

from cnnforge.backends.base import Kernel, Step
from cnnforge.backends.numpy.types import Arrays
from cnnforge.ir.graph import STEP_FIELDS
from cnnforge.rng import WORD, philox_rounds

_DRAW, _FIRST = STEP_FIELDS.index("draw"), STEP_FIELDS.index("first")


def dropout(ins: Arrays, outs: Arrays, scratch: Arrays, *, rate: float, key: tuple[int, int]) -> Step:
    """x, step -> y = x mask / (1 - rate), mask. Keeps what an element of the mask stands for where its number in [0, 1)
    is at least ``rate``; axes of the mask of length 1 stand for the whole axis of x.

    Workspace: (N, 7, ceil(E/4)) uint64 for the generator's counters, E elements of the mask per sample.
    """
    (x, block), (y, mask), (space,) = ins, outs, scratch
    samples, blocks = space.shape[0], space.shape[2]
    words = space.reshape(7, samples, blocks)
    flat = mask.reshape(samples, -1)
    threshold = ceil(rate * 2**24) << 8  # (word >> 8) * 2**-24 >= rate, on the whole word
    elements, indices = np.arange(blocks, dtype=np.uint64), np.arange(samples, dtype=np.uint64)[:, None]

    def step() -> None:
        draw, first = int(block[_DRAW]), int(block[_FIRST])
        counters = words[:4]
        counters[0] = elements
        np.add(indices, np.uint64(first), out=counters[1])
        np.bitwise_and(counters[1], WORD, out=counters[1])
        counters[2].fill(draw & WORD)
        counters[3].fill(draw >> 32)
        philox_rounds(counters, key, words[4:])
        for i in range(4):
            part = flat[:, i::4]
            np.greater_equal(counters[i][:, : part.shape[1]], threshold, out=part)
        np.multiply(x, mask, out=y)
        np.multiply(y, 1.0 / (1.0 - rate), out=y)

    return step


def dropout_dx(ins: Arrays, outs: Arrays, scratch: Arrays, *, rate: float) -> Step:
    """mask, dy -> dx = dy mask / (1 - rate)."""
    (mask, dy), (dx,) = ins, outs

    def step() -> None:
        np.multiply(dy, mask, out=dx)
        np.multiply(dx, 1.0 / (1.0 - rate), out=dx)

    return step


KERNELS: dict[str, Kernel] = {"dropout": dropout, "dropout_dx": dropout_dx}
