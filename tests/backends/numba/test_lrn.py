"""Local response normalisation over several vectors of channels, against the numpy backend in float64."""

import numpy as np
import pytest

from tests import one_node


@pytest.mark.parametrize("beta", [0.75, 0.5, 1.2])
@pytest.mark.parametrize("size", [1, 2, 5, 9])
@pytest.mark.parametrize("shape", [(3, 7, 5, 96), (2, 3, 3, 149), (4, 9, 9, 6), (1, 1, 1, 16), (2, 3, 5, 1)], ids=str)
def test_against_numpy(shape, size, beta):
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(2, *shape)).astype(np.float32) * 3
    attrs = {"size": size, "alpha": 0.3, "beta": beta}
    found, expected = (
        one_node.run("lrn", [x.astype(dtype)], [(shape, dtype)] * 2, {**attrs, "k": 2.0}, backend)
        for backend, dtype in (("numba", "float32"), ("numpy", "float64"))
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    base = expected[1].astype(np.float32)
    found, expected = (
        one_node.run("lrn_dx", [a.astype(dtype) for a in (x, base, dy)], [(shape, dtype)], attrs, backend)[0]
        for backend, dtype in (("numba", "float32"), ("numpy", "float64"))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * abs(expected).max())
