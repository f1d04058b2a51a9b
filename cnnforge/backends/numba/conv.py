"""Convolution and its gradients: sample by sample, windows unrolled along the width, and BLAS.

Shapes: x (N, H, W, C), w (KH, KW, C, F), y (N, OH, OW, F). Each thread unrolls one sample at a time into workspace of
its own, small enough to stay in the cache:

    cols (stride, R, OW, KW*C): row r of the padded sample lies at [r mod stride, r // stride]

so that the rows that one kernel row reads lie side by side, and each kernel row is one product that adds to the result.
Zeros of the padding are written while unrolling; no padded copy is made. ``flip``: windows are read backwards along the
width, and kernel rows count down. A 1x1 convolution of stride 1 is a product over all positions of the batch.
"""

from __future__ import annotations

from cnnforge.backends.numba import depthwise
from cnnforge.backends.numba.blas import sgemm, sgemm_address
from cnnforge.backends.numba.capabilities import column_rows
from cnnforge.backends.numba.driver import Call, bound
from cnnforge.backends.numba.language import carray, float32, part
from cnnforge.backends.numba.linear import product
from cnnforge.backends.numba.signature import Kernel, floats, longs
from cnnforge.backends.numpy.capabilities import is_depthwise, is_pointwise
from cnnforge.backends.numpy.types import Array, Arrays
from cnnforge.shapes import Window

#: Elements of a weight gradient that one part of the reduction adds up.
REDUCED = 1024

# Where the sizes lie in an argument block: four addresses first, then these.
_H, _W, _C, _KH, _KW, _SH, _SW, _DH, _DW, _TOP, _LEFT, _OH, _OW, _F, _R, _FLIP = range(5, 21)
_SIZES = 21


def _sizes(x: Array, f: int, w: Window, flip: bool) -> tuple[int, ...]:
    return (
        *x.shape[1:], *w.kernel, *w.stride, *w.dilation, w.pads[0], w.pads[2], *w.out, f, column_rows(w), int(flip),
    )  # fmt: skip


@part
def _move(a, x, cols, back):  # type: ignore[no-untyped-def]
    """One sample (H, W, C) into its ``cols``, or (``back``) what lies in ``cols`` added to the sample.

    Without holes in the kernel a window's row is one run of KW*C neighbours, else KW runs of C.
    """
    height, width, c, kw, sh, sw, dw = a[_H], a[_W], a[_C], a[_KW], a[_SH], a[_SW], a[_DW]
    ow, rows, flip = a[_OW], a[_R], a[_FLIP]
    taps = kw if dw == 1 and not flip else 1
    for kh in range(a[_KH]):
        phase = kh * a[_DH] % sh
        fresh = True
        for earlier in range(kh):
            fresh = fresh and earlier * a[_DH] % sh != phase
        if not fresh:
            continue
        for q in range(rows):
            ih = q * sh + phase - a[_TOP]
            inside = 0 <= ih < height
            if back and not inside:
                continue
            for o in range(ow):
                base = ((phase * rows + q) * ow + o) * kw * c
                for first in range(0, kw, taps):
                    left = o * sw + (kw - 1 - first if flip else first) * dw - a[_LEFT]
                    start = min(max(-left, 0), taps) * c if inside else taps * c
                    stop = max(min(width - left, taps) * c, start) if inside else taps * c
                    at, to = (ih * width + left) * c, base + first * c
                    if back:
                        for i in range(start, stop):
                            x[at + i] += cols[to + i]
                    else:
                        for i in range(start):
                            cols[to + i] = float32(0)
                        for i in range(start, stop):
                            cols[to + i] = x[at + i]
                        for i in range(stop, taps * c):
                            cols[to + i] = float32(0)


@Kernel
def _forward(block: int, lo: int, hi: int, thread: int) -> None:
    """x, w, y, cols; range: samples. Bound by multiplication; by unrolling where F is small."""
    a = carray(longs(block), (_SIZES,))
    c, kh, kw, oh, ow, f, rows = a[_C], a[_KH], a[_KW], a[_OH], a[_OW], a[_F], a[_R]
    deep, size = kw * c, a[_H] * a[_W] * c
    space = a[_SH] * rows * ow * deep
    at_cols = a[3] + 4 * thread * space
    cols = carray(floats(at_cols), (space,))
    for n in range(lo, hi):
        _move(a, carray(floats(a[0] + 4 * n * size), (size,)), cols, False)
        for i in range(kh):
            shift = i * a[_DH]
            seen = (shift % a[_SH] * rows + shift // a[_SH]) * ow * deep
            row = kh - 1 - i if a[_FLIP] else i
            sgemm(
                a[4], 0, 0, oh * ow, f, deep, at_cols + 4 * seen, deep, a[1] + 4 * row * deep * f, f,
                1 if i else 0, a[2] + 4 * n * oh * ow * f, f,
            )  # fmt: skip


@Kernel
def _dx(block: int, lo: int, hi: int, thread: int) -> None:
    """dx, w, dy, cols; range: samples. Each kernel row's gradient goes to the columns it read, then back.

    Bound by multiplication; by going back where F is small.
    """
    a = carray(longs(block), (_SIZES,))
    c, kh, kw, oh, ow, f, rows = a[_C], a[_KH], a[_KW], a[_OH], a[_OW], a[_F], a[_R]
    deep, size = kw * c, a[_H] * a[_W] * c
    space = a[_SH] * rows * ow * deep
    at_cols = a[3] + 4 * thread * space
    cols = carray(floats(at_cols), (space,))
    for n in range(lo, hi):
        dx = carray(floats(a[0] + 4 * n * size), (size,))
        for i in range(space):
            cols[i] = float32(0)
        for i in range(size):
            dx[i] = float32(0)
        for i in range(kh):
            shift = i * a[_DH]
            seen = (shift % a[_SH] * rows + shift // a[_SH]) * ow * deep
            row = kh - 1 - i if a[_FLIP] else i
            sgemm(
                a[4], 0, 1, oh * ow, deep, f, a[2] + 4 * n * oh * ow * f, f, a[1] + 4 * row * deep * f, f,
                1, at_cols + 4 * seen, deep,
            )  # fmt: skip
        _move(a, dx, cols, True)


@Kernel
def _dw(block: int, lo: int, hi: int, thread: int) -> None:
    """x, sums (shards, KH, KW, C, F), dy, cols; then the sizes, N, and how many shards; range: shards of the batch.

    Bound by multiplication.
    """
    a = carray(longs(block), (_SIZES + 2,))
    c, kh, kw, oh, ow, f, rows = a[_C], a[_KH], a[_KW], a[_OH], a[_OW], a[_F], a[_R]
    samples, shards = a[_SIZES], a[_SIZES + 1]
    deep, size = kw * c, a[_H] * a[_W] * c
    space = a[_SH] * rows * ow * deep
    at_cols = a[3] + 4 * thread * space
    cols = carray(floats(at_cols), (space,))
    for shard in range(lo, hi):
        at_sums = a[1] + 4 * shard * kh * deep * f
        sums = carray(floats(at_sums), (kh * deep * f,))
        for i in range(kh * deep * f):
            sums[i] = float32(0)
        for n in range(shard * samples // shards, (shard + 1) * samples // shards):
            _move(a, carray(floats(a[0] + 4 * n * size), (size,)), cols, False)
            for i in range(kh):
                shift = i * a[_DH]
                seen = (shift % a[_SH] * rows + shift // a[_SH]) * ow * deep
                row = kh - 1 - i if a[_FLIP] else i
                sgemm(
                    a[4], 1, 0, deep, f, oh * ow, at_cols + 4 * seen, deep, a[2] + 4 * n * oh * ow * f, f,
                    1, at_sums + 4 * row * deep * f, f,
                )  # fmt: skip


@Kernel
def _pointwise_dw(block: int, lo: int, hi: int, thread: int) -> None:
    """x, sums (shards, C, F), dy, BLAS, C, F, positions of a sample, N, shards; range: shards of the batch."""
    a = carray(longs(block), (9,))
    c, f, positions, samples, shards = a[4], a[5], a[6], a[7], a[8]
    for shard in range(lo, hi):
        start, stop = shard * samples // shards * positions, (shard + 1) * samples // shards * positions
        at = a[1] + 4 * shard * c * f
        if start == stop:
            sums = carray(floats(at), (c * f,))
            for i in range(c * f):
                sums[i] = float32(0)
        else:
            sgemm(a[3], 1, 0, c, f, stop - start, a[0] + 4 * start * c, c, a[2] + 4 * start * f, f, 0, at, f)


@Kernel
def _reduce(block: int, lo: int, hi: int, thread: int) -> None:
    """sums (shards, n) -> their sum (n,), always in the same order; range: pieces of ``REDUCED``. Bound by reading."""
    a = carray(longs(block), (4,))
    n, shards = a[2], a[3]
    sums, out = carray(floats(a[0]), (shards, n)), carray(floats(a[1]), (n,))
    for piece in range(lo, hi):
        start, stop = piece * REDUCED, min((piece + 1) * REDUCED, n)
        for i in range(start, stop):
            out[i] = sums[0, i]
        for s in range(1, shards):
            for i in range(start, stop):
                out[i] += sums[s, i]


def reduced(sums: Array, out: Array, threads: int) -> Call:
    """``sums`` (shards, …) added up over the shards."""
    return bound(_reduce, -(-out.size // REDUCED), threads, sums, out, out.size, len(sums))


def conv2d(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, window: Window, groups: int, flip: bool
) -> Call:
    """x, w -> y."""
    (x, w), (y,) = ins, outs
    if is_depthwise(w.shape, groups):
        return depthwise.forward(x, w, y, threads, window, flip)
    c, f = w.shape[2:]
    if is_pointwise(window):
        return product(x, w, y, y.size // f, f, c, threads)
    return bound(_forward, len(x), threads, x, w, y, scratch[0], sgemm_address(), *_sizes(x, f, window, flip))


def conv2d_dx(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, window: Window, groups: int, flip: bool
) -> Call:
    """dy, w -> dx."""
    (dy, w), (dx,) = ins, outs
    if is_depthwise(w.shape, groups):
        return depthwise.dx(dy, w, dx, threads, window, flip)
    c, f = w.shape[2:]
    if is_pointwise(window):
        return product(dy, w, dx, dy.size // f, c, f, threads, tb=True)
    return bound(_dx, len(dx), threads, dx, w, dy, scratch[0], sgemm_address(), *_sizes(dx, f, window, flip))


def conv2d_dw(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, window: Window, groups: int, flip: bool
) -> Call | tuple[Call, ...]:
    """x, dy -> dw: a sum for each shard of the batch, then over the shards."""
    (x, dy), (dw,), (sums, *cols) = ins, outs, scratch
    shards = len(sums)
    if is_depthwise(dw.shape, groups):
        head = depthwise.dw(x, dy, sums, threads, window, flip)
    elif is_pointwise(window):
        positions = window.out[0] * window.out[1]
        head = bound(
            _pointwise_dw, shards, threads, x, sums, dy, sgemm_address(), *dw.shape[2:], positions, len(x), shards
        )
    else:
        sizes = _sizes(x, dw.shape[3], window, flip)
        head = bound(_dw, shards, threads, x, sums, dy, cols[0], sgemm_address(), *sizes, len(x), shards)
    return head, reduced(sums, dw, threads)


NATIVE = {"conv2d": conv2d, "conv2d_dx": conv2d_dx, "conv2d_dw": conv2d_dw}
