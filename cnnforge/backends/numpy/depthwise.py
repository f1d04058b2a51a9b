"""Convolution with one input channel per group, and its gradients: multiply and add, one pass per kernel position.

Shapes: x (N, H, W, C), w (KH, KW, 1, F), y (N, OH, OW, F), F = C m: channel c feeds filters c m … c m + m - 1 (Chollet,
CVPR 2017). A matrix product per group would have one column; here every position of the kernel is one multiplication of
the shifted picture by a row of weights, over F channels at once. Where m > 1 the picture is copied with every channel
m times side by side, which leaves the case m = 1.

Work goes by a few samples at a time, so that what one pass writes and the next one reads stays in the cache, and the
weights of a position are laid side by side for a whole row of the picture, because loops over single pixels' channels
are short. Workspace: see ``capabilities.depthwise_scratch``.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cnnforge.backends.base import Step
from cnnforge.backends.numpy.linear import column_sums
from cnnforge.backends.numpy.types import Array, Arrays
from cnnforge.backends.numpy.windows import interior, tap
from cnnforge.shapes import Window


def _chunks(samples: int, piece: Array) -> Iterator[slice]:
    """As many samples at a time as ``piece`` holds."""
    size = len(piece)
    return (slice(start, min(start + size, samples)) for start in range(0, samples, size))


def _positions(w: Array, window: Window, flip: bool) -> list[tuple[int, int, Array]]:
    """(i, j, what position (i, j) of a window is multiplied by: (F,))."""
    kh, kw = window.kernel
    return [(i, j, w[kh - 1 - i, kw - 1 - j, 0] if flip else w[i, j, 0]) for i in range(kh) for j in range(kw)]


def _by_filter(x: Array, channels: int) -> Array:
    """View (N, H, W, C m) -> (m, N, H, W, C): what belongs to the first, second, … filter of every channel."""
    return np.moveaxis(x.reshape(*x.shape[:3], channels, -1), -1, 0)


def _copies(x: Array, spread: Array, window: Window) -> list[tuple[Array, Array]]:
    """(into, from): ``x`` (n, H, W, C) into the inside of ``spread`` (n, rows, columns, C m), each channel m times."""
    return [(into, x) for into in _by_filter(interior(spread, x, window), x.shape[3])]


def forward(ins: Arrays, outs: Arrays, scratch: Arrays, *, window: Window, flip: bool) -> Step:
    """x, w -> y."""
    (x, w), (y,), (piece, tiled, *rest) = ins, outs, scratch
    positions = _positions(w, window, flip)
    work = []
    for chunk in _chunks(len(x), piece):
        xs, ys = x[chunk], y[chunk]
        source = rest[0][: len(xs)] if rest else xs
        seen = [tap(source, window, i, j) for i, j, _ in positions]
        work.append((_copies(xs, source, window) if rest else [], seen, ys, piece[: len(xs)]))

    def step() -> None:
        for row, (_, _, weights) in zip(tiled, positions, strict=True):
            np.copyto(row, weights)
        if rest:
            rest[0].fill(0)
        for copies, seen, ys, part in work:
            for into, xs in copies:
                np.copyto(into, xs)
            np.multiply(seen[0], tiled[0], out=ys)
            for k in range(1, len(seen)):
                np.multiply(seen[k], tiled[k], out=part)
                np.add(ys, part, out=ys)

    return step


def dw(ins: Arrays, outs: Arrays, scratch: Arrays, *, window: Window, flip: bool) -> Step:
    """x, dy -> dw, summed over positions first, then over the samples."""
    (x, dy), (dw,), (piece, ones, sums, *rest) = ins, outs, scratch
    positions = _positions(dw, window, flip)
    filters = dy.shape[3]
    work = []
    for chunk in _chunks(len(x), piece):
        xs, part = x[chunk], piece[: min(len(piece), chunk.stop - chunk.start)]
        source = rest[0][: len(xs)] if rest else xs
        total = column_sums(part.reshape(-1, filters), ones[: part.size // filters], sums)
        seen = [(tap(source, window, i, j), into) for i, j, into in positions]
        work.append((_copies(xs, source, window) if rest else [], seen, dy[chunk], part, total))

    def step() -> None:
        if rest:
            rest[0].fill(0)
        dw.fill(0)
        for copies, seen, arriving, part, total in work:
            for into, xs in copies:
                np.copyto(into, xs)
            for xs, into in seen:
                np.multiply(xs, arriving, out=part)
                total()
                np.add(into, sums, out=into)

    return step


def dx(ins: Arrays, outs: Arrays, scratch: Arrays, *, window: Window, flip: bool) -> Step:
    """dy, w -> dx: every position's share goes back to where it was read; the shares of a channel's filters add up."""
    (dy, w), (dx,), (piece, tiled, *rest) = ins, outs, scratch
    positions = _positions(w, window, flip)
    work = []
    for chunk in _chunks(len(dx), piece):
        xs = dx[chunk]
        target = rest[0][: len(xs)] if rest else xs
        into = [tap(target, window, i, j) for i, j, _ in positions]
        shares = list(_by_filter(interior(target, xs, window), xs.shape[3])) if rest else []
        work.append((target, into, shares, xs, dy[chunk], piece[: len(xs)]))

    def step() -> None:
        for row, (_, _, weights) in zip(tiled, positions, strict=True):
            np.copyto(row, weights)
        for target, into, shares, xs, arriving, part in work:
            target.fill(0)
            for to, weights in zip(into, tiled, strict=True):
                np.multiply(arriving, weights, out=part)
                np.add(to, part, out=to)
            for k, share in enumerate(shares):
                if k == 0:
                    np.copyto(xs, share)
                else:
                    np.add(xs, share, out=xs)

    return step
