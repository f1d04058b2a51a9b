"""Products at sizes with many blocks and edges, against the numpy backend."""

import numpy as np
import pytest

from tests import one_node


@pytest.mark.parametrize("op", ["matmul", "matmul_dx", "matmul_dw"])
@pytest.mark.parametrize(
    "shape", [(64, 400, 120), (200, 33, 70), (3, 2100, 1100), (1, 5, 300), (7, 600, 64), (1100, 20, 40)], ids=str
)
def test_products_of_real_sizes(op, shape):
    n, i, u = shape
    rng = np.random.default_rng(0)
    x, w, dy = (rng.normal(size=s).astype(np.float32) for s in ((n, i), (i, u), (n, u)))
    arrays, out = {"matmul": ([x, w], dy), "matmul_dx": ([dy, w], x), "matmul_dw": ([x, dy], w)}[op]
    (expected,) = one_node.run(op, arrays, [(out.shape, "float32")], {}, "numpy")
    (found,) = one_node.run(op, arrays, [(out.shape, "float32")], {}, "numba")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
