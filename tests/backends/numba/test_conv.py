"""Convolutions at sizes with many pieces, shards and edges, against the numpy backend."""

import numpy as np
import pytest

from cnnforge.backends.numba.backend import NumbaBackend
from cnnforge.backends.numba.capabilities import INEXACT, ways
from cnnforge.shapes import window
from tests import one_node

#: samples, size, channels, filters, kernel, stride, padding, dilation, groups, flip
CONVOLUTIONS = {
    "lenet, first": (19, (32, 32), 3, 6, (5, 5), (1, 1), "valid", (1, 1), 1, False),
    "lenet, second": (19, (14, 14), 6, 16, (5, 5), (1, 1), "valid", (1, 1), 1, False),
    "textbook's, padded": (5, (13, 17), 5, 20, (3, 4), (1, 1), "same", (1, 1), 1, True),
    "strided": (5, (29, 31), 16, 40, (3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 1, False),
    "dilated by as much as the stride": (3, (25, 25), 7, 9, (3, 3), (2, 2), "same", (2, 2), 1, False),
    "rows and columns unlike": (3, (20, 11), 4, 33, (5, 1), (3, 1), (0, 3, 2, 1), (1, 2), 1, True),
    "a stem": (2, (56, 56), 3, 32, (7, 7), (2, 2), (3, 3, 3, 3), (1, 1), 1, False),
    "one channel": (33, (28, 28), 1, 8, (3, 3), (1, 1), "valid", (1, 1), 1, False),
    "wide": (3, (9, 10), 24, 40, (3, 3), (1, 1), "same", (1, 1), 1, False),
    "pointwise": (17, (14, 14), 48, 200, (1, 1), (1, 1), "valid", (1, 1), 1, False),
    "pointwise, strided": (4, (15, 14), 70, 30, (1, 1), (2, 2), "valid", (1, 1), 1, False),
    "large weights": (2, (9, 9), 96, 96, (3, 3), (2, 2), "same", (1, 1), 1, False),
    "groups": (5, (9, 9), 48, 96, (3, 3), (1, 1), "same", (1, 1), 3, False),
    "groups, strided, flipped": (3, (14, 15), 6, 40, (3, 3), (2, 2), "same", (1, 1), 2, True),
    "several filters for each channel": (2, (9, 9), 6, 18, (3, 3), (1, 1), "same", (1, 1), 6, False),
    "samples together": (70, (2, 2), 40, 70, (3, 3), (1, 1), "same", (1, 1), 1, False),
    "few positions": (2, (5, 5), 16, 48, (3, 3), (1, 1), "same", (1, 1), 1, False),
    "few positions, flipped": (2, (5, 5), 16, 48, (3, 3), (1, 1), "same", (1, 1), 1, True),
    "bands": (1, (60, 60), 16, 20, (3, 3), (1, 1), "same", (1, 1), 1, False),
    "strides beyond the kernel": (2, (10, 11), 16, 16, (1, 2), (3, 3), "valid", (1, 1), 1, False),
    "depthwise": (5, (28, 28), 37, 37, (3, 3), (1, 1), "same", (1, 1), 37, False),
    "depthwise, strided": (20, (15, 14), 24, 24, (5, 5), (2, 2), "same", (1, 1), 24, True),
}


OPS = ["conv2d", "conv2d_dx", "conv2d_dw"]


def node(op, name):
    n, size, c, f, kernel, stride, padding, dilation, groups, flip = CONVOLUTIONS[name]
    win = window(size, kernel, stride, padding, dilation)
    rng = np.random.default_rng(0)
    shapes = {"x": (n, *size, c), "w": (*kernel, c // groups, f), "y": (n, *win.out, f)}
    ins, out = {"conv2d": ("xw", "y"), "conv2d_dx": ("yw", "x"), "conv2d_dw": ("xy", "w")}[op]
    arrays = [rng.normal(size=shapes[i]).astype(np.float32) for i in ins]
    return arrays, shapes[out], {"window": win, "groups": groups, "flip": flip}


def _ways(op, arrays, shape, attrs):
    return ways(op, tuple(arrays), (np.empty(shape, np.float32),), attrs)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_of_real_sizes(op, name):
    arrays, shape, attrs = node(op, name)
    (expected,) = one_node.run(op, arrays, [(shape, "float32")], attrs, "numpy")
    for way in set(_ways(op, arrays, shape, attrs)) - INEXACT:
        (found,) = one_node.run(op, arrays, [(shape, "float32")], attrs, "numba", way=way)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max(), err_msg=way)


@pytest.mark.parametrize("tail", ["bias", "bias+relu", "bias+relu6"])
@pytest.mark.parametrize("name", ["lenet, second", "strided", "pointwise", "groups", "wide", "depthwise"])
def test_a_bias_and_a_function_that_cuts_are_one_pass(name, tail):
    (x, w), shape, attrs = node("conv2d", name)
    b = np.linspace(-2, 2, shape[-1], dtype=np.float32)
    x[0, 0, 0, 0] = np.nan
    (y,) = one_node.run("conv2d", [x, w], [(shape, "float32")], attrs, "numpy")
    expected = {"bias": y + b, "bias+relu": (y + b).clip(0), "bias+relu6": (y + b).clip(0, 6)}[tail]
    assert np.isnan(expected).any()
    names = tail.split("+")
    parts = (("conv2d", 2, attrs), *((op, int(op == "bias"), {}) for op in names))
    for way in _ways("conv2d", [x, w], shape, attrs):
        (found,) = one_node.run(f"conv2d+{tail}", [x, w, b], [(shape, "float32")], {"parts": parts}, "numba", way=way)
        finite = np.isfinite(expected)
        if way not in INEXACT:  # there a tile is nan as a whole
            np.testing.assert_array_equal(np.isfinite(found), finite, err_msg=way)
        finite &= np.isfinite(found)
        np.testing.assert_allclose(found[finite], expected[finite], rtol=1e-4, atol=1e-4 * 6, err_msg=way)
        assert finite.mean() > 0.8


@pytest.mark.parametrize("name", ["lenet, second", "pointwise", "large weights", "depthwise, strided"])
def test_weight_gradients_do_not_depend_on_the_number_of_threads(name, monkeypatch):
    arrays, shape, attrs = node("conv2d_dw", name)
    for way in _ways("conv2d_dw", arrays, shape, attrs):
        found = []
        for threads in (1, 2):
            monkeypatch.setattr(one_node, "_device", lambda name, threads=threads: NumbaBackend(threads))
            found.append(one_node.run("conv2d_dw", arrays, [(shape, "float32")], attrs, "numba", way=way)[0])
        np.testing.assert_array_equal(*found, err_msg=way)
