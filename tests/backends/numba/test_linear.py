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


@pytest.mark.parametrize("tail", ["bias", "bias+relu", "bias+relu6"])
@pytest.mark.parametrize("shape", [(30, 1100, 37), (2, 20, 32)], ids=str)
def test_a_bias_and_a_function_that_cuts_are_one_pass(shape, tail):
    n, i, u = shape
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=s).astype(np.float32) for s in ((n, i), (i, u)))
    b = np.linspace(-9, 9, u, dtype=np.float32)
    x[0, 0] = np.nan
    y = x @ w + b
    expected = {"bias": y, "bias+relu": y.clip(0), "bias+relu6": y.clip(0, 6)}[tail]
    parts = (("matmul", 2, {}), *((op, int(op == "bias"), {}) for op in tail.split("+")))
    (found,) = one_node.run(f"matmul+{tail}", [x, w, b], [((n, u), "float32")], {"parts": parts}, "numba")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.nanmax(np.abs(y)))
    assert np.isnan(found[0]).all()
