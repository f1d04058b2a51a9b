"""Pieces of maps that convolutions work on: where they lie, copies of them with padding, and tables of positions.

Shapes: what is gathered from (N, H, W, C), what is gathered to (N, OH, OW, F); ``rules/direct.py`` says how a
convolution or a gradient walks over them. All that depends on shapes stands in tables of words, made when binding:

    rows    where the window of each position of a piece begins in the piece's input
    places  where its result lies
    taps    where each run of a window lies: one tap's channels, or those of a whole row of the kernel
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnforge.backends.numba.driver import Call, bound
from cnnforge.backends.numba.language import carray
from cnnforge.backends.numba.pack import pack, pack_turned, pad
from cnnforge.backends.numba.rules.direct import Phase, Walk, contiguous
from cnnforge.backends.numba.signature import Kernel, longs, part
from cnnforge.backends.numba.vectors import LANES, lanes, put_upto
from cnnforge.backends.numpy.types import Array

Words = NDArray[np.int64]

# The words that an argument block of pieces begins with, see ``where``.
X, OUT, N, H, W, C, OH, OW, F, SAMPLES, ROWS, BANDS, STEP, STRIDE, LOW, LEFT, SPAN, WIDTH, COPIED, BUFFER, OWN = range(
    21
)
BEHIND = 21


def count(x: Array, at: Walk) -> int:
    """N, as ``at`` counts samples."""
    return x.size // (at.down.size * at.across.size * at.c)


def where(x: Array, out: Array, f: int, at: Walk, buffer: Array | None) -> tuple[Any, ...]:
    """Where pieces of x (N, H, W, C) lie, and of (N, OH, OW, F), of what is gathered to or from."""
    own = buffer.size // len(buffer) if buffer is not None else 0
    return (
        x, out, count(x, at), at.down.size, at.across.size, at.c, at.down.out, at.across.out, f, at.samples, at.rows,
        at.bands, at.down.step, at.down.stride, at.down.low, at.across.low, at.down.span, at.width, int(at.copied),
        0 if buffer is None else buffer, own,
    )  # fmt: skip


@part
def source(a, thread, first, samples, q, rows, fresh):  # type: ignore[no-untyped-def]
    """The address of the input of outputs q ... q + rows of some samples: of its padded copy, made where ``fresh``."""
    h, w, c, left = a[H], a[W], a[C], a[LEFT]
    top, x = q * a[STEP] + a[LOW], a[X] + 4 * first * h * w * c
    if not a[COPIED]:
        return x + 4 * (top * w + left) * c
    buffer = a[BUFFER] + 4 * thread * a[OWN]
    if fresh:
        height, width = (rows - 1) * a[STEP] + a[SPAN], a[WIDTH]
        for n in range(samples):
            pad(x + 4 * n * h * w * c, h, w, c, top, left, height, width, buffer + 4 * n * height * width * c)
    return buffer


def written(at: Walk, n: int) -> Words:
    """Outputs of each piece of ``n`` samples, over all phases."""
    group, band = np.divmod(np.arange(at.pieces(n) + 1), at.bands)
    lines = np.minimum(group * at.samples, n) * at.down.out + np.minimum(band * at.rows * at.down.stride, at.down.out)
    outputs: Words = np.diff(lines) * at.across.out
    return outputs


class Runs(NamedTuple):
    """One phase: where its runs begin, of which rows and columns of the kernel its taps are, and a run's length."""

    down: Phase
    across: Phase
    offsets: list[int]
    kernel: list[tuple[int, int]]
    run: int


def _pitch(at: Walk) -> int:
    """Columns from one input row to the next, as a piece's input lies."""
    return at.width if at.copied else at.across.size


def phases(at: Walk, groups: int, joined: bool = True) -> Iterator[Runs]:
    """Every phase. ``joined``: taps that lie side by side are one run."""
    for down, over in product(at.down.phases, at.across.phases):
        kernel = [(i, j) for _, i in down.taps for _, j in over.taps]
        one = joined and groups == 1 and contiguous(over)
        columns = [e for e, _ in over.taps][: 1 if one else None]
        offsets = [
            4 * at.c * ((i - at.down.low) * _pitch(at) + j - at.across.low) for i, _ in down.taps for j in columns
        ]  # fmt: skip
        yield Runs(down, over, offsets, kernel, at.c // groups * (len(over.taps) if one else 1))


def positions(at: Walk, down: Phase, over: Phase, f: int) -> tuple[Words, Words]:
    """Where each position of a piece lies in its input, and in its output of ``f`` channels."""
    sample, q, p = np.ogrid[: at.samples, : min(at.rows, down.count), : over.count]
    height = at.down.rows(at.rows) if at.copied else at.down.size
    begin = ((sample * height + q * at.down.step) * _pitch(at) + p * at.across.step) * at.c
    place = ((sample * at.down.out + q * at.down.stride + down.first) * at.across.out + p * at.across.stride) * f
    return 4 * np.ravel(begin), 4 * np.ravel(place + over.first * f)


def parts_of(units: int, jobs: int, threads: int) -> int:
    """Into how many parts the jobs of a unit are cut, so that all threads have some."""
    return max(1, min(jobs, -(-4 * threads // units))) if units < 4 * threads and threads > 1 else 1


@Kernel
def _packed(block: int, lo: int, hi: int, thread: int) -> None:
    """w -> panels. Range: lines of a table, each a matrix and where it goes. Memory limits it."""
    a = carray(longs(block), (6,))
    table = carray(longs(a[2]), (a[3], 5))
    for i in range(lo, hi):
        begin, into, rows, columns = a[0] + table[i, 0], a[1] + table[i, 1], table[i, 2], table[i, 3]
        if a[5]:
            pack_turned(begin, a[4], rows, columns, into, table[i, 4])
        else:
            pack(begin, a[4], rows, columns, into, table[i, 4])


def packed(w: Array, into: Array, lines: list[tuple[int, ...]], threads: int, turned: bool) -> Call:
    """Matrices out of the rows of w (…, F). lines: where one begins and where it goes, its rows, columns and step."""
    table = np.array(lines or [(0,) * 5], np.int64)
    return bound(_packed, len(lines), threads, w, into, table, len(table), 4 * w.shape[-1], int(turned))


@Kernel
def _summed(block: int, lo: int, hi: int, thread: int) -> None:
    """sums (shards, groups, taps, C/groups, columns) -> dw, shards in their order. Range: rows. Memory limits it."""
    a = carray(longs(block), (10,))
    sums, dw, table, shards, size, taps, c, columns, step, f = (
        a[0], a[1], carray(longs(a[2]), (a[5],)), a[3], a[4], a[5], a[6], a[7], a[8], a[9],
    )  # fmt: skip
    for row in range(lo, hi):
        group, rest = divmod(row, taps * c)
        tap, channel = divmod(rest, c)
        into = dw + 4 * ((table[tap] * c + channel) * f + group * columns)
        begin = sums + row * step
        for i in range(0, columns, LANES):
            total = lanes(begin + 4 * i)
            for shard in range(1, shards):
                total += lanes(begin + 4 * (shard * size + i))
            put_upto(into + 4 * i, total, columns - i)


def summed(sums: Array, dw: Array, kernel: list[tuple[int, int]], groups: int, step: int, threads: int) -> Call:
    """sums (shards, groups * taps * C/groups rows of ``step`` floats) -> dw (KH, KW, C/groups, F).

    kernel: which row and column of the kernel each tap is
    """
    order = np.array([i * dw.shape[1] + j for i, j in kernel], np.int64)
    c, f = dw.shape[2:]
    return bound(
        _summed, groups * len(order) * c, threads, sums, dw, order, len(sums), sums.size // len(sums), len(order), c,
        f // groups, 4 * step, f,
    )  # fmt: skip
