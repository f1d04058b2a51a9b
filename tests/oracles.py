"""Naive loops over single elements: slow, obvious, and the standard that every kernel is held to."""

from __future__ import annotations

import itertools

import numpy as np

from cnnforge.shapes import Window


def positions(window: Window):
    """((oh, ow), (kh, kw), (row, column)) of every tap, in padded-input coordinates shifted to the input's own."""
    top, _, left, _ = window.pads
    for oh, ow in itertools.product(*map(range, window.out)):
        for kh, kw in itertools.product(*map(range, window.kernel)):
            row = oh * window.stride[0] + kh * window.dilation[0] - top
            column = ow * window.stride[1] + kw * window.dilation[1] - left
            yield (oh, ow), (kh, kw), (row, column)


def inside(x, row, column):
    return 0 <= row < x.shape[1] and 0 <= column < x.shape[2]


def conv2d(x, w, window, groups, flip):
    """x (N, H, W, C), w (KH, KW, C/G, F) -> (N, OH, OW, F)."""
    f, cg = w.shape[3], w.shape[2]
    y = np.zeros((len(x), *window.out, f))
    for (oh, ow), (kh, kw), (row, column) in positions(window):
        if not inside(x, row, column):
            continue
        tap = (w.shape[0] - 1 - kh, w.shape[1] - 1 - kw) if flip else (kh, kw)
        for n, k, c in itertools.product(range(len(x)), range(f), range(cg)):
            group = k // (f // groups)
            y[n, oh, ow, k] += x[n, row, column, group * cg + c] * w[(*tap, c, k)]
    return y


def conv2d_dx(dy, w, x_shape, window, groups, flip):
    f, cg = w.shape[3], w.shape[2]
    dx = np.zeros(x_shape)
    for (oh, ow), (kh, kw), (row, column) in positions(window):
        if not inside(dx, row, column):
            continue
        tap = (w.shape[0] - 1 - kh, w.shape[1] - 1 - kw) if flip else (kh, kw)
        for n, k, c in itertools.product(range(len(dy)), range(f), range(cg)):
            group = k // (f // groups)
            dx[n, row, column, group * cg + c] += dy[n, oh, ow, k] * w[(*tap, c, k)]
    return dx


def conv2d_dw(x, dy, w_shape, window, groups, flip):
    f, cg = w_shape[3], w_shape[2]
    dw = np.zeros(w_shape)
    for (oh, ow), (kh, kw), (row, column) in positions(window):
        if not inside(x, row, column):
            continue
        tap = (w_shape[0] - 1 - kh, w_shape[1] - 1 - kw) if flip else (kh, kw)
        for n, k, c in itertools.product(range(len(x)), range(f), range(cg)):
            group = k // (f // groups)
            dw[(*tap, c, k)] += x[n, row, column, group * cg + c] * dy[n, oh, ow, k]
    return dw


def max_pool2d(x, window):
    """y, and the tap that won: the first of equal ones."""
    y = np.full((len(x), *window.out, x.shape[3]), -np.inf)
    winner = np.zeros(y.shape, int)
    for (oh, ow), (kh, kw), (row, column) in positions(window):
        if not inside(x, row, column):
            continue
        for n, c in itertools.product(range(len(x)), range(x.shape[3])):
            if x[n, row, column, c] > y[n, oh, ow, c]:
                y[n, oh, ow, c] = x[n, row, column, c]
                winner[n, oh, ow, c] = kh * window.kernel[1] + kw
    return y, winner


def max_pool2d_dx(x, dy, window):
    _, winner = max_pool2d(x, window)
    dx = np.zeros(x.shape)
    for (oh, ow), (kh, kw), (row, column) in positions(window):
        if not inside(x, row, column):
            continue
        for n, c in itertools.product(range(len(x)), range(x.shape[3])):
            if winner[n, oh, ow, c] == kh * window.kernel[1] + kw:
                dx[n, row, column, c] += dy[n, oh, ow, c]
    return dx


def _average_counts(x, window, count_include_pad):
    top, bottom, left, right = window.pads
    counts = np.zeros(window.out)
    for (oh, ow), _, (row, column) in positions(window):
        in_padding = -top <= row < x.shape[1] + bottom and -left <= column < x.shape[2] + right
        counts[oh, ow] += in_padding if count_include_pad else inside(x, row, column)
    return counts


def average_pool2d(x, window, count_include_pad):
    y = np.zeros((len(x), *window.out, x.shape[3]))
    for (oh, ow), _, (row, column) in positions(window):
        if inside(x, row, column):
            y[:, oh, ow] += x[:, row, column]
    return y / _average_counts(x, window, count_include_pad)[None, :, :, None]


def average_pool2d_dx(x, dy, window, count_include_pad):
    dx = np.zeros(x.shape)
    share = dy / _average_counts(x, window, count_include_pad)[None, :, :, None]
    for (oh, ow), _, (row, column) in positions(window):
        if inside(x, row, column):
            dx[:, row, column] += share[:, oh, ow]
    return dx
