"""Convolutions of few channels: sixteen samples side by side.

Shapes: x (N, H, W, C), w (KH, KW, C, F), y (N, OH, OW, F). With 3 or 6 channels vectors over channels stay nearly empty
and a matrix product is too narrow, so here a lane is a sample. Sixteen samples at a time are transposed into a thread's
own workspace as (H, W, C, 16), with the padding around them; windows are then sums of vectors times single weights
(``sample_tiles.py``), and results are transposed back. The transposes cost about a tenth of LeNet's layers.

Forward adds the bias, applies a rectifier and takes the maximum of 2x2 windows before the result is written. Backward
undoes the pool in the workspace and computes both gradients from there, so the unpooled gradient is never written.

A group of 16 samples that is not full has zeros in its other lanes. dw: sums of a fixed number of shards of groups,
then over the shards, so that results do not depend on the number of threads. dx of stride s: s*s interleaved parts of
dx, each a convolution of stride 1 with those weights that meet it.

Above 400 lines, because both kernels share the words of their argument block and the lanes that their parts lay out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnforge.backends.numba.driver import Call, bound
from cnnforge.backends.numba.language import float32
from cnnforge.backends.numba.reduce import reduced
from cnnforge.backends.numba.rules.base import Parts
from cnnforge.backends.numba.rules.samples import (
    MASKED,
    POOLED,
    ROOM,
    SAMPLES,
    SHARDS,
    UNPOOLED,
    backward_vectors,
    forward_vectors,
    gradient_vectors,
    input_vectors,
    padded,
    weight_vectors,
)  # fmt: skip
from cnnforge.backends.numba.sample_lanes import (
    bytes_from_lanes,
    bytes_to_lanes,
    fill,
    from_lanes,
    kept_to_lanes,
    to_lanes,
)
from cnnforge.backends.numba.sample_tiles import (
    FILTERS,
    OUTPUTS,
    POSITIONS,
    RUN,
    SLIDING,
    convolve,
    correlate,
    parts,
    slide,
)  # fmt: skip
from cnnforge.backends.numba.signature import Kernel, floats, longs, part
from cnnforge.backends.numba.vectors import (
    LANES,
    WIDTH,
    lanes,
    put,
    splat,
    unordered,
    where,
)  # fmt: skip
from cnnforge.backends.numpy.types import Array, Arrays
from cnnforge.shapes import Window

assert SAMPLES == LANES

#: Bytes of x and dy that the weights' gradient takes at a time.
BAND = 192 << 10

# Where the sizes lie in an argument block: eight addresses first.
(
    _N, _H, _W, _C, _KH, _KW, _SH, _SW, _TOP, _LEFT, _HP, _WP, _OH, _OW, _F, _POOL, _X, _Z, _PART, _TURNED, _SHARDS,
    _Y, _DB,
) = range(8, 31)  # fmt: skip

_parts = part(parts)


@part
def _read(a, x, group, into):  # type: ignore[no-untyped-def]
    """Sixteen samples into (HP, WP, C, 16); what lies around them is zero already."""
    row = a[_W] * a[_C]
    sample = a[_H] * row
    n = min(LANES, a[_N] - group * LANES)
    for h in range(a[_H]):
        to = into + WIDTH * ((h + a[_TOP]) * a[_WP] + a[_LEFT]) * a[_C]
        to_lanes(x + 4 * (group * LANES * sample + h * row), 4 * sample, n, row, to)


@part
def _pool(z, across, y, winner, filters):  # type: ignore[no-untyped-def]
    """The largest of four positions ``across`` apart, and which it was, unless ``winner`` is 0; the first of equal
    ones, nan before all.
    """
    for f in range(filters):
        at = WIDTH * f
        best = lanes(z + at)
        number = splat(float32(0))
        for k in range(1, 4):
            v = lanes(z + k * across + at)
            better = (v > best) | unordered(v)
            best = where(better, v, best)
            number = where(better, splat(float32(k)), number)
        put(y + at, best)
        if winner:
            put(winner + at, number)


@part
def _windows(a, x, w, b, floor, block, y, winner, r):  # type: ignore[no-untyped-def]
    """One row of the result (of the pooled one) in lanes. x: the padded samples; block: room for four positions."""
    c, f, run, down = a[_C], a[_F], a[_KW] * a[_C], WIDTH * a[_WP] * a[_C]
    across = WIDTH * a[_SW] * c
    cuts = _parts(f, FILTERS)
    if a[_POOL]:
        top = x + 2 * r * a[_SH] * down
        below = a[_SH] * down
        for o in range(a[_OW] // 2):
            at = top + 2 * o * across
            for k in range(cuts):
                low, high = k * f // cuts, (k + 1) * f // cuts
                convolve(
                    POSITIONS, high - low, at, across, below, below + across, a[_KH], down, run,
                    w + 4 * low, 4 * run * f, 4 * f, b + 4 * low, floor, block, WIDTH * FILTERS,
                )  # fmt: skip
                to = WIDTH * (o * f + low)
                _pool(block, WIDTH * FILTERS, y + to, winner + to if winner else 0, high - low)
    else:
        top = x + r * a[_SH] * down
        for o in range(0, a[_OW], POSITIONS):
            p = min(POSITIONS, a[_OW] - o)
            for k in range(cuts):
                low, high = k * f // cuts, (k + 1) * f // cuts
                convolve(
                    p, high - low, top + o * across, across, 2 * across, 3 * across, a[_KH], down, run,
                    w + 4 * low, 4 * run * f, 4 * f, b + 4 * low, floor, y + WIDTH * (o * f + low), WIDTH * f,
                )  # fmt: skip


@Kernel
def _forward(block: int, lo: int, hi: int, thread: int) -> None:
    """x, w, b, floor, y, winner, space; range: groups of samples. Bound by multiplication."""
    a = longs(block)
    own = a[6] + thread * a[_PART]
    x = own
    z = x + WIDTH * a[_X]
    rows, columns = (a[_OH] // 2, a[_OW] // 2) if a[_POOL] else (a[_OH], a[_OW])
    count = columns * a[_F]
    y = z + WIDTH * ROOM
    winner = y + WIDTH * count if a[5] else 0
    floor = floats(a[3])[0]
    if a[_X] > a[_H] * a[_W] * a[_C]:
        fill(x, a[_X])
    for group in range(lo, hi):
        n = min(LANES, a[_N] - group * LANES)
        _read(a, a[0], group, x)
        for r in range(rows):
            _windows(a, x, a[1], a[2], floor, z, y, winner, r)
            at = group * LANES * rows * count + r * count
            from_lanes(y, count, a[4] + 4 * at, 4 * rows * count, n)
            if winner:
                bytes_from_lanes(winner, count, a[5] + at, rows * count, n, z)


@part
def _gradient(a, dy, winner, group, z, block):  # type: ignore[no-untyped-def]
    """dy of sixteen samples into the interior of z (ZH, ZW, F, 16), the pool undone. block: lanes of a pooled row."""
    f, oh, ow = a[_F], a[_OH], a[_OW]
    zw = ow + 2 * (a[_KW] - 1)
    start = z + WIDTH * ((a[_KH] - 1) * zw + a[_KW] - 1) * f
    n = min(LANES, a[_N] - group * LANES)
    if not a[_POOL]:
        row = ow * f
        for r in range(oh):
            at, into = 4 * (group * LANES * oh + r) * row, start + WIDTH * r * zw * f
            if a[_Y]:
                kept_to_lanes(dy + at, a[_Y] + at, 4 * oh * row, n, row, into)
            else:
                to_lanes(dy + at, 4 * oh * row, n, row, into)
        return
    rows, row = oh // 2, ow // 2 * f
    zero = splat(float32(0))
    numbers = block + WIDTH * row
    for r in range(rows):
        to_lanes(dy + 4 * (group * LANES * rows + r) * row, 4 * rows * row, n, row, block)
        bytes_to_lanes(winner + (group * LANES * rows + r) * row, rows * row, n, row, numbers, numbers + WIDTH * row)
        for o in range(ow // 2):
            for k in range(f):
                value, number = lanes(block + WIDTH * (o * f + k)), lanes(numbers + WIDTH * (o * f + k))
                at = start + WIDTH * ((2 * r * zw + 2 * o) * f + k)
                put(at, where(number == zero, value, zero))
                put(at + WIDTH * f, where(number == splat(float32(1)), value, zero))
                put(at + WIDTH * zw * f, where(number == splat(float32(2)), value, zero))
                put(at + WIDTH * (zw + 1) * f, where(number == splat(float32(3)), value, zero))


@part
def _bias_gradient(a, z, sums):  # type: ignore[no-untyped-def]
    """Sixteen samples' dy, added up over their positions: a vector for each filter."""
    f, zw = a[_F], a[_OW] + 2 * (a[_KW] - 1)
    start = z + WIDTH * ((a[_KH] - 1) * zw + a[_KW] - 1) * f
    for k in range(f):
        at = sums + WIDTH * k
        total = lanes(at)
        for r in range(a[_OH]):
            row = start + WIDTH * (r * zw * f + k)
            for o in range(a[_OW]):
                total += lanes(row + WIDTH * o * f)
        put(at, total)


@part
def _weights_gradient(a, x, z, dw):  # type: ignore[no-untyped-def]
    """Sixteen samples' part of dw, added. Some rows at a time, which stay in the cache for all weights."""
    c, f, kw, oh, ow, below, across = a[_C], a[_F], a[_KW], a[_OH], a[_OW], a[_SH], a[_SW]
    run, zw, row = kw * c, ow + 2 * (kw - 1), WIDTH * a[_WP] * c
    start = z + WIDTH * ((a[_KH] - 1) * zw + kw - 1) * f
    cuts, along = _parts(f, OUTPUTS), _parts(run, RUN)
    sliding = across == 1 and (kw == SLIDING[0] or kw == SLIDING[1])
    rows = min(oh, max(1, BAND // (below * row + WIDTH * zw * f)))
    for r in range(0, oh, rows):
        count = min(rows, oh - r)
        for i in range(a[_KH]):
            at = x + (r * below + i) * row
            for k in range(cuts):
                low, high = k * f // cuts, (k + 1) * f // cuts
                dy = start + WIDTH * (r * zw * f + low)
                if sliding:
                    for m in range(c):
                        slide(
                            kw, high - low, at + WIDTH * m, below * row, WIDTH * c, dy, WIDTH * zw * f, WIDTH * f,
                            count, ow, dw + 4 * ((i * run + m) * f + low), 4 * c * f,
                        )  # fmt: skip
                else:
                    for j in range(along):
                        left, right = j * run // along, (j + 1) * run // along
                        correlate(
                            right - left, high - low, at + WIDTH * left, below * row, WIDTH * across * c, dy,
                            WIDTH * zw * f, WIDTH * f, count, ow, dw + 4 * ((i * run + left) * f + low), 4 * f,
                        )  # fmt: skip


@part
def _turned(a, w, into):  # type: ignore[no-untyped-def]
    """For every part of dx the weights that meet it, turned: (SH, SW, KH', KW', F, C)."""
    c, f, kh, kw, sh, sw = a[_C], a[_F], a[_KH], a[_KW], a[_SH], a[_SW]
    source, target = floats(w), floats(into)
    at = 0
    for i in range(sh):
        for j in range(sw):
            for u in range((kh - i + sh - 1) // sh - 1, -1, -1):
                for v in range((kw - j + sw - 1) // sw - 1, -1, -1):
                    base = ((i + u * sh) * kw + j + v * sw) * c
                    for k in range(f):
                        for m in range(c):
                            target[at] = source[(base + m) * f + k]
                            at += 1


@part
def _input_gradient(a, z, w, zeros, group, block, dx):  # type: ignore[no-untyped-def]
    """dx of sixteen samples. w: turned weights; zeros: C of them; block: lanes of a row of dx."""
    c, f, kh, kw, sh, sw = a[_C], a[_F], a[_KH], a[_KW], a[_SH], a[_SW]
    height, width = a[_H], a[_W]
    zw = a[_OW] + 2 * (kw - 1)
    n = min(LANES, a[_N] - group * LANES)
    cuts = _parts(c, FILTERS)
    for h in range(height):
        i = (h + a[_TOP]) % sh
        taps = (kh - i + sh - 1) // sh
        # The first row of z that meets this row of dx, then those below it.
        row = (h + a[_TOP] - i) // sh - (taps - 1) + kh - 1
        for j in range(sw):
            across = (kw - j + sw - 1) // sw
            # Which columns of dx are of this part, and what the first of them meets.
            begin = (j - a[_LEFT]) % sw
            count = (width - begin + sw - 1) // sw
            part = w
            for ii in range(sh):
                for jj in range(sw):
                    if ii * sw + jj < i * sw + j:
                        part += 4 * ((kh - ii + sh - 1) // sh) * ((kw - jj + sw - 1) // sw) * f * c
            column = (begin + a[_LEFT] - j) // sw - (across - 1) + kw - 1
            at = z + WIDTH * (row * zw + column) * f
            # Of the taps only those that meet dy and not the zeros around it.
            first, last = max(0, kh - 1 - row), min(taps, kh - 1 + a[_OH] - row)
            for o in range(0, count, POSITIONS):
                p = min(POSITIONS, count - o)
                left, right = max(0, kw - column - o - p), min(across, kw - 1 + a[_OW] - column - o)
                for k in range(cuts):
                    low, high = k * c // cuts, (k + 1) * c // cuts
                    convolve(
                        p, high - low, at + WIDTH * ((first * zw + left + o) * f), WIDTH * f, 2 * WIDTH * f,
                        3 * WIDTH * f, last - first, WIDTH * zw * f, max(0, right - left) * f,
                        part + 4 * ((first * across + left) * f * c + low), 4 * across * f * c, 4 * c, zeros,
                        float32(-np.inf), block + WIDTH * ((begin + o * sw) * c + low), WIDTH * sw * c,
                    )  # fmt: skip
        size = width * c
        from_lanes(block, size, dx + 4 * (group * LANES * height + h) * size, 4 * height * size, n)


@Kernel
def _backward(block: int, lo: int, hi: int, thread: int) -> None:
    """x, w, dy, winner, sums, dx, space, zeros; range: shards of the groups. Bound by multiplication.

    sums 0: no weights' gradient; dx 0: none of the input; db (shards, F) not 0: the bias's too. y not 0: of dy counts
    what has a y above 0.
    """
    a = longs(block)
    own = a[6] + thread * a[_PART]
    x = own
    z = x + WIDTH * a[_X]
    room = z + WIDTH * a[_Z]
    turned, held = own + a[_TURNED], own + a[_PART] - WIDTH * a[_F]
    groups, size = (a[_N] + LANES - 1) // LANES, a[_KH] * a[_KW] * a[_C] * a[_F]
    if a[_X] > a[_H] * a[_W] * a[_C]:
        fill(x, a[_X])
    # Around dy for dx, and where no window of the pool reaches.
    if a[5] or (a[_POOL] and (a[_OH] % 2 or a[_OW] % 2)):
        fill(z, a[_Z])
    if a[5]:
        _turned(a, a[1], turned)
    for shard in range(lo, hi):
        dw = a[4] + 4 * shard * size
        if a[4]:
            sums = floats(dw)
            for i in range(size):
                sums[i] = float32(0)
        if a[_DB]:
            fill(held, a[_F])
        for group in range(shard * groups // a[_SHARDS], (shard + 1) * groups // a[_SHARDS]):
            _gradient(a, a[2], a[3], group, z, room)
            if a[4]:
                _read(a, a[0], group, x)
                _weights_gradient(a, x, z, dw)
            if a[_DB]:
                _bias_gradient(a, z, held)
            if a[5]:
                _input_gradient(a, z, turned, a[7], group, room, a[5])
        if a[_DB]:
            db = floats(a[_DB] + 4 * shard * a[_F])
            for k in range(a[_F]):
                of = floats(held + WIDTH * k)
                total = float32(0)
                for i in range(LANES):
                    total += of[i]
                db[k] = total


def _sizes(x: Array, f: int, w: Window, pool: bool, vectors: int, shards: int) -> tuple[int, ...]:
    """What follows the addresses in an argument block; ``vectors``: of one thread's workspace."""
    turned = WIDTH * (vectors - weight_vectors(x.shape[3], w, f) - f)
    return (
        *x.shape, *w.kernel, *w.stride, w.pads[0], w.pads[2], *padded(x.shape, w), *w.out, f, int(pool),
        input_vectors(x.shape, w), gradient_vectors(w, f), WIDTH * vectors, turned, shards,
    )  # fmt: skip


def _groups(n: int) -> int:
    return -(-n // SAMPLES)


def forward(
    x: Array, w: Array, b: Array | None, floor: float, y: Array, winner: Array | None, space: Array, threads: int,
    window: Window, pool: bool = False,
) -> Call:  # fmt: skip
    """y = pool(max(conv(x, w) + b, floor)), the pool 2x2 and only where ``pool``.

    b: (F,), none for zeros;  winner: (N, OH // 2, OW // 2, F) uint8, none where nobody wants it
    space: see ``forward_space``
    """
    f = w.shape[3]
    begin = np.zeros(f, np.float32) if b is None else b
    sizes = _sizes(x, f, window, pool, forward_vectors(x.shape, window, f), 1)
    least = np.array([floor], np.float32)
    return bound(
        _forward, _groups(len(x)), threads, x, w, begin, least, y, 0 if winner is None else winner, space, 0, *sizes
    )


def backward(
    x: Array, w: Array, dy: Array, winner: Array | None, sums: Array | None, dw: Array | None, dx: Array | None,
    space: Array, threads: int, window: Window, *, y: Array | None = None, db_sums: Array | None = None,
) -> tuple[Call, ...]:  # fmt: skip
    """dw and dx (either may be left out), from dy (N, OH, OW, F), or from that of the pooled result and ``winner``.

    y: of what a rectifier gave, where dy is behind it; then ``db_sums`` (shards, F) gets the bias's parts

    x, w: needed for dw and for dx; where it is not, the array of that shape that is at hand
    sums: (shards, KH, KW, C, F);  space: see ``backward_space``
    """
    f, groups = w.shape[3], _groups(len(x))
    shards = min(groups, SHARDS)
    sizes = _sizes(x, f, window, winner is not None, backward_vectors(x.shape, window, f), shards)
    none = np.zeros(x.shape[3], np.float32)
    absent = [0 if array is None else array for array in (winner, sums, dx)]
    own = [0 if array is None else array for array in (y, db_sums)]
    call = bound(_backward, shards, threads, x, w, dy, absent[0], absent[1], absent[2], space, none, *sizes, *own)
    return (call,) if dw is None or sums is None else (call, reduced(sums[:shards], dw, threads))


def _pooled(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, parts: Parts) -> Call:
    """x, w[, b] -> y[, winner]."""
    x, w, *b = ins
    y, *winner = outs
    floor = 0.0 if parts[-1][0] == "relu" else -np.inf
    own = winner[0] if winner else None
    return forward(x, w, b[0] if b else None, floor, y, own, scratch[0], threads, parts[0][2]["window"], pool=True)


def _unpooled(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, parts: Parts) -> tuple[Call, ...]:
    """winner, dy, x[, w] -> dw[, dx]."""
    winner, dy, x, *w = ins
    dw, *dx = outs
    sums, space = scratch
    window = parts[1][2]["window"]
    return backward(x, w[0] if w else dw, dy, winner, sums, dw, dx[0] if dx else None, space, threads, window)


def _masked(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, parts: Parts) -> tuple[Call, ...]:
    """y, dy, x[, w] -> db, dw[, dx]."""
    y, dy, x, *w = ins
    db, dw, *dx = outs
    sums, db_sums, space = scratch
    window = parts[2][2]["window"]
    calls = backward(
        x, w[0] if w else dw, dy, None, sums, dw, dx[0] if dx else None, space, threads, window, y=y, db_sums=db_sums
    )
    return (*calls, reduced(db_sums[: calls[0].count], db, threads))


NATIVE: dict[str, Any] = {
    **dict.fromkeys(MASKED, _masked), **dict.fromkeys(POOLED, _pooled), **dict.fromkeys(UNPOOLED, _unpooled),
}  # fmt: skip
