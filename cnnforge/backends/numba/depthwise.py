"""Depthwise convolution and its gradients: lanes are channels.

Shapes: x (N, H, W, C), w (KH, KW, 1, C), y (N, OH, OW, C): one filter per channel (Chollet, CVPR 2017). Every weight
meets one value of the input at a time, so that reading limits all three: a piece of the input is copied with its
padding, and each vector of channels goes over it while the fast cache holds it. Pieces and their tables are those of
``direct.py``; the gradient of x is the same as y with the weights turned, in as many phases as strides.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnforge.backends.numba.channel_tiles import TAPS, correlate, gather
from cnnforge.backends.numba.driver import Call, bound
from cnnforge.backends.numba.language import carray
from cnnforge.backends.numba.norm import joining
from cnnforge.backends.numba.pieces import (
    BANDS,
    BEHIND,
    OH,
    OUT,
    OW,
    ROWS,
    SAMPLES,
    STRIDE,
    C,
    N,
    count,
    packed,
    phases,
    positions,
    source,
    summed,
    where,
    written,
)  # fmt: skip
from cnnforge.backends.numba.rules.direct import Walk, depthwise_walk, padded
from cnnforge.backends.numba.signature import Kernel, call, longs
from cnnforge.backends.numba.tiles import UNBOUNDED
from cnnforge.backends.numba.vectors import LANES, WIDTH
from cnnforge.backends.numpy.types import Array, Arrays
from cnnforge.shapes import Window

_WEIGHTS, _STARTS, _START_STEP, _BOUNDS, _PHASES, _COUNT, _VECTORS, _JOIN, _JOINS, _CUTS, _PIECES = range(
    BEHIND, BEHIND + 11
)
# A line of the table of phases.
_Q, _P, _ROWS_AT, _TAPS_AT, _TAPS, _PLACES_AT, _W = range(7)


@Kernel
def _gather(block: int, lo: int, hi: int, thread: int) -> None:
    """x, packed weights -> y, or dy -> dx. Range: shards of pieces. Reading limits it.

    What joins the moments of a norm behind it does so while the piece is in the cache.
    """
    a = carray(longs(block), (BEHIND + 11,))
    samples, bands, c, step = a[SAMPLES], a[BANDS], a[C], WIDTH * a[_VECTORS]
    table = carray(longs(a[_PHASES]), (a[_COUNT], 7))
    for piece in range(lo * a[_PIECES] // a[_CUTS], hi * a[_PIECES] // a[_CUTS]):
        group, band = divmod(piece, bands)
        first, q = group * samples, band * a[ROWS]
        many = min(samples, a[N] - first)
        found = source(a, thread, first, many, q, a[ROWS], True)
        into = a[OUT] + 4 * (first * a[OH] + q * a[STRIDE]) * a[OW] * c
        for v in range(a[_VECTORS]):
            at, columns = WIDTH * v, min(LANES, c - LANES * v)
            for i in range(a[_COUNT]):
                p = table[i]
                gather(
                    found + at, p[_ROWS_AT], many * min(a[ROWS], p[_Q] - q) * p[_P], p[_TAPS_AT], p[_TAPS],
                    a[_WEIGHTS] + p[_W] + at, step, a[_STARTS] + a[_START_STEP] * v, into + at, p[_PLACES_AT], columns,
                    a[_BOUNDS],
                )  # fmt: skip
        if a[_JOIN]:
            call(a[_JOIN], a[_JOINS], piece, piece + 1, thread)


_DY, _ALL, _SHARDS, _STEPS, _ROWS_OF, _TAPS_OF, _LANES_OF, _SUMS = range(BEHIND, BEHIND + 8)


@Kernel
def _shards(block: int, lo: int, hi: int, thread: int) -> None:
    """x, dy -> sums (shards, taps, C in whole vectors), over each shard's pieces. Range: shards. Reading limits it."""
    a = carray(longs(block), (BEHIND + 8,))
    samples, bands, c, shards, vectors = a[SAMPLES], a[BANDS], a[C], a[_SHARDS], a[_LANES_OF]
    pieces = (a[N] + samples - 1) // samples * bands
    for shard in range(lo, hi):
        begin, end = shard * pieces // shards, (shard + 1) * pieces // shards
        # An empty shard has one piece of no samples, which writes zeros.
        for piece in range(begin, max(end, begin + 1)):
            group, band = divmod(piece, bands)
            first, q = group * samples, band * a[ROWS]
            many = min(samples, a[N] - first) if begin < end else 0
            rows = min(a[ROWS], a[OH] - q)
            found = source(a, thread, first, many, q, rows, True)
            dy = a[_DY] + 4 * (first * a[OH] + q) * a[OW] * c
            for v in range(vectors):
                at, columns = WIDTH * v, min(LANES, c - LANES * v)
                for t in range(0, a[_STEPS], TAPS):
                    correlate(
                        found + at, a[_ROWS_OF], many * rows * a[OW], a[_TAPS_OF] + 8 * t, dy + at, 4 * c, columns,
                        a[OUT] + 4 * shard * a[_ALL] + WIDTH * vectors * t + at, WIDTH * vectors, piece - begin,
                    )  # fmt: skip


def _gathered(
    x: Array, w: Array, out: Array, at: Walk, space: Arrays, threads: int, added: Array | None,
    bounds: tuple[float, float], work: Array | None = None,
) -> tuple[tuple[Call, ...], Array]:  # fmt: skip
    """x -> out as ``at`` walks over them, and its moments to ``work``: calls, and the rows of out in each shard."""
    u, *buffer = space
    c, vectors = at.c, padded(at.c) // LANES
    lines: list[tuple[int, ...]] = []
    packing: list[tuple[int, ...]] = []
    kept: list[Any] = []
    for phase in phases(at, 1, joined=False):
        rows, places = positions(at, phase.down, phase.across, c)
        offsets = np.array(phase.offsets or [0], np.int64)
        kept += [rows, places, offsets]
        begin = WIDTH * vectors * len(packing)
        lines.append(
            (
                phase.down.count, phase.across.count, rows.ctypes.data, offsets.ctypes.data, len(phase.offsets),
                places.ctypes.data, begin,
            )
        )  # fmt: skip
        for i, j in phase.kernel:
            line = WIDTH * vectors * len(packing)
            packing.append((4 * c * (i * w.shape[1] + j), line, 1, c, WIDTH * vectors))
    table = np.array(lines, np.int64)
    starts = np.zeros(LANES, np.float32) if added is None else added
    joins = joining(out, work, written(at, count(x, at)))
    last = bound(
        _gather, joins.shards, threads, *where(x, out, c, at, buffer[0] if buffer else None), u, starts,
        WIDTH * (added is not None), np.array(bounds, np.float32), table, len(table), vectors, *joins.words,
    )  # fmt: skip
    return (packed(w, u, packing, threads, False), last.keeping(*kept, *joins.kept)), joins.rows


def convolved(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, way: str, window: Window, groups: int, flip: bool,
    added: Array | None = None, bounds: tuple[float, float] = UNBOUNDED, work: Array | None = None,
) -> tuple[tuple[Call, ...], Array]:  # fmt: skip
    """x, w -> y, and its moments to ``work``: calls, and the rows of y in each shard."""
    (x, w), (y,) = ins, outs
    at = depthwise_walk(x.shape[1:3], x.shape[3], window, flip)
    return _gathered(x, w, y, at, scratch, threads, added, bounds, work)


def conv2d_dx(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, way: str, window: Window, groups: int, flip: bool
) -> tuple[Call, ...]:
    """dy, w -> dx."""
    (dy, w), (dx,) = ins, outs
    at = depthwise_walk(dx.shape[1:3], dx.shape[3], window, flip, back=True)
    return _gathered(dy, w, dx, at, scratch, threads, None, UNBOUNDED)[0]


def conv2d_dw(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, way: str, window: Window, groups: int, flip: bool
) -> tuple[Call, ...]:
    """x, dy -> dw: the sum over each shard of the pieces, then over the shards."""
    (x, dy), (dw,), (sums, *buffer) = ins, outs, scratch
    at = depthwise_walk(x.shape[1:3], x.shape[3], window, flip)
    (phase,) = phases(at, 1, joined=False)
    c, width = at.c, padded(at.c)
    rows, _ = positions(at, phase.down, phase.across, c)
    taps = len(phase.offsets)
    # What fills up the last tile of taps is summed too, and not read.
    offsets = np.resize(np.array(phase.offsets, np.int64), -(-taps // TAPS) * TAPS)
    summing = bound(
        _shards, len(sums), threads, *where(x, sums, c, at, buffer[0] if buffer else None), dy, sums.size // len(sums),
        len(sums), taps, rows, offsets, width // LANES, 0,
    )  # fmt: skip
    return summing, summed(sums, dw, phase.kernel, 1, width, threads)


NATIVE = {"conv2d_dx": conv2d_dx, "conv2d_dw": conv2d_dw}
