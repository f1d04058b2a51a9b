"""Convolution and its gradients as products of the input as it lies, without unrolling it: lanes are filters.

Shapes: x (N, H, W, C), w (KH, KW, C/groups, F), y (N, OH, OW, F). A row of A is one output position: the channels under
one row of its window are one run of numbers (``rules/direct.py``), so a product only has to know where each position's
window begins (Zhang et al., "High performance zero-memory overhead direct convolutions", ICML 2018). Weights are
packed into panels once per call. Padding is copied: a piece's input with zeros around it is a small part of what the
products cost from 16 filters on. ``jobs`` are tables of what is to be done with each piece: a product for each panel of
filters (and phase of a gradient). The gradient of x is the same with the weights turned, on dy; of w, positions are
summed over instead (``across``).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnforge.backends.numba.driver import Call, bound
from cnnforge.backends.numba.language import carray
from cnnforge.backends.numba.norm import joining
from cnnforge.backends.numba.pack import pack
from cnnforge.backends.numba.pieces import (
    BANDS,
    BEHIND,
    OH,
    OUT,
    OW,
    ROWS,
    SAMPLES,
    STRIDE,
    F,
    N,
    count,
    packed,
    parts_of,
    phases,
    positions,
    source,
    summed,
    where,
    written,
)  # fmt: skip
from cnnforge.backends.numba.rules.direct import Walk, padded, walk
from cnnforge.backends.numba.signature import Kernel, call, longs
from cnnforge.backends.numba.tiles import ACROSS, ALONG, COLUMNS, UNBOUNDED, across, along
from cnnforge.backends.numba.tiles import ROWS as BLOCK_ROWS
from cnnforge.backends.numba.vectors import LANES
from cnnforge.backends.numpy.types import Array, Arrays
from cnnforge.shapes import Window

_JOBS, _COUNT, _PARTS, _PRODUCT = range(BEHIND, BEHIND + 4)
_PLACE = BEHIND + 4

#: Positions up to which weights are used as they lie: 512 channels at 2x2 take less than half as long for one sample.
FEW = 256

# A line of the jobs of ``_gather``.
_Q, _P, _COLUMNS, _FROM, _ROWS_AT, _TAPS_AT, _TAPS, _RUN, _B, _B_STEP, _TO, _PLACES_AT, _START = range(13)
_WEIGHTS, _ADDED, _BOUNDS, _JOIN, _JOINS, _CUTS, _UNITS = range(_PLACE, _PLACE + 7)


@Kernel
def _gather(block: int, lo: int, hi: int, thread: int) -> None:
    """x, packed weights -> y, or dy -> dx. Range: shards of pieces x parts of their jobs.

    The multiply-add units limit it. What joins the moments of a norm behind it does so while the piece is in the cache.
    """
    a = carray(longs(block), (_PLACE + 7,))
    count, parts, samples, bands = a[_COUNT], a[_PARTS], a[SAMPLES], a[BANDS]
    jobs = carray(longs(a[_JOBS]), (count, 13))
    held = -1
    for unit in range(lo * a[_UNITS] // a[_CUTS], hi * a[_UNITS] // a[_CUTS]):
        piece, part = divmod(unit, parts)
        group, band = divmod(piece, bands)
        first, q = group * samples, band * a[ROWS]
        many = min(samples, a[N] - first)
        found = source(a, thread, first, many, q, a[ROWS], piece != held)
        held = piece
        into = a[OUT] + 4 * (first * a[OH] + q * a[STRIDE]) * a[OW] * a[F]
        for i in range(part * count // parts, (part + 1) * count // parts):
            j = jobs[i]
            positions = many * min(a[ROWS], j[_Q] - q) * j[_P]
            start = a[_ADDED] + j[_START] if a[_ADDED] else 0
            along(
                a[_PRODUCT], positions, j[_COLUMNS], found + j[_FROM], j[_ROWS_AT], j[_TAPS_AT], j[_TAPS], j[_RUN],
                a[_WEIGHTS] + j[_B], j[_B_STEP], into + j[_TO], j[_PLACES_AT], start, 0, a[_BOUNDS],
            )  # fmt: skip
        if a[_JOIN]:
            call(a[_JOIN], a[_JOINS], unit, unit + 1, thread)


# A line of the jobs of ``_shards``, and of its panels of dy.
_ROWS_OF, _FROM_A, _PANEL, _TO_SUMS = range(4)
_FIRST, _VALID, _WHOLE, _PACKED_AT, _SEGMENTS, _STEP_OF = range(6)
_DY, _PACKED, _PACKED_OWN, _PANELS, _PANEL_COUNT, _SHARDS, _ALL, _RUN_OF, _A_STEP, _C_STEP = range(_PLACE, _PLACE + 10)


@Kernel
def _shards(block: int, lo: int, hi: int, thread: int) -> None:
    """x, dy -> sums, over the pieces of each shard. Range: shards x parts of their jobs.

    The multiply-add units limit it: a block of sums stays in registers over all positions of a piece.
    """
    a = carray(longs(block), (_PLACE + 10,))
    count, parts, samples, bands = a[_COUNT], a[_PARTS], a[SAMPLES], a[BANDS]
    jobs, panels = carray(longs(a[_JOBS]), (count, 4)), carray(longs(a[_PANELS]), (a[_PANEL_COUNT], 6))
    pieces = (a[N] + samples - 1) // samples * bands
    for unit in range(lo, hi):
        shard, part = divmod(unit, parts)
        begin, end = shard * pieces // a[_SHARDS], (shard + 1) * pieces // a[_SHARDS]
        begin_job, end_job = part * count // parts, (part + 1) * count // parts
        sums = a[OUT] + 4 * shard * a[_ALL]
        # An empty shard has one piece of no samples, which writes zeros.
        for piece in range(begin, max(end, begin + 1)):
            group, band = divmod(piece, bands)
            first, q = group * samples, band * a[ROWS]
            many = min(samples, a[N] - first) if begin < end else 0
            rows = min(a[ROWS], a[OH] - q)
            found = source(a, thread, first, many, q, rows, True)
            dy = a[_DY] + 4 * (first * a[OH] + q) * a[OW] * a[F]
            run = a[_RUN_OF]
            segments = many * rows
            if not run:
                run, segments = many, min(many, 1)
            packed = a[_PACKED] + 4 * thread * a[_PACKED_OWN]
            if panels[0, _PACKED_AT] >= 0:
                # A few positions at a time, as dy lies: one stream from memory.
                positions, first_panel, last_panel = segments * run, jobs[begin_job, _PANEL], jobs[end_job - 1, _PANEL]
                size = LANES if first_panel < last_panel else max(positions, 1)
                for k in range(0, positions, size):
                    for i in range(first_panel, last_panel + 1):
                        p = panels[i]
                        begin_at, into = dy + 4 * (k * a[F] + p[_FIRST]), packed + 4 * p[_PACKED_AT] + k * p[_STEP_OF]
                        pack(begin_at, 4 * a[F], min(size, positions - k), p[_VALID], into, p[_STEP_OF])
            for i in range(begin_job, end_job):
                j = jobs[i]
                p = panels[j[_PANEL]]
                b = dy + 4 * p[_FIRST] if p[_PACKED_AT] < 0 else packed + 4 * p[_PACKED_AT]
                across(
                    a[_PRODUCT], j[_ROWS_OF], p[_WHOLE], found + j[_FROM_A], b, p[_SEGMENTS], segments, run,
                    a[_A_STEP], p[_STEP_OF], sums + j[_TO_SUMS], a[_C_STEP], piece - begin,
                )  # fmt: skip


def _panels(columns: int) -> list[tuple[int, int, int]]:
    """(first, columns, columns in whole vectors) of each block of columns."""
    return [
        (i, min(COLUMNS, columns - i), min(COLUMNS, padded(columns - i))) for i in range(0, columns, COLUMNS)
    ]  # fmt: skip


def _lie_packed(w: Array, at: Walk, groups: int, n: int) -> bool:
    """Are weights panels already, or would packing them take longer than it saves?"""
    (phase,) = phases(at, groups)
    f = w.shape[3]
    few = n * at.down.out * at.across.out <= FEW
    return groups == 1 and f % LANES == 0 and phase.kernel == sorted(phase.kernel) and (f <= COLUMNS or few)


def gathered(
    x: Array, w: Array, out: Array, at: Walk, groups: int, space: Arrays, threads: int, *, back: bool,
    added: Array | None = None, bounds: tuple[float, float] = UNBOUNDED, work: Array | None = None,
) -> tuple[tuple[Call, ...], Array]:  # fmt: skip
    """x -> out as ``at`` walks over them, and its moments to ``work``: calls, and the rows of out in each shard.

    added, bounds: a bias, and a floor and a ceiling
    """
    u, *buffer = space
    f = out.shape[-1]
    columns = f // groups
    lines: list[tuple[int, ...]] = []
    packing: list[tuple[int, ...]] = []
    kept: list[Any] = []
    base = 0
    c, all_f = w.shape[2:]
    n = count(x, at)
    as_they_lie = not back and _lie_packed(w, at, groups, n)
    for phase in phases(at, groups):
        rows, places = positions(at, phase.down, phase.across, f)
        offsets = np.array(phase.offsets or [0], np.int64)
        kept += [rows, places, offsets]
        k = len(phase.kernel) * (at.c // groups)
        for group in range(groups):
            for first, valid, whole in _panels(columns):
                lines.append(
                    (
                        phase.down.count, phase.across.count, valid, 4 * group * (at.c // groups), rows.ctypes.data,
                        offsets.ctypes.data, len(phase.offsets), phase.run, 4 * first if as_they_lie else base,
                        4 * all_f if as_they_lie else 4 * whole,
                        4 * (group * columns + first), places.ctypes.data, 4 * (group * columns + first),
                    )
                )  # fmt: skip
                for tap, (i, j) in enumerate(phase.kernel):
                    start = (i * w.shape[1] + j) * c * all_f
                    if back:
                        start += first * all_f + group * (all_f // groups)
                    else:
                        start += group * columns + first
                    size = at.c // groups
                    packing.append((4 * start, base + 4 * tap * size * whole, size, valid, 4 * whole))
                base += 4 * k * whole
    jobs, limits = np.array(lines, np.int64), np.array(bounds, np.float32)
    pieces = at.pieces(n)
    parts = parts_of(pieces, len(jobs), threads) if work is None else 1
    joins = joining(out, work, np.repeat(written(at, n), parts))
    last = bound(
        _gather, joins.shards, threads, *where(x, out, f, at, buffer[0] if buffer else None), jobs, len(jobs), parts,
        ALONG, w if as_they_lie else u, 0 if added is None else added, limits, *joins.words,
    )  # fmt: skip
    last = last.keeping(*kept, *joins.kept)
    return (last,) if as_they_lie else (packed(w, u, packing, threads, back), last), joins.rows


def convolved(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, way: str, window: Window, groups: int, flip: bool,
    added: Array | None = None, bounds: tuple[float, float] = UNBOUNDED, work: Array | None = None,
) -> tuple[tuple[Call, ...], Array]:  # fmt: skip
    """x, w -> y, and its moments to ``work``: calls, and the rows of y in each shard."""
    (x, w), (y,) = ins, outs
    at = walk(x.shape[1:3], x.shape[3], window, flip)
    return gathered(x, w, y, at, groups, scratch, threads, back=False, added=added, bounds=bounds, work=work)


def conv2d_dx(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, way: str, window: Window, groups: int, flip: bool
) -> tuple[Call, ...]:
    """dy, w -> dx."""
    (dy, w), (dx,) = ins, outs
    at = walk(dx.shape[1:3], dy.shape[3], window, flip, back=True)
    return gathered(dy, w, dx, at, groups, scratch, threads, back=True)[0]


def conv2d_dw(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, way: str, window: Window, groups: int, flip: bool
) -> tuple[Call, ...]:
    """x, dy -> dw: a sum for each shard of the pieces, then over the shards."""
    (x, dy), (dw,), (sums, *space) = ins, outs, scratch
    at = walk(x.shape[1:3], x.shape[3], window, flip)
    buffer = space.pop(0) if at.copied else None
    packed = space.pop(0)
    (phase,) = phases(at, groups)
    c, f = dw.shape[2:]
    columns = f // groups
    whole_columns, taps = padded(columns), len(phase.kernel)
    # Panels are not made where they are there already, nor for few products.
    few = len(phase.offsets) * phase.run <= 4 * BLOCK_ROWS
    as_it_lies = f == columns and f % LANES == 0 and (f <= 2 * LANES or few)
    panels, jobs, tables = [], [], {}
    (rows, _), places = positions(at, phase.down, phase.across, 1), np.arange(at.samples * at.rows) * at.across.out
    if at.flat:
        places = np.arange(1)
    starts = np.array(rows).reshape(-1, 1 if at.flat else at.across.out)[:, 0][: len(places)]
    filled = 0
    for group in range(groups):
        for first, valid, whole in _panels(columns):
            step = 4 * f if as_it_lies else 4 * whole
            if step not in tables:
                tables[step] = np.ascontiguousarray(np.stack([starts, places * step], 1), np.int64)
            panels.append(
                (group * columns + first, valid, whole, -1 if as_it_lies else filled, tables[step].ctypes.data, step)
            )
            filled += at.positions * whole
            for t, offset in enumerate(phase.offsets):
                row = (group * taps * c) + t * phase.run
                jobs.append(
                    (phase.run, offset + 4 * group * c, len(panels) - 1, 4 * (row * whole_columns + first))
                )  # fmt: skip
    panel_table, job_table = np.array(panels, np.int64), np.array(jobs, np.int64)
    shards = len(sums)
    parts = parts_of(shards, len(jobs), threads)
    summing = bound(
        _shards, shards * parts, threads, *where(x, sums, f, at, buffer), job_table, len(jobs), parts, ACROSS,
        dy, packed, packed.size // len(packed), panel_table, len(panels), shards, sums.size // shards,
        0 if at.flat else at.across.out, 4 * at.across.step * at.c, 4 * whole_columns,
    )  # fmt: skip
    return summing.keeping(*tables.values()), summed(sums, dw, phase.kernel, groups, whole_columns, threads)


NATIVE = {"conv2d_dx": conv2d_dx, "conv2d_dw": conv2d_dw}
