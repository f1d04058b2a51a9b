"""Products and convolutions at sizes with many pieces, shards and edges, against the numpy backend."""

import ctypes

import numpy as np
import pytest

from cnnforge.backends.numba import blas
from cnnforge.backends.numba.backend import NumbaBackend
from cnnforge.backends.numba.capabilities import ways
from cnnforge.plan.capabilities import HOST
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
    attrs = {"window": win, "groups": groups, "flip": flip}
    _same(op, arrays, shapes[out], attrs, "gemm")
    result = np.empty(shapes[out], np.float32)
    if "samples" in ways(op, tuple(arrays), (result,), attrs):
        _same(op, arrays, shapes[out], attrs, "samples")


@pytest.mark.parametrize("op", ["matmul", "matmul_dx", "matmul_dw"])
@pytest.mark.parametrize("shape", [(64, 400, 120), (200, 33, 70), (3, 2100, 1100), (1, 5, 300)], ids=str)
def test_products_of_real_sizes(op, shape):
    n, i, u = shape
    rng = np.random.default_rng(0)
    x, w, dy = (rng.normal(size=s).astype(np.float32) for s in ((n, i), (i, u), (n, u)))
    arrays, out = {"matmul": ([x, w], dy), "matmul_dx": ([dy, w], x), "matmul_dw": ([x, dy], w)}[op]
    _same(op, arrays, out.shape, {})


def _same(op, arrays, shape, attrs, way=""):
    (expected,) = one_node.run(op, arrays, [(shape, "float32")], attrs, "numpy")
    (found,) = one_node.run(op, arrays, [(shape, "float32")], attrs, "numba", way=way)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["lenet, second", "pointwise", "depthwise, strided"])
def test_weight_gradients_do_not_depend_on_the_number_of_threads(name, monkeypatch):
    n, size, c, f, kernel, stride, padding, dilation, groups, flip = CONVOLUTIONS[name]
    win = window(size, kernel, stride, padding, dilation)
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=s).astype(np.float32) for s in ((n, *size, c), (n, *win.out, f))]
    attrs = {"window": win, "groups": groups, "flip": flip}
    found = []
    for threads in (1, 2):
        monkeypatch.setattr(one_node, "_device", lambda name, threads=threads: NumbaBackend(threads))
        outs = [((*kernel, c // groups, f), "float32")]
        found.append(one_node.run("conv2d_dw", arrays, outs, attrs, "numba", way="gemm")[0])
    np.testing.assert_array_equal(*found)


def test_grouped_convolutions_stay_with_numpy():
    win = window((4, 4), (1, 1), (1, 1), "valid")
    x, w, y = (np.ones(s, np.float32) for s in ((1, 4, 4, 4), (1, 1, 2, 4), (1, 4, 4, 4)))
    assert ways("conv2d", (x, w), (y,), {"window": win, "groups": 2, "flip": False}) == (HOST,)


def test_where_numpy_brings_no_sgemm_scipys_is_taken(monkeypatch):
    arrays = [np.arange(6, dtype=np.float32).reshape(2, 3), np.arange(12, dtype=np.float32).reshape(3, 4)]
    own = blas.sgemm_address()
    assert own != blas._scipy_address()
    monkeypatch.setattr("cnnforge.backends.numba.linear.sgemm_address", blas._scipy_address)
    (y,) = one_node.run("matmul", arrays, [((2, 4), "float32")], {}, "numba")
    np.testing.assert_array_equal(y, arrays[0] @ arrays[1])


def test_the_address_is_a_function_of_numpys_library(monkeypatch):
    monkeypatch.setattr(blas, "_NAMES", ("no_such_function",))
    assert blas.sgemm_address.__wrapped__() == blas._scipy_address()
    assert ctypes.c_void_p(blas.sgemm_address()).value
