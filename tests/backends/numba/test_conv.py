"""Convolutions at sizes with many pieces, shards and edges, against the numpy backend."""

import numpy as np
import pytest

from cnnforge.backends.numba.backend import NumbaBackend
from cnnforge.backends.numba.capabilities import scratch
from cnnforge.ir.graph import Value
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
    "pointwise": (17, (14, 14), 48, 200, (1, 1), (1, 1), "valid", (1, 1), 1, False),
    "pointwise, strided": (4, (15, 14), 70, 30, (1, 1), (2, 2), "valid", (1, 1), 1, False),
    "large weights": (2, (9, 9), 96, 96, (3, 3), (2, 2), "same", (1, 1), 1, False),
    "groups": (5, (9, 9), 48, 96, (3, 3), (1, 1), "same", (1, 1), 3, False),
    "groups, strided, flipped": (3, (14, 15), 6, 40, (3, 3), (2, 2), "same", (1, 1), 2, True),
    "several filters for each channel": (2, (9, 9), 6, 18, (3, 3), (1, 1), "same", (1, 1), 6, False),
    "samples together": (70, (2, 2), 40, 70, (3, 3), (1, 1), "same", (1, 1), 1, False),
    "bands": (1, (60, 60), 16, 20, (3, 3), (1, 1), "same", (1, 1), 1, False),
    "strides beyond the kernel": (2, (10, 11), 16, 16, (1, 2), (3, 3), "valid", (1, 1), 1, False),
    "depthwise": (5, (28, 28), 37, 37, (3, 3), (1, 1), "same", (1, 1), 37, False),
    "depthwise, strided": (20, (15, 14), 24, 24, (5, 5), (2, 2), "same", (1, 1), 24, True),
}


@pytest.mark.parametrize("op", ["conv2d", "conv2d_dx", "conv2d_dw"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_of_real_sizes(op, name):
    n, size, c, f, kernel, stride, padding, dilation, groups, flip = CONVOLUTIONS[name]
    win = window(size, kernel, stride, padding, dilation)
    rng = np.random.default_rng(0)
    shapes = {"x": (n, *size, c), "w": (*kernel, c // groups, f), "y": (n, *win.out, f)}
    ins, out = {"conv2d": ("xw", "y"), "conv2d_dx": ("yw", "x"), "conv2d_dw": ("xy", "w")}[op]
    arrays = [rng.normal(size=shapes[i]).astype(np.float32) for i in ins]
    _same(op, arrays, shapes[out], {"window": win, "groups": groups, "flip": flip})


def _same(op, arrays, shape, attrs):
    (expected,) = one_node.run(op, arrays, [(shape, "float32")], attrs, "numpy")
    (found,) = one_node.run(op, arrays, [(shape, "float32")], attrs, "numba")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["lenet, second", "pointwise", "depthwise, strided"])
def test_weight_gradients_do_not_depend_on_the_number_of_threads(name):
    n, size, c, f, kernel, stride, padding, dilation, groups, flip = CONVOLUTIONS[name]
    win = window(size, kernel, stride, padding, dilation)
    rng = np.random.default_rng(0)
    x, dy = (rng.normal(size=s).astype(np.float32) for s in ((n, *size, c), (n, *win.out, f)))
    attrs = {"window": win, "groups": groups, "flip": flip}
    found = []
    for threads in (1, 2):
        dw = np.empty((*kernel, c // groups, f), np.float32)
        values = [Value(0, "", a.shape, "act", "float32", True) for a in (x, dy, dw)]
        space = tuple(
            np.empty(s.shape, s.dtype) for s in scratch("conv2d_dw", tuple(values[:2]), tuple(values[2:]), attrs)
        )
        backend = NumbaBackend(threads)
        backend.run(backend.link([backend.kernel("conv2d_dw")((x, dy), (dw,), space, **attrs)]))
        found.append(dw)
    np.testing.assert_array_equal(*found)
