"""3x3 convolutions of stride 1 with a quarter of the multiplications: Winograd's F(4x4, 3x3).

Lavin and Gray, "Fast algorithms for convolutional neural networks", CVPR 2016. An output tile Y (4x4) of one filter is,
for the input patch X (6x6) under it and the kernel K (3x3),

    Y = A' [ sum over C of (G K G') * (B' X B) ] A        (* entry by entry, ' transposed)

so that the sum over channels is 36 matrix products (tiles x C) (C x F) with 36 instead of 144 multiplications per tile.
The gradient of x is the same with the kernel turned and its channels exchanged; that of K follows by the chain rule:

    dK = G' [ sum over tiles of (A dY A') * (B' X B) ] G

Shapes: x (N, H, W, C), w (3, 3, C, F), y (N, OH, OW, F); C, F >= 16. Channels are taken LANES at a time; where their
number is no multiple the last vector overlaps the one before, and what both hold is computed twice with the same bits.
Tiles beyond the edges are zeros. ``transformed`` weights lie as (36, panels of LANES filters, C, LANES).
Rounding: in units of the largest |y|, float32 against float64, at most 4e-6 was measured for y and dx, 2e-6 for dw
(C = F = 256, normal inputs); direct convolution has a tenth of it.
"""

from __future__ import annotations

from math import prod
from typing import Any

from cnnforge.backends.numba.capabilities import WINOGRAD_ROWS, WINOGRAD_SHARDS, winograd_tiles
from cnnforge.backends.numba.driver import Call, bound
from cnnforge.backends.numba.language import carray, float32, part
from cnnforge.backends.numba.signature import Kernel, floats, longs
from cnnforge.backends.numba.vectors import LANES, Matrix, product, transform
from cnnforge.backends.numpy.types import Arrays
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
_to_output = transform(_A_SIGNS, _A_HALVES)
_of_output_gradient = transform(_transposed(_A_HALVES), _transposed(_A_SIGNS))
_of_kernel = transform(_G)
_to_kernel_gradient = transform(_transposed(_G))
_six_rows = product(6)
_some_rows = product(WINOGRAD_ROWS)


@part
def _read(x: int, patch: int, top: int, left: int, size: int, h: int, w: int, c: int) -> None:
    """Copy LANES channels of (size, size) positions to ``patch`` (size, size, LANES), with zeros outside (h, w)."""
    for i in range(size):
        for j in range(size):
            into = carray(floats(patch + 4 * LANES * (i * size + j)), (LANES,))
            if 0 <= top + i < h and 0 <= left + j < w:
                source = carray(floats(x + 4 * c * ((top + i) * w + left + j)), (LANES,))
                for k in range(LANES):
                    into[k] = source[k]
            else:
                for k in range(LANES):
                    into[k] = float32(0)


@part
def _write(patch: int, y: int, top: int, left: int, h: int, w: int, f: int) -> None:
    """Copy what of ``patch`` (4, 4, LANES) lies inside (h, w)."""
    for i in range(min(_TILE, h - top)):
        for j in range(min(_TILE, w - left)):
            source = carray(floats(patch + 4 * LANES * (i * _TILE + j)), (LANES,))
            into = carray(floats(y + 4 * f * ((top + i) * w + left + j)), (LANES,))
            for k in range(LANES):
                into[k] = source[k]


@part
def _take_patches(
    x: int, v: int, patch: int, first: int, count: int, down: int, across: int, h: int, w: int, c: int,
    above: int, before: int, between: int,
) -> None:  # fmt: skip
    """v[point, t, c] of tiles first <= t < first + count, from their patches of x."""
    for t in range(count):
        sample, tile = divmod(first + t, down * across)
        top, left = tile // across * _TILE - above, tile % across * _TILE - before
        inside = top >= 0 and left >= 0 and top + _PATCH <= h and left + _PATCH <= w
        for start in range(0, c, LANES):
            channel = min(start, c - LANES)
            source, into = x + 4 * (sample * h * w * c + channel), v + 4 * (t * c + channel)
            if inside:
                _of_input(source + 4 * c * (top * w + left), w * c, c, into, _PATCH * between, between)
            else:
                _read(source, patch, top, left, _PATCH, h, w, c)
                _of_input(patch, _PATCH * LANES, LANES, into, _PATCH * between, between)


@Kernel
def _weights(block: int, lo: int, hi: int, thread: int) -> None:
    """w (3, 3, C, F) -> transformed. Range: C. Reads w once; memory limits it."""
    a = carray(longs(block), (5,))
    w, u, c, f, turned = a[0], a[1], a[2], a[3], a[4]
    panels = (f + LANES - 1) // LANES
    step = -c * f if turned else c * f
    between = panels * c * LANES
    for channel in range(lo, hi):
        for p in range(panels):
            start = channel * f + min(p * LANES, f - LANES)
            if turned:
                start += 8 * c * f
            _of_kernel(w + 4 * start, 3 * step, step, u + 4 * LANES * (p * c + channel), _PATCH * between, between)


@Kernel
def _weights_dx(block: int, lo: int, hi: int, thread: int) -> None:
    """w (3, 3, C, F) -> transformed, turned, with C and F exchanged. Range: panels of C. Each vector is transposed."""
    a = carray(longs(block), (7,))
    w, u, c, f, turned = a[0], a[1], a[2], a[3], a[4]
    patch = a[5] + 4 * thread * a[6]
    panels = (c + LANES - 1) // LANES
    step = -c * f if turned else c * f
    into = carray(floats(u), (_POINTS, panels, f, LANES))
    found = carray(floats(patch), (_POINTS, LANES))
    for p in range(lo, hi):
        for lane in range(LANES):
            channel = min(p * LANES, c - LANES) + lane
            for begin in range(0, f, LANES):
                row = min(begin, f - LANES)
                start = channel * f + row
                if turned:
                    start += 8 * c * f
                _of_kernel(w + 4 * start, 3 * step, step, patch, _PATCH * LANES, LANES)
                for point in range(_POINTS):
                    for k in range(LANES):
                        into[point, p, row + k, lane] = found[point, k]


@Kernel
def _tiles(block: int, lo: int, hi: int, thread: int) -> None:
    """x, transformed weights -> y. Range: groups of ``size`` tiles. The multiply-add units limit it.

    A group's transformed patches v and one panel's products m stay in the second cache.
    """
    a = carray(longs(block), (15,))
    x, u, y = a[0], a[1], a[2]
    h, w, c, oh, ow, f = a[5], a[6], a[7], a[8], a[9], a[10]
    above, before, size, tiles = a[11], a[12], a[13], a[14]
    down, across = (oh + _TILE - 1) // _TILE, (ow + _TILE - 1) // _TILE
    panels = (f + LANES - 1) // LANES
    v_between, m_between = size * c + _GAP, size * LANES + _GAP
    patch = a[3] + 4 * thread * a[4]
    m = patch + 4 * _POINTS * LANES
    v = m + 4 * _POINTS * m_between
    for group in range(lo, hi):
        first = group * size
        count = min(size, tiles - first)
        _take_patches(x, v, patch, first, count, down, across, h, w, c, above, before, v_between)
        for p in range(panels):
            for point in range(_POINTS):
                weights = u + 4 * (point * panels + p) * c * LANES
                for t in range(0, count, 6):
                    _six_rows(
                        v + 4 * (point * v_between + t * c), c, 1, weights, LANES,
                        m + 4 * (point * m_between + t * LANES), c, 0,
                    )  # fmt: skip
            filters = min(p * LANES, f - LANES)
            for t in range(count):
                sample, tile = divmod(first + t, down * across)
                top, left = tile // across * _TILE, tile % across * _TILE
                into = y + 4 * (sample * oh * ow * f + filters)
                found = m + 4 * t * LANES
                if top + _TILE <= oh and left + _TILE <= ow:
                    _to_output(found, _PATCH * m_between, m_between, into + 4 * f * (top * ow + left), ow * f, f)
                else:
                    _to_output(found, _PATCH * m_between, m_between, patch, _TILE * LANES, LANES)
                    _write(patch, into, top, left, oh, ow, f)


@Kernel
def _shards_dw(block: int, lo: int, hi: int, thread: int) -> None:
    """x, dy -> sums (SHARDS, 36, panels, rows, ROWS, LANES) over a shard's tiles. Range: shards.

    Like ``_tiles``, with the products summed over tiles: the rows of one are channels.
    """
    a = carray(longs(block), (15,))
    x, dy, sums = a[0], a[1], a[2]
    h, w, c, oh, ow, f = a[5], a[6], a[7], a[8], a[9], a[10]
    above, before, size, tiles = a[11], a[12], a[13], a[14]
    down, across = (oh + _TILE - 1) // _TILE, (ow + _TILE - 1) // _TILE
    panels, rows = (f + LANES - 1) // LANES, (c + WINOGRAD_ROWS - 1) // WINOGRAD_ROWS
    v_between, m_between = size * c + _GAP, size * LANES + _GAP
    patch = a[3] + 4 * thread * a[4]
    m = patch + 4 * _POINTS * LANES
    v = m + 4 * _POINTS * m_between
    for shard in range(lo, hi):
        begin, end = shard * tiles // WINOGRAD_SHARDS, (shard + 1) * tiles // WINOGRAD_SHARDS
        # An empty shard has one group of no tiles, which writes zeros.
        for first in range(begin, max(end, begin + 1), size):
            count = min(size, end - first)
            _take_patches(x, v, patch, first, count, down, across, h, w, c, above, before, v_between)
            for p in range(panels):
                filters = min(p * LANES, f - LANES)
                for t in range(count):
                    sample, tile = divmod(first + t, down * across)
                    top, left = tile // across * _TILE, tile % across * _TILE
                    source = dy + 4 * (sample * oh * ow * f + filters)
                    into = m + 4 * t * LANES
                    if top + _TILE <= oh and left + _TILE <= ow:
                        _of_output_gradient(
                            source + 4 * f * (top * ow + left), ow * f, f, into, _PATCH * m_between, m_between
                        )
                    else:
                        _read(source, patch, top, left, _TILE, oh, ow, f)
                        _of_output_gradient(patch, _TILE * LANES, LANES, into, _PATCH * m_between, m_between)
                for point in range(_POINTS):
                    into = sums + 4 * LANES * WINOGRAD_ROWS * rows * ((shard * _POINTS + point) * panels + p)
                    for r in range(rows):
                        channel = min(r * WINOGRAD_ROWS, c - WINOGRAD_ROWS)
                        _some_rows(
                            v + 4 * (point * v_between + channel), 1, c, m + 4 * point * m_between, LANES,
                            into + 4 * r * WINOGRAD_ROWS * LANES, count, first - begin,
                        )  # fmt: skip


@Kernel
def _sum_dw(block: int, lo: int, hi: int, thread: int) -> None:
    """sums -> dw (3, 3, C, F), shards in their order. Range: panels of F x rows of C. Memory limits it."""
    a = carray(longs(block), (5,))
    sums, dw, c, f, turned = a[0], a[1], a[2], a[3], a[4]
    panels, rows = (f + LANES - 1) // LANES, (c + WINOGRAD_ROWS - 1) // WINOGRAD_ROWS
    cells = panels * rows
    cell = WINOGRAD_ROWS * LANES
    step = -c * f if turned else c * f
    for i in range(lo, hi):
        p, r = divmod(i, rows)
        for point in range(_POINTS):
            total = carray(floats(sums + 4 * cell * (point * cells + i)), (cell,))
            for shard in range(1, WINOGRAD_SHARDS):
                more = carray(floats(sums + 4 * cell * ((shard * _POINTS + point) * cells + i)), (cell,))
                for k in range(cell):
                    total[k] += more[k]
        for k in range(WINOGRAD_ROWS):
            start = (min(r * WINOGRAD_ROWS, c - WINOGRAD_ROWS) + k) * f + min(p * LANES, f - LANES)
            if turned:
                start += 8 * c * f
            _to_kernel_gradient(
                sums + 4 * (cell * i + k * LANES), _PATCH * cells * cell, cells * cell, dw + 4 * start, 3 * step, step
            )


def _tile_count(y: Any) -> int:
    n, oh, ow, _ = y.shape
    return int(n * -(-oh // _TILE) * -(-ow // _TILE))


def _sizes(x: Any, y: Any, above: int, before: int) -> tuple[int, ...]:
    return *x.shape[1:], *y.shape[1:], above, before, winograd_tiles(x.shape[3]), _tile_count(y)


def conv2d(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, window: Window, groups: int, flip: bool
) -> tuple[Call, ...]:
    """x, w -> y."""
    (x, w), (y,), (u, space) = ins, outs, scratch
    c, f = w.shape[2:]
    sizes = _sizes(x, y, window.pads[0], window.pads[2])
    return (
        bound(_weights, c, threads, w, u, c, f, int(flip)),
        bound(_tiles, -(-sizes[-1] // sizes[-2]), threads, x, u, y, space, prod(space.shape[1:]), *sizes),
    )


def conv2d_dx(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, window: Window, groups: int, flip: bool
) -> tuple[Call, ...]:
    """dy, w -> dx."""
    (dy, w), (dx,), (u, space) = ins, outs, scratch
    c, f = w.shape[2:]
    sizes = _sizes(dy, dx, 2 - window.pads[0], 2 - window.pads[2])
    own = prod(space.shape[1:])
    return (
        bound(_weights_dx, -(-c // LANES), threads, w, u, c, f, int(not flip), space, own),
        bound(_tiles, -(-sizes[-1] // sizes[-2]), threads, dy, u, dx, space, own, *sizes),
    )


def conv2d_dw(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, window: Window, groups: int, flip: bool
) -> tuple[Call, ...]:
    """x, dy -> dw."""
    (x, dy), (dw,), (sums, space) = ins, outs, scratch
    c, f = dw.shape[2:]
    sizes = _sizes(x, dy, window.pads[0], window.pads[2])
    return (
        bound(_shards_dw, WINOGRAD_SHARDS, threads, x, dy, sums, space, prod(space.shape[1:]), *sizes),
        bound(_sum_dw, sums.shape[2] * sums.shape[3], threads, sums, dw, c, f, int(flip)),
    )


NATIVE = {"conv2d": conv2d, "conv2d_dx": conv2d_dx, "conv2d_dw": conv2d_dw}
