"""3x3 convolutions of stride 1 with a quarter of the multiplications: Winograd's F(4x4, 3x3).

Lavin and Gray, "Fast algorithms for convolutional neural networks", CVPR 2016. An output tile Y (4x4) of one filter is,
for the input patch X (6x6) under it and the kernel K (3x3),

    Y = A' [ sum over C of (G K G') * (B' X B) ] A        (* entry by entry, ' transposed)

so that the sum over channels is 36 matrix products (tiles x C) (C x F) with 36 instead of 144 multiplications per tile.
The gradient of x is the same with the kernel turned and its channels exchanged; that of K follows by the chain rule:

    dK = G' [ sum over tiles of (A dY A') * (B' X B) ] G

Shapes: x (N, H, W, C), w (3, 3, C, F), y (N, OH, OW, F); C, F >= 16. Channels are taken LANES at a time; where their
number is no multiple the last vector overlaps the one before, and what both hold is computed twice with the same bits.
Tiles beyond the edges are zeros. ``transformed`` weights lie as (36, blocks of filters, C, filters of a block).
Rounding: in units of the largest |y|, float32 against float64 and normal inputs, at most 1.2e-5 was measured for y and
dx, 5e-6 for dw (C = F = 256; 8e-6 and 3e-6 for 64); direct convolution has a sixth of it.

Above 400 lines: the three kernels and their bindings are one algorithm, and share its matrices, tiles and workspace.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnforge.backends.numba.driver import Call, bound
from cnnforge.backends.numba.language import carray
from cnnforge.backends.numba.norm import joining
from cnnforge.backends.numba.pack import pad, prefetch, prefetch_to_write, turn
from cnnforge.backends.numba.rules.conv import tile_rows, winograd_rows
from cnnforge.backends.numba.signature import Kernel, call, longs, part
from cnnforge.backends.numba.tiles import ACROSS, ALONG, COLUMNS, PANELS, UNBOUNDED, across, along
from cnnforge.backends.numba.transform import Matrix, finished, transform
from cnnforge.backends.numba.vectors import LANES, WIDTH, lanes, put, splat
from cnnforge.backends.numpy.types import Array, Arrays
from cnnforge.shapes import Window

#: Products per tile, channel and filter; what separates two of the 36 arrays, so that they are in different cache sets.
_POINTS, _GAP = 36, 16
_TILE, _PATCH = 4, 6


def _transposed(matrix: Matrix) -> Matrix:
    return list(zip(*matrix, strict=True))


# B' = _B_SIGNS _B_HALVES and A' = _A_SIGNS _A_HALVES: rows 1 and 2, 3 and 4 differ only in the sign of one half.
_B_HALVES = [
    [4, 0, -5, 0, 1, 0],
    [0, 0, -4, 0, 1, 0],
    [0, -4, 0, 1, 0, 0],
    [0, 0, -1, 0, 1, 0],
    [0, -2, 0, 2, 0, 0],
    [0, 4, 0, -5, 0, 1],
]
_B_SIGNS = [
    [1, 0, 0, 0, 0, 0],
    [0, 1, 1, 0, 0, 0],
    [0, 1, -1, 0, 0, 0],
    [0, 0, 0, 1, 1, 0],
    [0, 0, 0, 1, -1, 0],
    [0, 0, 0, 0, 0, 1],
]
_A_HALVES = [
    [1, 0, 0, 0, 0, 0],
    [0, 1, 1, 0, 0, 0],
    [0, 1, -1, 0, 0, 0],
    [0, 0, 0, 1, 1, 0],
    [0, 0, 0, 1, -1, 0],
    [0, 0, 0, 0, 0, 1],
]
_A_SIGNS = [[1, 1, 0, 1, 0, 0], [0, 0, 1, 0, 2, 0], [0, 1, 0, 4, 0, 0], [0, 0, 1, 0, 8, 1]]
_G: list[list[float]] = [
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
]

_of_input = transform(_B_SIGNS, _B_HALVES)
_to_output = finished(_A_SIGNS, _A_HALVES)
_of_output_gradient = transform(_transposed(_A_HALVES), _transposed(_A_SIGNS))
_of_kernel = transform(_G)
_to_kernel_gradient = transform(_transposed(_G))


# An argument block: addresses, then sizes.
_X, _Y, _U, _OWN, _OWN_SIZE, _PRODUCT, _ROWS, _H, _W, _C, _OH, _OW, _F, _ABOVE, _BEFORE, _GROUP, _TOTAL = range(17)
_SHARED = 17


@part
def _read(y: int, patch: int, top: int, left: int, h: int, w: int, f: int) -> None:
    """Copy LANES channels of a tile of y (h, w, f) to ``patch`` (4, 4, LANES), with zeros beyond the edges."""
    for i in range(_TILE):
        for j in range(_TILE):
            inside = top + i < h and left + j < w
            value = lanes(y + 4 * f * ((top + i) * w + left + j)) if inside else splat(0)
            put(patch + WIDTH * (i * _TILE + j), value)


@part
def _write(patch: int, y: int, top: int, left: int, h: int, w: int, f: int) -> None:
    """Copy what of ``patch`` (4, 4, LANES) lies inside (h, w)."""
    for i in range(min(_TILE, h - top)):
        for j in range(min(_TILE, w - left)):
            put(y + 4 * f * ((top + i) * w + left + j), lanes(patch + WIDTH * (i * _TILE + j)))


@part
def _take_patches(a, v, band, first, rows, down, across, begin, end, between):  # type: ignore[no-untyped-def]
    """v[point, t, c - begin] of some rows of tiles and begin <= c < end, from their patches of x.

    Rows are padded in ``band`` first.
    """
    h, w, c = a[_H], a[_W], a[_C]
    width = _TILE * across + _PATCH - _TILE
    for r in range(rows):
        sample, row = divmod(first + r, down)
        pad(a[_X] + 4 * sample * h * w * c, h, w, c, row * _TILE - a[_ABOVE], -a[_BEFORE], _PATCH, width, band)
        for t in range(across):
            into = v + 4 * ((r * across + t) * (end - begin) - begin)
            for start in range(begin, end, LANES):
                channel = 4 * min(start, end - LANES)
                _of_input(band + 4 * _TILE * t * c + channel, width * c, c, into + channel, _PATCH * between, between)


@part
def _map_row(row: int, down: int, start: int, height: int, width: int) -> int:
    """Where the first line under a row of tiles begins in maps of ``height`` lines of ``width`` floats."""
    sample, r = divmod(row, down)
    return start + 4 * (sample * height + r * _TILE) * width


@part
def _panel(p: int, panels: int, c: int) -> tuple[int, int]:
    """Where panel ``p`` of one point's transformed weights begins, and from one channel to the next: bytes."""
    block = p // PANELS
    return 4 * (block * COLUMNS * c + p % PANELS * LANES), 4 * LANES * min(PANELS, panels - block * PANELS)


@Kernel
def _weights(block: int, lo: int, hi: int, thread: int) -> None:
    """w (3, 3, C, F) -> transformed. Range: C. Reads w once; memory limits it."""
    a = carray(longs(block), (5,))
    w, u, c, f, turned = a[0], a[1], a[2], a[3], a[4]
    panels = (f + LANES - 1) // LANES
    step = -c * f if turned else c * f
    between = panels * c * LANES + _GAP
    for channel in range(lo, hi):
        for p in range(panels):
            start = channel * f + min(p * LANES, f - LANES)
            if turned:
                start += 8 * c * f
            at, row = _panel(p, panels, c)
            _of_kernel(w + 4 * start, 3 * step, step, u + at + row * channel, _PATCH * between, between)


@Kernel
def _weights_dx(block: int, lo: int, hi: int, thread: int) -> None:
    """w (3, 3, C, F) -> transformed, turned, with C and F exchanged. Range: panels of C. Each vector is transposed."""
    a = carray(longs(block), (7,))
    w, u, c, f, turned = a[0], a[1], a[2], a[3], a[4]
    patch = a[5] + 4 * thread * a[6]
    panels = (c + LANES - 1) // LANES
    step = -c * f if turned else c * f
    between = 4 * (panels * f * LANES + _GAP)
    for p in range(lo, hi):
        at, row = _panel(p, panels, f)
        for begin in range(0, f, LANES):
            first = min(begin, f - LANES)
            for lane in range(LANES):
                start = (min(p * LANES, c - LANES) + lane) * f + first
                if turned:
                    start += 8 * c * f
                _of_kernel(w + 4 * start, 3 * step, step, patch + WIDTH * lane, _PATCH * LANES * LANES, LANES * LANES)
            for point in range(_POINTS):
                turn(
                    patch + WIDTH * LANES * point, WIDTH, LANES, LANES, u + between * point + at + row * first, row
                )  # fmt: skip


@Kernel
def _tiles(block: int, lo: int, hi: int, thread: int) -> None:
    """x, transformed weights -> y. Range: shards of groups of rows of tiles. The multiply-add units limit it.

    A group's transformed patches v and one block's products m stay in the second cache. What joins the moments of a
    norm behind it does so while the group is there too.
    """
    a = carray(longs(block), (_SHARED + 10,))
    c, oh, ow, f = a[_C], a[_OH], a[_OW], a[_F]
    places, tap, added, added_step, bounds, free = (
        a[_SHARED], a[_SHARED + 1], a[_SHARED + 2], a[_SHARED + 3], a[_SHARED + 4], a[_SHARED + 5],
    )  # fmt: skip
    join, joins, shards, groups = a[_SHARED + 6], a[_SHARED + 7], a[_SHARED + 8], a[_SHARED + 9]
    down, across = (oh + _TILE - 1) // _TILE, (ow + _TILE - 1) // _TILE
    panels = (f + LANES - 1) // LANES
    size = a[_GROUP] * across
    u_between, v_between, m_between = panels * c * LANES + _GAP, size * c + _GAP, size * COLUMNS + _GAP
    band = a[_OWN] + 4 * thread * a[_OWN_SIZE]
    m = band + 4 * max(_PATCH * (_TILE * across + 2) * c, _TILE * _TILE * LANES)
    v = m + 4 * _POINTS * m_between
    for group in range(lo * groups // shards, hi * groups // shards):
        first = group * a[_GROUP]
        rows = min(a[_GROUP], a[_TOTAL] - first)
        _take_patches(a, v, band, first, rows, down, across, 0, c, v_between)
        after = _map_row(first + rows, down, a[_X], a[_H], a[_W] * c)
        shares, share = (panels + PANELS - 1) // PANELS * _POINTS, _TILE * rows * a[_W] * c // LANES
        for begin in range(0, panels, PANELS):
            at, row = _panel(begin, panels, c)
            result = _map_row(first, down, a[_Y], oh, ow * f) + WIDTH * begin
            for point in range(_POINTS):
                # While numbers are multiplied memory has time for what comes next: the group after this one, and the
                # lines that the result will be written to.
                part = begin // PANELS * _POINTS + point
                if group + 1 < hi * groups // shards:
                    for i in range(part * share // shares, (part + 1) * share // shares):
                        prefetch(after + WIDTH * i)
                for i in range(point * _TILE * rows * ow // _POINTS, (point + 1) * _TILE * rows * ow // _POINTS):
                    for j in range(0, row, WIDTH):
                        prefetch_to_write(result + 4 * i * f + j)
                along(
                    a[_PRODUCT], rows * across, row // 4, v + 4 * point * v_between, a[_ROWS], tap, 1, c,
                    a[_U] + 4 * point * u_between + at, row, m + 4 * point * m_between, places, 0, 0, free,
                )  # fmt: skip
            for r in range(rows):
                sample, top = divmod(first + r, down)
                top *= _TILE
                for left in range(0, ow, _TILE):
                    found = m + 4 * (r * across + left // _TILE) * COLUMNS
                    for p in range(begin, min(begin + PANELS, panels)):
                        filters = min(p * LANES, f - LANES)
                        into = a[_Y] + 4 * (sample * oh * ow * f + filters)
                        more = added + added_step * filters
                        cut = top + _TILE > oh or left + _TILE > ow
                        to, row_step, step = into + 4 * f * (top * ow + left), ow * f, f
                        if cut:
                            to, row_step, step = band, _TILE * LANES, LANES
                        _to_output(found, _PATCH * m_between, m_between, to, row_step, step, more, bounds)
                        if cut:
                            _write(band, into, top, left, oh, ow, f)
                        found += WIDTH
        if join:
            call(join, joins, group, group + 1, thread)


@Kernel
def _shards_dw(block: int, lo: int, hi: int, thread: int) -> None:
    """x, dy -> sums (shards, 36, C, F in whole panels) over a shard's rows of tiles. Range: shards x parts of C.

    Like ``_tiles``, with the products summed over tiles: the rows of one are channels.
    """
    a = carray(longs(block), (_SHARED + 2,))
    shards, parts = a[_SHARED], a[_SHARED + 1]
    c, oh, ow, f = a[_C], a[_OH], a[_OW], a[_F]
    down, across_map = (oh + _TILE - 1) // _TILE, (ow + _TILE - 1) // _TILE
    panels = (f + LANES - 1) // LANES
    size = a[_GROUP] * across_map
    m_between = size * COLUMNS + _GAP
    band = a[_OWN] + 4 * thread * a[_OWN_SIZE]
    m = band + 4 * max(_PATCH * (_TILE * across_map + 2) * c, _TILE * _TILE * LANES)
    v = m + 4 * _POINTS * m_between
    for unit in range(lo, hi):
        shard, part = divmod(unit, parts)
        begin, end = shard * a[_TOTAL] // shards, (shard + 1) * a[_TOTAL] // shards
        c0, c1 = part * (c // LANES) // parts * LANES, (part + 1) * (c // LANES) // parts * LANES
        if part + 1 == parts:
            c1 = c
        v_between = size * (c1 - c0) + _GAP
        # An empty shard has one group of no tiles, which writes zeros.
        for first in range(begin, max(end, begin + 1), a[_GROUP]):
            rows = min(a[_GROUP], end - first)
            _take_patches(a, v, band, first, rows, down, across_map, c0, c1, v_between)
            after = _map_row(first + rows, down, a[_X], a[_H], a[_W] * c)
            shares, share = (panels + PANELS - 1) // PANELS * _POINTS, _TILE * rows * a[_W] * c // LANES
            for p0 in range(0, panels, PANELS):
                many = min(PANELS, panels - p0)
                coming = _map_row(first, down, a[_U], oh, ow * f) + WIDTH * (p0 + PANELS)
                if p0 + PANELS >= panels:
                    coming = _map_row(first + rows, down, a[_U], oh, ow * f)
                for r in range(rows):
                    sample, top = divmod(first + r, down)
                    top *= _TILE
                    for left in range(0, ow, _TILE):
                        into = m + 4 * (r * across_map + left // _TILE) * COLUMNS
                        for p in range(p0, p0 + many):
                            source = a[_U] + 4 * (sample * oh * ow * f + min(p * LANES, f - LANES))
                            tile, row_step, step = source + 4 * f * (top * ow + left), ow * f, f
                            if top + _TILE > oh or left + _TILE > ow:
                                _read(source, band, top, left, oh, ow, f)
                                tile, row_step, step = band, _TILE * LANES, LANES
                            _of_output_gradient(tile, row_step, step, into, _PATCH * m_between, m_between)
                            into += WIDTH
                for point in range(_POINTS):
                    part_of = p0 // PANELS * _POINTS + point
                    for i in range(part_of * share // shares, (part_of + 1) * share // shares):
                        prefetch(after + WIDTH * i)
                    for i in range(point * _TILE * rows * ow // _POINTS, (point + 1) * _TILE * rows * ow // _POINTS):
                        for j in range(many):
                            prefetch(coming + 4 * i * f + WIDTH * j)
                    into = a[_Y] + WIDTH * (((shard * _POINTS + point) * c + c0) * panels + p0)
                    across(
                        a[_PRODUCT], c1 - c0, many * LANES, v + 4 * point * v_between, m + 4 * point * m_between,
                        a[_ROWS], min(rows, 1), rows * across_map, 4 * (c1 - c0), 4 * COLUMNS, into, WIDTH * panels,
                        first - begin,
                    )  # fmt: skip


@Kernel
def _sum_dw(block: int, lo: int, hi: int, thread: int) -> None:
    """sums -> dw (3, 3, C, F), shards in their order. Range: C. Memory limits it."""
    a = carray(longs(block), (6,))
    sums, dw, c, f, turned, shards = a[0], a[1], a[2], a[3], a[4], a[5]
    panels = (f + LANES - 1) // LANES
    between = c * panels * LANES
    step = -c * f if turned else c * f
    for channel in range(lo, hi):
        for p in range(panels):
            at = sums + WIDTH * (channel * panels + p)
            for point in range(_POINTS):
                total = lanes(at + 4 * point * between)
                for shard in range(1, shards):
                    total += lanes(at + 4 * (shard * _POINTS + point) * between)
                put(at + 4 * point * between, total)
            start = channel * f + min(p * LANES, f - LANES)
            if turned:
                start += 8 * c * f
            _to_kernel_gradient(at, _PATCH * between, between, dw + 4 * start, 3 * step, step)


def _block(
    x: Array, y: Array, u: Array, own: Array, product: Kernel, rows: Array, group: int, above: int, before: int
) -> tuple[Any, ...]:
    """What kernels on tiles have in common. x (N, H, W, C), y (N, OH, OW, F): what patches and tiles are of."""
    return (
        x, y, u, own, own.size // len(own), product, rows, *x.shape[1:], *y.shape[1:], above, before, group,
        len(y) * tile_rows(y.shape[1]),
    )  # fmt: skip


def _written(y: Array, group: int) -> Array:
    """Positions of y (N, OH, OW, F) that each group of rows of tiles covers."""
    n, oh, ow, _ = y.shape
    down = tile_rows(oh)
    sample, row = np.divmod(np.minimum(np.arange(-(-n * down // group) + 1) * group, n * down), down)
    rows: Array = np.diff(sample * oh + row * _TILE) * ow
    return rows


def _convolved(
    x: Array, y: Array, u: Array, own: Array, group: int, threads: int, above: int, before: int,
    added: Array | None = None, bounds: tuple[float, float] = UNBOUNDED, work: Array | None = None,
) -> tuple[Call, Array]:  # fmt: skip
    """x (N, H, W, C) and transformed weights -> y (N, OH, OW, F), and its moments to ``work``. See ``Joining``."""
    rows, places = (np.arange(group * tile_rows(y.shape[2])) * 4 * step for step in (x.shape[3], COLUMNS))
    more = np.zeros(LANES, np.float32) if added is None else added
    limits, free = (np.array(b, np.float32) for b in (bounds, UNBOUNDED))
    block = _block(x, y, u, own, ALONG, rows, group, above, before)
    joins = joining(y, work, _written(y, group))
    convolved = bound(
        _tiles, joins.shards, threads, *block, places, np.zeros(1, np.int64), more, 4 * (added is not None),
        limits, free, *joins.words,
    )  # fmt: skip
    return convolved.keeping(*joins.kept), joins.rows


def convolved(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, way: str, window: Window, groups: int, flip: bool,
    added: Array | None = None, bounds: tuple[float, float] = UNBOUNDED, work: Array | None = None,
) -> tuple[tuple[Call, ...], Array]:  # fmt: skip
    """x, w -> y, and its moments to ``work``: calls, and the rows of y in each shard."""
    (x, w), (y,), (u, own) = ins, outs, scratch
    c, f = w.shape[2:]
    group = winograd_rows(way, y.shape[2])
    last, rows = _convolved(x, y, u, own, group, threads, window.pads[0], window.pads[2], added, bounds, work)
    return (bound(_weights, c, threads, w, u, c, f, int(flip)), last), rows


def conv2d_dx(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, way: str, window: Window, groups: int, flip: bool
) -> tuple[Call, ...]:
    """dy, w -> dx."""
    (dy, w), (dx,), (u, own) = ins, outs, scratch
    c, f = w.shape[2:]
    group = winograd_rows(way, dx.shape[2])
    return (
        bound(_weights_dx, -(-c // LANES), threads, w, u, c, f, int(not flip), own, own.size // len(own)),
        _convolved(dy, dx, u, own, group, threads, 2 - window.pads[0], 2 - window.pads[2])[0],
    )


def conv2d_dw(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, way: str, window: Window, groups: int, flip: bool
) -> tuple[Call, ...]:
    """x, dy -> dw."""
    (x, dy), (dw,), (sums, own) = ins, outs, scratch
    c, f = dw.shape[2:]
    segment = np.zeros(2, np.int64)
    group = winograd_rows(way, dy.shape[2])
    block = _block(x, dy, dy, own, ACROSS, segment, group, window.pads[0], window.pads[2])
    shards = len(sums)
    parts = min(c // LANES, -(-threads // shards))
    return (
        bound(_shards_dw, shards * parts, threads, block[0], sums, *block[2:], shards, parts),
        bound(_sum_dw, c, threads, sums, dw, c, f, int(flip), shards),
    )


NATIVE = {"conv2d_dx": conv2d_dx, "conv2d_dw": conv2d_dw}
