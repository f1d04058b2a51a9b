"""Depthwise convolution and its gradients as direct loops with the channels innermost.

Shapes: x (N, H, W, C), w (KH, KW, 1, C), y (N, OH, OW, C): one filter per channel (Chollet, CVPR 2017). Every
weight meets one value of the input at a time, so all three are bound by reading what the first cache holds; there is no
workspace but the shards' sums.
"""

from __future__ import annotations

from cnnforge.backends.numba.driver import Call, bound
from cnnforge.backends.numba.language import carray, float32
from cnnforge.backends.numba.reduce import reduced
from cnnforge.backends.numba.signature import Kernel, floats, longs
from cnnforge.backends.numpy.types import Array, Arrays
from cnnforge.shapes import Window

# Where the sizes lie in an argument block: three addresses first, then these.
_H, _W, _C, _KH, _KW, _SH, _SW, _DH, _DW, _TOP, _LEFT, _OH, _OW, _FLIP = range(3, 17)
_SIZES = 17


def _sizes(x: Array, w: Window, flip: bool) -> tuple[int, ...]:
    return *x.shape[1:], *w.kernel, *w.stride, *w.dilation, w.pads[0], w.pads[2], *w.out, int(flip)


@Kernel
def _forward(block: int, lo: int, hi: int, thread: int) -> None:
    """x, w, y; range: rows of y in the whole batch."""
    a = carray(longs(block), (_SIZES,))
    height, width, c, kh, kw, oh, ow = a[_H], a[_W], a[_C], a[_KH], a[_KW], a[_OH], a[_OW]
    w = carray(floats(a[1]), (kh, kw, c))
    for row in range(lo, hi):
        n, r = row // oh, row % oh
        x = carray(floats(a[0] + 4 * n * height * width * c), (height, width, c))
        y = carray(floats(a[2] + 4 * row * ow * c), (ow, c))
        for o in range(ow):
            for k in range(c):
                y[o, k] = float32(0)
            for i in range(kh):
                p = r * a[_SH] + i * a[_DH] - a[_TOP]
                if not 0 <= p < height:
                    continue
                for j in range(kw):
                    q = o * a[_SW] + j * a[_DW] - a[_LEFT]
                    if not 0 <= q < width:
                        continue
                    wi, wj = (kh - 1 - i, kw - 1 - j) if a[_FLIP] else (i, j)
                    for k in range(c):
                        y[o, k] += x[p, q, k] * w[wi, wj, k]


@Kernel
def _dx(block: int, lo: int, hi: int, thread: int) -> None:
    """dy, w, dx; range: rows of dx in the whole batch. Every pixel gathers from the windows that saw it."""
    a = carray(longs(block), (_SIZES,))
    height, width, c, kh, kw, oh, ow = a[_H], a[_W], a[_C], a[_KH], a[_KW], a[_OH], a[_OW]
    sh, sw = a[_SH], a[_SW]
    w = carray(floats(a[1]), (kh, kw, c))
    for row in range(lo, hi):
        n, r = row // height, row % height
        dy = carray(floats(a[0] + 4 * n * oh * ow * c), (oh, ow, c))
        dx = carray(floats(a[2] + 4 * row * width * c), (width, c))
        for o in range(width):
            for k in range(c):
                dx[o, k] = float32(0)
            for i in range(kh):
                p = r + a[_TOP] - i * a[_DH]
                if p < 0 or p % sh or p // sh >= oh:
                    continue
                for j in range(kw):
                    q = o + a[_LEFT] - j * a[_DW]
                    if q < 0 or q % sw or q // sw >= ow:
                        continue
                    wi, wj = (kh - 1 - i, kw - 1 - j) if a[_FLIP] else (i, j)
                    for k in range(c):
                        dx[o, k] += dy[p // sh, q // sw, k] * w[wi, wj, k]


@Kernel
def _dw(block: int, lo: int, hi: int, thread: int) -> None:
    """x, dy, sums (shards, KH, KW, C); then the sizes, N, and how many shards; range: shards of the batch."""
    a = carray(longs(block), (_SIZES + 2,))
    height, width, c, kh, kw, oh, ow = a[_H], a[_W], a[_C], a[_KH], a[_KW], a[_OH], a[_OW]
    samples, shards = a[_SIZES], a[_SIZES + 1]
    for shard in range(lo, hi):
        sums = carray(floats(a[2] + 4 * shard * kh * kw * c), (kh, kw, c))
        for i in range(kh):
            for j in range(kw):
                for k in range(c):
                    sums[i, j, k] = float32(0)
        for n in range(shard * samples // shards, (shard + 1) * samples // shards):
            x = carray(floats(a[0] + 4 * n * height * width * c), (height, width, c))
            dy = carray(floats(a[1] + 4 * n * oh * ow * c), (oh, ow, c))
            for r in range(oh):
                for i in range(kh):
                    p = r * a[_SH] + i * a[_DH] - a[_TOP]
                    if not 0 <= p < height:
                        continue
                    for o in range(ow):
                        for j in range(kw):
                            q = o * a[_SW] + j * a[_DW] - a[_LEFT]
                            if not 0 <= q < width:
                                continue
                            wi, wj = (kh - 1 - i, kw - 1 - j) if a[_FLIP] else (i, j)
                            for k in range(c):
                                sums[wi, wj, k] += x[p, q, k] * dy[r, o, k]


def conv2d(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, window: Window, groups: int, flip: bool
) -> Call:
    """x, w -> y."""
    (x, w), (y,) = ins, outs
    return bound(_forward, len(x) * window.out[0], threads, x, w, y, *_sizes(x, window, flip))


def conv2d_dx(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, window: Window, groups: int, flip: bool
) -> Call:
    """dy, w -> dx."""
    (dy, w), (dx,) = ins, outs
    return bound(_dx, len(dx) * dx.shape[1], threads, dy, w, dx, *_sizes(dx, window, flip))


def conv2d_dw(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, window: Window, groups: int, flip: bool
) -> tuple[Call, ...]:
    """x, dy -> dw: the sum over each shard of the batch, then over the shards."""
    (x, dy), (dw,), (sums,) = ins, outs, scratch
    call = bound(_dw, len(sums), threads, x, dy, sums, *_sizes(x, window, flip), len(x), len(sums))
    return call, reduced(sums, dw, threads)


NATIVE = {"conv2d": conv2d, "conv2d_dx": conv2d_dx, "conv2d_dw": conv2d_dw}
