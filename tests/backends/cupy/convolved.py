"""A library of convolutions on NumPy memory: it reads the description that cuDNN is given, and nothing else."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.lib.stride_tricks import as_strided

from cnnforge.backends.cupy.convolution import Convolution, Layout


def seen(memory, layout: Layout):
    """(N, C, H, W) as the layout says they lie in the array's memory, not as the array thinks."""
    flat = memory.reshape(-1)
    last = sum((n - 1) * step for n, step in zip(layout.dims, layout.strides, strict=True))
    assert last < flat.size, f"{layout} reaches past {memory.shape}"
    assert np.shares_memory(flat, memory)
    return as_strided(flat, layout.dims, [step * flat.itemsize for step in layout.strides])


def convolve(how: Convolution, arrays) -> None:
    """``arrays``: the operands in their order, the last of which is written."""
    roles = [role for role, _ in how.operands]
    views = [seen(memory, layout) for memory, (_, layout) in zip(arrays, how.operands, strict=True)]
    there = {role: view.astype(np.float64) for role, view in zip(roles[:-1], views[:-1], strict=True)}
    written = views[-1]
    (n, c, h, w), (f, per_group, kh, kw), (_, _, oh, ow) = how.x.dims, how.w.dims, how.y.dims
    (top, left), (bottom, right), (down, across) = how.before, how.after, how.stride
    tall, wide = h + top + bottom, w + left + right
    assert oh == (tall - how.dilation[0] * (kh - 1) - 1) // down + 1
    assert ow == (wide - how.dilation[1] * (kw - 1) - 1) // across + 1
    groups = c // per_group
    x = np.zeros((n, groups, per_group, tall, wide))
    inside = x[:, :, :, top : top + h, left : left + w]
    if "x" in there:
        inside[...] = there["x"].reshape(n, groups, per_group, h, w)
    kernel = np.zeros((groups, f // groups, per_group, kh, kw))
    if "w" in there:
        kernel[...] = there["w"].reshape(kernel.shape)
    y = np.zeros((n, groups, f // groups, oh, ow))
    if "y" in there:
        y[...] = there["y"].reshape(y.shape)
    for i, j in product(range(kh), range(kw)):
        first, other = i * how.dilation[0], j * how.dilation[1]
        under = x[:, :, :, first : first + (oh - 1) * down + 1 : down, other : other + (ow - 1) * across + 1 : across]
        if how.op == "conv2d":
            y += np.einsum("ngcij,gfc->ngfij", under, kernel[..., i, j])
        elif how.op == "conv2d_dx":
            under += np.einsum("ngfij,gfc->ngcij", y, kernel[..., i, j])
        else:
            kernel[..., i, j] = np.einsum("ngcij,ngfij->gfc", under, y)
    found = {"conv2d": y, "conv2d_dx": inside, "conv2d_dw": kernel}[how.op].reshape(written.shape)
    for op in how.epilogue:
        found = np.maximum(found, 0) if op == "relu" else found + there[op]
    written[...] = found
