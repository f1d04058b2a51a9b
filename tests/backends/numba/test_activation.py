"""Activation functions on several pieces, at the ends of what float32 holds, and on what is not finite."""

import numpy as np
import pytest

from cnnforge.backends.numba.activation import NATIVE
from cnnforge.backends.numba.rules.elementwise import PIECE
from cnnforge.ir.vjp import FROM_OUTPUT
from tests import one_node

SIZES = [1, 15, 16, 17, PIECE, PIECE + 1, 3 * PIECE - 1]
ATTRS = {
    "leaky_relu": [{"alpha": 0.01}],
    "elu": [{"alpha": 1.5}],
    "gelu": [{"approximate": "none"}, {"approximate": "tanh"}],
}
CASES = [(op, attrs) for op in NATIVE for attrs in ATTRS.get(op.removesuffix("_dx"), [{}])]
#: Of the result, and of what its terms are.
TOLERANCE = 1e-6


def _inputs(op, x, attrs):
    """What the node reads: x, or for a gradient what it keeps and dy."""
    name = op.removesuffix("_dx")
    if op == name:
        return [x]
    if name in FROM_OUTPUT:
        (x,) = one_node.run(name, [x.astype("float64")], [(x.shape, "float64")], attrs)
    return [x.astype(np.float32), np.linspace(-3, 3, x.size, dtype=np.float32)]


def _true(op, ins, attrs):
    """By the numpy backend in float64."""
    return one_node.run(op, [a.astype("float64") for a in ins], [(ins[0].shape, "float64")], attrs)[0]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("op", "attrs"), CASES, ids=str)
def test_it_gives_what_numpy_gives_in_float64(op, attrs, size):
    x = np.random.default_rng(size).normal(size=size).astype(np.float32) * 4
    x[::7] = np.round(x[::7])  # at the kinks, and between them
    ins = _inputs(op, x, attrs)
    (found,) = one_node.run(op, ins, [((size,), "float32")], attrs, "numba")
    np.testing.assert_allclose(found, _true(op, ins, attrs), rtol=TOLERANCE, atol=4 * TOLERANCE)


@pytest.mark.parametrize(("op", "attrs"), CASES, ids=str)
def test_large_and_small_numbers(op, attrs):
    x = np.exp2(np.linspace(-140, 120, 521)).astype(np.float32)
    x = np.concatenate([x, -x, np.zeros(3, np.float32)])
    ins = _inputs(op, x, attrs)
    (found,) = one_node.run(op, ins, [(x.shape, "float32")], attrs, "numba")
    np.testing.assert_allclose(found, _true(op, ins, attrs), rtol=2e-6, atol=4 * TOLERANCE)


@pytest.mark.parametrize(("op", "attrs"), CASES, ids=str)
def test_what_is_not_finite(op, attrs):
    x = np.array([np.nan, np.inf, -np.inf, 1], np.float32)
    ins = _inputs(op, x, attrs)
    with np.errstate(invalid="ignore"):
        expected = _true(op, ins, attrs)
    (found,) = one_node.run(op, ins, [(x.shape, "float32")], attrs, "numba")
    if not op.endswith("_dx"):
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
        np.testing.assert_array_equal(found[1:3], expected[1:3].astype(np.float32))
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=4 * TOLERANCE)


def test_a_ramp_lets_only_what_rises_through():
    y, dy = np.array([-1, 0, np.inf, 3], np.float32), np.array([np.inf, np.nan, 5, -2], np.float32)
    (dx,) = one_node.run("relu_dx", [y, dy], [((4,), "float32")], {}, "numba")
    np.testing.assert_array_equal(dx, [0, 0, 5, -2])
