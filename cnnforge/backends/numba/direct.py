"""Convolution and its gradients as products of the input as it lies, without unrolling it: lanes are filters.

Shapes: x (N, H, W, C), w (KH, KW, C/groups, F), y (N, OH, OW, F). A row of A is one output position: the channels under
one row of its window are one run of numbers (``rules/direct.py``), so a product only has to know where each position's
window begins (Zhang et al., "High performance zero-memory overhead direct convolutions", ICML 2018). Weights are
packed into panels once per call. Padding is copied: a piece's input with zeros around it is a small part of what the
products cost from 16 filters on. All that depends on shapes stands in tables of words that are made when binding:

    jobs   what is to be done with each piece: a product for each panel of filters (and phase of a gradient)
    rows   where each position of a piece lies in its input, and ``places`` in its output
    taps   where each run of a window lies

The gradient of x is the same with the weights turned, on dy; of w, positions are summed over instead (``across``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product as pairs
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnforge.backends.numba.driver import Call, bound
from cnnforge.backends.numba.language import carray
from cnnforge.backends.numba.pack import pack, pack_turned, pad
from cnnforge.backends.numba.rules.direct import Phase, Walk, contiguous, padded, walk
from cnnforge.backends.numba.signature import Kernel, longs, part
from cnnforge.backends.numba.tiles import ACROSS, ALONG, COLUMNS, UNBOUNDED, across, along
from cnnforge.backends.numba.vectors import LANES, lanes, put, put_some
from cnnforge.backends.numpy.types import Array, Arrays
from cnnforge.shapes import Window

Words = NDArray[np.int64]

# A piece's place, and the copy of its input: words of an argument block, see ``_where``.
_X, _OUT, _N, _H, _W, _C, _OH, _OW, _F, _SAMPLES, _ROWS, _BANDS, _STEP, _STRIDE, _LOW, _LEFT, _SPAN, _WIDTH = range(18)
_COPIED, _BUFFER, _OWN, _JOBS, _COUNT, _PARTS, _PRODUCT = range(18, 25)
_PLACE = 25


def _count(x: Array, at: Walk) -> int:
    """N, as ``at`` counts samples."""
    return x.size // (at.down.size * at.across.size * at.c)


def _where(x: Array, out: Array, f: int, at: Walk, buffer: Array | None) -> tuple[Any, ...]:
    """Where pieces of x (N, H, W, C) lie, and of (N, OH, OW, F), of what is gathered to or from."""
    own = buffer.size // len(buffer) if buffer is not None else 0
    return (
        x, out, _count(x, at), at.down.size, at.across.size, at.c, at.down.out, at.across.out, f, at.samples, at.rows,
        at.bands, at.down.step, at.down.stride, at.down.low, at.across.low, at.down.span, at.width, int(at.copied),
        buffer if buffer is not None else 0, own,
    )  # fmt: skip


@part
def _input(a, thread, first, samples, q, rows, fresh):  # type: ignore[no-untyped-def]
    """The address of the input of outputs q ... q + rows of some samples: of its padded copy, made where ``fresh``."""
    h, w, c, left = a[_H], a[_W], a[_C], a[_LEFT]
    top, x = q * a[_STEP] + a[_LOW], a[_X] + 4 * first * h * w * c
    if not a[_COPIED]:
        return x + 4 * (top * w + left) * c
    buffer = a[_BUFFER] + 4 * thread * a[_OWN]
    if fresh:
        count, width = (rows - 1) * a[_STEP] + a[_SPAN], a[_WIDTH]
        for n in range(samples):
            pad(x + 4 * n * h * w * c, h, w, c, top, left, count, width, buffer + 4 * n * count * width * c)
    return buffer


@Kernel
def _weights(block: int, lo: int, hi: int, thread: int) -> None:
    """w -> panels. Range: lines of a table, each a matrix with where it goes. Memory limits it."""
    a = carray(longs(block), (6,))
    table = carray(longs(a[2]), (a[3], 5))
    for i in range(lo, hi):
        source, into, rows, columns = a[0] + table[i, 0], a[1] + table[i, 1], table[i, 2], table[i, 3]
        if a[5]:
            pack_turned(source, a[4], rows, columns, into, table[i, 4])
        else:
            pack(source, a[4], rows, columns, into, table[i, 4])


# A line of the jobs of ``_gather``.
_Q, _P, _COLUMNS, _FROM, _ROWS_AT, _TAPS_AT, _TAPS, _RUN, _B, _B_STEP, _TO, _PLACES_AT, _START = range(13)
_WEIGHTS, _ADDED, _BOUNDS = range(_PLACE, _PLACE + 3)


@Kernel
def _gather(block: int, lo: int, hi: int, thread: int) -> None:
    """x, packed weights -> y, or dy -> dx. Range: pieces x parts of their jobs. The multiply-add units limit it."""
    a = carray(longs(block), (_PLACE + 3,))
    count, parts, samples, bands = a[_COUNT], a[_PARTS], a[_SAMPLES], a[_BANDS]
    jobs = carray(longs(a[_JOBS]), (count, 13))
    held = -1
    for unit in range(lo, hi):
        piece, part = divmod(unit, parts)
        group, band = divmod(piece, bands)
        first, q = group * samples, band * a[_ROWS]
        many = min(samples, a[_N] - first)
        source = _input(a, thread, first, many, q, a[_ROWS], piece != held)
        held = piece
        into = a[_OUT] + 4 * (first * a[_OH] + q * a[_STRIDE]) * a[_OW] * a[_F]
        for i in range(part * count // parts, (part + 1) * count // parts):
            j = jobs[i]
            positions = many * min(a[_ROWS], j[_Q] - q) * j[_P]
            start = a[_ADDED] + j[_START] if a[_ADDED] else 0
            along(
                a[_PRODUCT], positions, j[_COLUMNS], source + j[_FROM], j[_ROWS_AT], j[_TAPS_AT], j[_TAPS], j[_RUN],
                a[_WEIGHTS] + j[_B], j[_B_STEP], into + j[_TO], j[_PLACES_AT], start, 0, a[_BOUNDS],
            )  # fmt: skip


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
    count, parts, samples, bands = a[_COUNT], a[_PARTS], a[_SAMPLES], a[_BANDS]
    jobs, panels = carray(longs(a[_JOBS]), (count, 4)), carray(longs(a[_PANELS]), (a[_PANEL_COUNT], 6))
    pieces = (a[_N] + samples - 1) // samples * bands
    for unit in range(lo, hi):
        shard, part = divmod(unit, parts)
        begin, end = shard * pieces // a[_SHARDS], (shard + 1) * pieces // a[_SHARDS]
        begin_job, end_job = part * count // parts, (part + 1) * count // parts
        sums = a[_OUT] + 4 * shard * a[_ALL]
        # An empty shard has one piece of no samples, which writes zeros.
        for piece in range(begin, max(end, begin + 1)):
            group, band = divmod(piece, bands)
            first, q = group * samples, band * a[_ROWS]
            many = min(samples, a[_N] - first) if begin < end else 0
            rows = min(a[_ROWS], a[_OH] - q)
            source = _input(a, thread, first, many, q, rows, True)
            dy = a[_DY] + 4 * (first * a[_OH] + q) * a[_OW] * a[_F]
            run = a[_RUN_OF]
            segments = many * rows
            if not run:
                run, segments = many, min(many, 1)
            held = -1
            for i in range(begin_job, end_job):
                j = jobs[i]
                p = panels[j[_PANEL]]
                b = dy + 4 * p[_FIRST]
                if p[_PACKED_AT] >= 0:
                    b = a[_PACKED] + 4 * (thread * a[_PACKED_OWN] + p[_PACKED_AT])
                    if held != j[_PANEL]:
                        pack(dy + 4 * p[_FIRST], 4 * a[_F], segments * run, p[_VALID], b, p[_STEP_OF])
                        held = j[_PANEL]
                across(
                    a[_PRODUCT], j[_ROWS_OF], p[_WHOLE], source + j[_FROM_A], b, p[_SEGMENTS], segments, run,
                    a[_A_STEP], p[_STEP_OF], sums + j[_TO_SUMS], a[_C_STEP], piece - begin,
                )  # fmt: skip


@Kernel
def _sum(block: int, lo: int, hi: int, thread: int) -> None:
    """sums (shards, groups, taps, C/groups, columns) -> dw, shards in their order. Range: rows. Memory limits it."""
    a = carray(longs(block), (10,))
    sums, dw, table, shards, all_sums, taps, c, columns, step, f = (
        a[0], a[1], carray(longs(a[2]), (a[5],)), a[3], a[4], a[5], a[6], a[7], a[8], a[9],
    )  # fmt: skip
    for row in range(lo, hi):
        group, rest = divmod(row, taps * c)
        tap, channel = divmod(rest, c)
        into = dw + 4 * ((table[tap] * c + channel) * f + group * columns)
        source = sums + row * step
        for start in range(0, columns, LANES):
            total = lanes(source + 4 * start)
            for shard in range(1, shards):
                total += lanes(source + 4 * (shard * all_sums + start))
            if start + LANES <= columns:
                put(into + 4 * start, total)
            else:
                put_some(into + 4 * start, total, columns - start)


class _Runs(NamedTuple):
    """Products of one phase: where its runs begin, of which rows of the kernel they are, and their length."""

    down: Phase
    across: Phase
    offsets: list[int]
    kernel: list[tuple[int, int]]
    run: int


def _pitch(at: Walk) -> int:
    """Columns from one input row to the next, as a piece's input lies."""
    return at.width if at.copied else at.across.size


def _phases(at: Walk, groups: int) -> Iterator[_Runs]:
    """Every phase; ``run`` is one tap's channels, or those of a whole row of the kernel."""
    for down, over in pairs(at.down.phases, at.across.phases):
        kernel = [(i, j) for _, i in down.taps for _, j in over.taps]
        joined = groups == 1 and contiguous(over)
        columns = [e for e, _ in over.taps][: 1 if joined else None]
        offsets = [
            4 * at.c * ((i - at.down.low) * _pitch(at) + j - at.across.low) for i, _ in down.taps for j in columns
        ]  # fmt: skip
        yield _Runs(down, over, offsets, kernel, at.c // groups * (len(over.taps) if joined else 1))


def _positions(at: Walk, down: Phase, over: Phase, f: int) -> tuple[Words, Words]:
    """Where each position of a piece lies in its input and in its output of ``f`` channels."""
    sample, q, p = np.ogrid[: at.samples, : min(at.rows, down.count), : over.count]
    rows = at.down.rows(at.rows) if at.copied else at.down.size
    source = ((sample * rows + q * at.down.step) * _pitch(at) + p * at.across.step) * at.c
    into = ((sample * at.down.out + q * at.down.stride + down.first) * at.across.out + p * at.across.stride) * f
    return 4 * np.ravel(source), 4 * np.ravel(into + over.first * f)


def _panels(columns: int) -> list[tuple[int, int, int]]:
    """(first, columns, columns in whole vectors) of each block of columns."""
    return [
        (i, min(COLUMNS, columns - i), min(COLUMNS, padded(columns - i))) for i in range(0, columns, COLUMNS)
    ]  # fmt: skip


def parts_of(units: int, jobs: int, threads: int) -> int:
    """Into how many parts the jobs of a unit are cut, so that all threads have some."""
    return max(1, min(jobs, -(-4 * threads // units))) if units < 4 * threads and threads > 1 else 1


def gathered(
    x: Array, w: Array, out: Array, at: Walk, groups: int, space: Arrays, threads: int, *, back: bool,
    added: Array | None = None, bounds: tuple[float, float] = UNBOUNDED,
) -> tuple[Call, ...]:  # fmt: skip
    """x -> out as ``at`` walks over them. ``added``, ``bounds``: a bias, and a floor and a ceiling."""
    u, *buffer = space
    f = out.shape[-1]
    columns = f // groups
    lines: list[tuple[int, ...]] = []
    packing: list[tuple[int, ...]] = []
    kept: list[Any] = []
    base = 0
    c, all_f = w.shape[2:]
    for phase in _phases(at, groups):
        rows, places = _positions(at, phase.down, phase.across, f)
        offsets = np.array(phase.offsets or [0], np.int64)
        kept += [rows, places, offsets]
        k = len(phase.kernel) * (at.c // groups)
        for group in range(groups):
            for first, valid, whole in _panels(columns):
                lines.append(
                    (
                        phase.down.count, phase.across.count, valid, 4 * group * (at.c // groups), rows.ctypes.data,
                        offsets.ctypes.data, len(phase.offsets), phase.run, base, 4 * whole,
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
    jobs, table = np.array(lines, np.int64), np.array(packing or [(0,) * 5], np.int64)
    limits = np.array(bounds, np.float32)
    pieces = at.pieces(_count(x, at))
    parts = parts_of(pieces, len(jobs), threads)
    call = bound(
        _gather, pieces * parts, threads, *_where(x, out, f, at, buffer[0] if buffer else None), jobs, len(jobs), parts,
        ALONG, u, 0 if added is None else added, limits,
    )  # fmt: skip
    call = replace(call, kept=(*call.kept, *kept))
    return bound(_weights, len(packing), threads, w, u, table, len(table), 4 * all_f, int(back)), call


def conv2d(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, window: Window, groups: int, flip: bool,
    added: Array | None = None, bounds: tuple[float, float] = UNBOUNDED,
) -> tuple[Call, ...]:  # fmt: skip
    """x, w -> y."""
    (x, w), (y,) = ins, outs
    at = walk(x.shape[1:3], x.shape[3], window, flip)
    return gathered(x, w, y, at, groups, scratch, threads, back=False, added=added, bounds=bounds)


def conv2d_dx(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, window: Window, groups: int, flip: bool
) -> tuple[Call, ...]:
    """dy, w -> dx."""
    (dy, w), (dx,) = ins, outs
    at = walk(dx.shape[1:3], dy.shape[3], window, flip, back=True)
    return gathered(dy, w, dx, at, groups, scratch, threads, back=True)


def conv2d_dw(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, window: Window, groups: int, flip: bool
) -> tuple[Call, ...]:
    """x, dy -> dw: a sum for each shard of the pieces, then over the shards."""
    (x, dy), (dw,), (sums, *space) = ins, outs, scratch
    at = walk(x.shape[1:3], x.shape[3], window, flip)
    buffer = space.pop(0) if at.copied else None
    packed = space.pop(0)
    (phase,) = _phases(at, groups)
    c, f = dw.shape[2:]
    columns = f // groups
    whole_columns, taps = padded(columns), len(phase.kernel)
    as_it_lies = columns in (LANES, 2 * LANES) and f == columns
    kept, panels, jobs, tables = [], [], [], {}
    (rows, _), places = _positions(at, phase.down, phase.across, 1), np.arange(at.samples * at.rows) * at.across.out
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
    kept = [*tables.values()]
    panel_table, job_table = np.array(panels, np.int64), np.array(jobs, np.int64)
    shards = len(sums)
    parts = parts_of(shards, len(jobs), threads)
    call = bound(
        _shards, shards * parts, threads, *_where(x, sums, f, at, buffer), job_table, len(jobs), parts, ACROSS,
        dy, packed, packed.size // len(packed), panel_table, len(panels), shards, sums.size // shards,
        0 if at.flat else at.across.out, 4 * at.across.step * at.c, 4 * whole_columns,
    )  # fmt: skip
    call = replace(call, kept=(*call.kept, *kept))
    order = np.array([i * dw.shape[1] + j for i, j in phase.kernel], np.int64)
    return call, bound(
        _sum, groups * taps * c, threads, sums, dw, order, shards, sums.size // shards, taps, c, columns,
        4 * whole_columns, f,
    )  # fmt: skip


NATIVE = {"conv2d": conv2d, "conv2d_dx": conv2d_dx, "conv2d_dw": conv2d_dw}
