"""Pooling at sizes with several vectors of channels, edges and overlaps, against the numpy backend."""

import numpy as np
import pytest

from cnnforge.backends.numba.capabilities import ways
from cnnforge.plan.capabilities import HOST
from cnnforge.shapes import window
from tests import one_node

#: size, kernel, stride, padding, ceil_mode
WINDOWS = {
    "halves": ((12, 10), (2, 2), (2, 2), "valid", False),
    "halves, odd": ((13, 11), (2, 2), (2, 2), "valid", False),
    "halves, one row over": ((5, 4), (2, 2), (2, 2), "valid", False),
    "halves, rounded up": ((13, 11), (2, 2), (2, 2), "valid", True),
    "a stem's": ((14, 15), (3, 3), (2, 2), 1, False),
    "overlapping": ((9, 8), (3, 3), (1, 1), "same", False),
    "gaps between": ((17, 19), (2, 3), (4, 5), "valid", False),
    "sides unlike": ((10, 13), (5, 4), (3, 2), (2, 1, 0, 3), False),
    "the whole picture": ((7, 6), (7, 6), (1, 1), "valid", False),
    "the whole of a large picture": ((20, 17), (20, 17), (1, 1), "valid", False),
}
CHANNELS = [1, 6, 16, 23, 64, 149]


def _case(name, channels):
    size, kernel, stride, padding, ceil_mode = WINDOWS[name]
    win = window(size, kernel, stride, padding, ceil_mode=ceil_mode)
    rng = np.random.default_rng(channels)
    # Small whole numbers tie, and their sums are exact.
    x = rng.integers(-3, 4, (3, *size, channels)).astype(np.float32)
    dy = rng.integers(-3, 4, (3, *win.out, channels)).astype(np.float32)
    return win, x, dy, "uint8" if kernel[0] * kernel[1] <= 256 else "int32"


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("name", WINDOWS)
class TestAgainstNumpy:
    def test_max(self, name, channels):
        win, x, dy, dtype = _case(name, channels)
        outs = [(dy.shape, "float32"), (dy.shape, dtype)]
        assert ways("max_pool2d", (x,), (dy,), {"window": win}) != (HOST,)
        found = [one_node.run("max_pool2d", [x], outs, {"window": win}, b) for b in ("numpy", "numba")]
        for a, b in zip(*found, strict=True):
            np.testing.assert_array_equal(a, b)
        dx = [
            one_node.run("max_pool2d_dx", [found[0][1], dy], [(x.shape, "float32")], {"window": win}, b)[0]
            for b in ("numpy", "numba")
        ]
        np.testing.assert_array_equal(*dx)

    @pytest.mark.parametrize("count_include_pad", [False, True])
    def test_average(self, name, channels, count_include_pad):
        win, x, dy, _ = _case(name, channels)
        attrs = {"window": win, "count_include_pad": count_include_pad}
        for op, ins, shape in (("average_pool2d", x, dy.shape), ("average_pool2d_dx", dy, x.shape)):
            found, expected = (one_node.run(op, [ins], [(shape, "float32")], attrs, b)[0] for b in ("numba", "numpy"))
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["halves", "a stem's", "the whole picture"])
def test_nan_wins(name):
    win, x, dy, dtype = _case(name, 20)
    x[1, 2, 2, 18] = x[1, 2, 3, 1] = np.nan
    outs = [(dy.shape, "float32"), (dy.shape, dtype)]
    found, expected = (
        one_node.run("max_pool2d", [x], outs, {"window": win}, b, twice=False)[0] for b in ("numba", "numpy")
    )
    assert np.isnan(expected).any()
    np.testing.assert_array_equal(found, expected)


def test_dilated_windows_stay_with_numpy():
    win = window((9, 9), (2, 2), (2, 2), "valid", (2, 2))
    x, y = np.empty((1, 9, 9, 4), np.float32), np.empty((1, *win.out, 4), np.float32)
    assert ways("max_pool2d", (x,), (y,), {"window": win}) == (HOST,)
