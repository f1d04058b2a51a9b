"""Sums and products of several pieces, over either input."""

import numpy as np
import pytest

from cnnforge.backends.numba.rules.elementwise import PIECE
from tests import one_node


@pytest.mark.parametrize("size", [1, 15, 16, 33, PIECE, PIECE + 1, 5 * PIECE - 7])
@pytest.mark.parametrize(("op", "formula"), [("add", np.add), ("multiply", np.multiply)])
def test_of_two_arrays(op, formula, size):
    rng = np.random.default_rng(0)
    p, q = (rng.normal(size=size).astype(np.float32) for _ in range(2))
    for out in ((size,), "float32"), 0, 1:
        (y,) = one_node.run(op, [p, q], [out], {}, "numba")
        np.testing.assert_array_equal(y, formula(p, q))
