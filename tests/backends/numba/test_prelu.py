"""prelu on shapes larger than the shared cases; integers and quarters are exact, and zeros are among them."""

import numpy as np
import pytest

from tests import one_node

SHAPES = [(8, 28, 28, 6), (3, 40, 41, 10), (5, 32, 32, 16), (2, 30, 30, 100), (64, 120), (700, 1), (1, 1)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_prelu_and_its_gradients(shape):
    rng = np.random.default_rng(0)
    x, dy = (rng.integers(-4, 5, shape).astype(np.float32) for _ in range(2))
    alpha = rng.integers(-3, 4, shape[-1:]).astype(np.float32) / 4
    (y,) = one_node.run("prelu", [x, alpha], [(shape, "float32")], {}, "numba")
    np.testing.assert_array_equal(y, np.where(x > 0, x, alpha * x))
    for out in ((shape, "float32"), 2):
        (dx,) = one_node.run("prelu_dx", [x, alpha, dy], [out], {}, "numba")
        np.testing.assert_array_equal(dx, np.where(x > 0, dy, alpha * dy))
    (dalpha,) = one_node.run("prelu_dalpha", [x, dy], [(alpha.shape, "float32")], {}, "numba")
    expected = (np.minimum(x, 0) * dy).reshape(-1, shape[-1]).sum(axis=0, dtype=np.float64)
    np.testing.assert_array_equal(dalpha, expected)
