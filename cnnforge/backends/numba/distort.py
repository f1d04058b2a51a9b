"""From stored pictures to a batch of input where pixels change: pick, move, interpolate, colour, normalise, erase.

The range is the samples of the batch. The caller runs it whole, on a thread of its own and without Python's lock. A
picture at a time goes through a workspace of its size, which stays in the cache; the taps of the interpolation, one
pixel after another, bound the speed, and with an elastic field its smoothing.
"""

from __future__ import annotations

import ctypes
from math import floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnforge.backends.base import DRAWN, Distort, Distortion
from cnnforge.backends.numba.language import carray, float32, int64
from cnnforge.backends.numba.signature import Kernel, bytes_at, floats, ints, longs, part
from cnnforge.backends.numba.vectors import LANES, WIDTH, high, lane_numbers, put, real, splat, splat_int
from cnnforge.rng import M0, M1, ROUNDS, W0, W1

_LEAST = 2.0**-23


@part
def _noise(into: int, n: int, sample: int, epoch: int, key0: int, key1: int, room: int) -> None:
    """The first n words of a sample's stream as numbers in [-1, 1). room: four vectors."""
    noise, four = carray(floats(into), (n,)), carray(floats(room), (4, LANES))
    for e in range(0, n, 4 * LANES):
        c0, c1 = lane_numbers() + splat_int(e // 4), splat_int(sample)
        c2, c3 = splat_int(epoch), splat_int(epoch >> 32)
        k0, k1 = key0, key1
        for _ in range(ROUNDS):
            m0, m1 = splat_int(M0), splat_int(M1)
            c0, c1, c2, c3 = high(m1, c2) ^ c1 ^ splat_int(k0), m1 * c2, high(m0, c0) ^ c3 ^ splat_int(k1), m0 * c0
            k0 += W0
            k1 += W1
        upper, scale = splat_int(0xFFFFFF), splat(_LEAST)
        put(room, real((c0 >> splat_int(8)) & upper) * scale - splat(1))
        put(room + WIDTH, real((c1 >> splat_int(8)) & upper) * scale - splat(1))
        put(room + 2 * WIDTH, real((c2 >> splat_int(8)) & upper) * scale - splat(1))
        put(room + 3 * WIDTH, real((c3 >> splat_int(8)) & upper) * scale - splat(1))
        for k in range(min(4 * LANES, n - e)):
            noise[e + k] = four[k % 4, k // 4]


@part
def _smooth(noises: int, halves: int, fields: int, a: Any) -> None:
    """field = down noise across^T, of (H, W); down (H, H) and across (W, W) are 0 further out than their reach."""
    height, width, reach_h, reach_w = a[12], a[13], a[26], a[27]
    noise, field = carray(floats(noises), (height, width)), carray(floats(fields), (height, width))
    between = carray(floats(halves), (height, width))
    down, across = carray(floats(a[17]), (height, height)), carray(floats(a[18]), (width, width))
    for h in range(height):
        for w in range(width):
            between[h, w] = 0
            field[h, w] = 0
        for k in range(max(0, h - reach_h), min(height, h + reach_h + 1)):
            weight = down[h, k]
            for w in range(width):
                between[h, w] += weight * noise[k, w]
        for k in range(width):
            value = between[h, k]
            for w in range(max(0, k - reach_w), min(width, k + reach_w + 1)):
                field[h, w] += value * across[k, w]


@part
def _place(at: int, n: int, border: int) -> int:
    """Which of n places stands for ``at``; -1 for none. border: 0 zero, 1 reflect, 2 edge."""
    if border == 1:
        period = max(1, 2 * (n - 1))
        at = at % period
        return period - at if at >= n else at
    if at < 0 or at >= n:
        if border == 0:
            return -1
        return 0 if at < 0 else n - 1
    return at


@part
def _warp(source: int, into: int, drawn: int, displaced: int, block: Any) -> None:
    """out (H, W, c): x read where the drawn map and the field (2, H, W) say, between four pixels."""
    height, width, channels, border, elastic = block[12], block[13], block[14], block[16], block[19]
    x, out = carray(floats(source), (height, width, channels)), carray(floats(into), (height, width, channels))
    a, field = carray(floats(drawn), (DRAWN,)), carray(floats(displaced), (2, height, width))
    for h in range(height):
        for w in range(width):
            row = a[0] * float32(h) + a[1] * float32(w) + a[2]
            column = a[3] * float32(h) + a[4] * float32(w) + a[5]
            if elastic:
                row += field[0, h, w]
                column += field[1, h, w]
            top, left = floor(row), floor(column)
            below, right = float32(row - top), float32(column - left)
            for c in range(channels):
                out[h, w, c] = 0
            for k in range(4):
                i = _place(int64(top) + k // 2, height, border)
                j = _place(int64(left) + k % 2, width, border)
                if i >= 0 and j >= 0:
                    share = (below if k >= 2 else float32(1) - below) * (right if k % 2 else float32(1) - right)
                    for c in range(channels):
                        out[h, w, c] += share * x[i, j, c]


@part
def _colour(pixels: int, drawn: int, block: Any) -> None:
    """x (pixels, c), in place: a map of colours, and a share of the picture's mean grey."""
    n, channels, top = block[12] * block[13], block[14], block[25]
    x, a, grey = carray(floats(pixels), (n, channels)), carray(floats(drawn), (DRAWN,)), carray(floats(block[9]), (n,))
    total = 0.0
    for i in range(n):
        for c in range(channels):
            total += x[i, c] * grey[c]
    offset = float32(total / n) * a[23]
    scale = a[14] + a[15] + a[16]
    for i in range(n):
        if channels == 3:
            r, g, b = x[i, 0], x[i, 1], x[i, 2]
            x[i, 0] = a[14] * r + a[15] * g + a[16] * b + offset
            x[i, 1] = a[17] * r + a[18] * g + a[19] * b + offset
            x[i, 2] = a[20] * r + a[21] * g + a[22] * b + offset
        else:
            for c in range(channels):
                x[i, c] = scale * x[i, c] + offset
        if top >= 0:
            for c in range(channels):
                x[i, c] = min(max(x[i, c], float32(0)), float32(top))


@Kernel
def _distort(block: int, lo: int, hi: int, thread: int) -> None:
    """x (n, H, W, c) bytes or floats, rows (N,), drawn (N, DRAWN) -> out (N, H, W, c times), see ``data.distort``."""
    a = carray(longs(block), (29,))
    height, width, channels, times = a[12], a[13], a[14], a[15]
    size, pixels = height * width * channels, height * width
    rows, mean, factor = (
        carray(longs(a[1]), (hi,)),
        carray(floats(a[6]), (channels,)),
        carray(floats(a[7]), (channels,)),
    )
    fills = carray(floats(a[8]), (2, channels))
    work, elastic, warped, coloured = a[10], a[19], a[20], a[21]
    moved = carray(floats(work), (height, width, channels))
    noise = work + 8 * size
    field, half, room = noise + 8 * pixels, noise + 16 * pixels, noise + 20 * pixels
    for i in range(lo, hi):
        drawn_at = a[3] + 4 * DRAWN * i
        drawn = carray(floats(drawn_at), (DRAWN,))
        r, k = 0, 0
        if a[2] != 0:
            picks = carray(ints(a[2]), (hi, 2))
            r, k = int64(picks[i, 0]), int64(picks[i, 1])
        down, across = carray(ints(a[4] + 4 * height * r), (height,)), carray(ints(a[5] + 4 * width * k), (width,))
        as_bytes = carray(bytes_at(a[0] + size * rows[i]), (height, width, channels))
        as_floats = carray(floats(a[0] + 4 * size * rows[i]), (height, width, channels))
        for h in range(height):
            for w in range(width):
                for c in range(channels):
                    if down[h] < 0 or across[w] < 0:
                        moved[h, w, c] = 0
                    elif a[11]:
                        moved[h, w, c] = as_bytes[down[h], across[w], c]
                    else:
                        moved[h, w, c] = as_floats[down[h], across[w], c]
        at = work
        if elastic:
            _noise(noise, 2 * pixels, rows[i], a[22], a[23], a[24], room)
            for axis in range(2):
                _smooth(noise + 4 * pixels * axis, half, field + 4 * pixels * axis, a)
        if warped:
            at = work + 4 * size
            _warp(work, at, drawn_at, field, a)
        if coloured:
            _colour(at, drawn_at, a)
        now = carray(floats(at), (height, width, channels))
        out = carray(floats(a[28] + 4 * size * times * i), (height, width, channels * times))
        for h in range(height):
            for w in range(width):
                for c in range(channels):
                    value = (now[h, w, c] - mean[c]) * factor[c]
                    for again in range(times):
                        out[h, w, c + again] = value
        for kind in range(2):
            first = 6 + 4 * kind
            for h in range(int64(drawn[first]), int64(drawn[first + 2])):
                for w in range(int64(drawn[first + 1]), int64(drawn[first + 3])):
                    for c in range(channels * times):
                        out[h, w, c] = fills[kind, c // times]


_Function = ctypes.CFUNCTYPE(None, ctypes.c_ssize_t, ctypes.c_ssize_t, ctypes.c_ssize_t, ctypes.c_ssize_t)


class CompiledDistort:
    """``Backend.distort`` bound to a data set. Its workspace serves one thread at a time."""

    def __init__(
        self,
        x: NDArray[Any],
        mean: NDArray[np.float32],
        factor: NDArray[np.float32],
        channels: int,
        down: NDArray[np.int32],
        across: NDArray[np.int32],
        how: Distortion,
    ) -> None:
        _, height, width, c = x.shape
        pixels, elastic = height * width, how.down is not None
        work = np.empty(pixels * (2 * c + 5) + 4 * LANES, np.float32)
        by_rows = how.down if how.down is not None else np.empty(1, np.float32)
        by_columns = np.ascontiguousarray(how.across.T) if how.across is not None else np.empty(1, np.float32)
        kept = (x, down, across, mean, factor, how.fills, how.grey, work, by_rows, by_columns)
        self._kept = tuple(map(np.ascontiguousarray, kept))
        at = [array.ctypes.data for array in self._kept]
        self._input = (height, width, channels)
        reach = [int((np.abs(weights[0]) > 0).sum()) - 1 if elastic else 0 for weights in self._kept[8:]]
        top = -1 if how.top is None else int(how.top)
        self._block = np.array(
            [
                at[0], 0, 0, 0, *at[1:3], *at[3:7], at[7], x.dtype == np.uint8, height, width, c, channels // c,
                how.border, *at[8:], elastic, how.warped, how.coloured, 0, *how.key, top, *reach, 0,
            ],
            np.int64,
        )  # fmt: skip
        self._at = self._block.ctypes.data
        self._run = _Function(_distort.address)

    def __call__(
        self,
        rows: NDArray[np.int64],
        picks: NDArray[np.int32] | None,
        drawn: NDArray[np.float32],
        epoch: int,
        out: NDArray[np.float32],
    ) -> None:
        n = len(rows)
        given = (rows, out, drawn) if picks is None else (rows, out, drawn, picks)
        assert all(array.flags.c_contiguous for array in given), "kernels take arrays as they lie"
        assert (str(rows.dtype), str(out.dtype), out.shape) == ("int64", "float32", (n, *self._input))
        assert (str(drawn.dtype), drawn.shape) == ("float32", (n, DRAWN))
        assert picks is None or (str(picks.dtype), picks.shape) == ("int32", (n, 2))
        self._block[1:4] = rows.ctypes.data, 0 if picks is None else picks.ctypes.data, drawn.ctypes.data
        self._block[22], self._block[28] = epoch, out.ctypes.data
        self._run(self._at, 0, n, 0)


def bind_distort(
    x: NDArray[Any],
    mean: NDArray[np.float32],
    factor: NDArray[np.float32],
    channels: int,
    down: NDArray[np.int32],
    across: NDArray[np.int32],
    how: Distortion,
) -> Distort | None:
    """As ``Backend.distort``: for bytes and float32 whose channels are the input's, or one that is repeated."""
    if x.dtype not in (np.uint8, np.float32) or not x.flags.c_contiguous or x.size == 0:
        return None
    if channels != x.shape[3] and x.shape[3] != 1:
        return None
    return CompiledDistort(x, mean, factor, channels, down, across, how)
