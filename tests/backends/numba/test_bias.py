"""Bias and sums per channel on shapes larger than the shared cases: bands, rows of several positions, many shards."""

import numpy as np
import pytest

from cnnforge.backends.numba.backend import NumbaBackend
from cnnforge.backends.numba.capabilities import parts_of
from tests import one_node

SHAPES = [
    (64, 28, 28, 6), (3, 40, 41, 10), (8, 33, 31, 16), (5, 32, 32, 64), (2, 30, 30, 100), (64, 120), (7, 1000),
    (700, 1), (40, 9, 9, 63), (1, 1), (1, 129), (9001, 3), (1, 17, 1, 1),
]  # fmt: skip
TAILS = {"": lambda y: y, "+relu": lambda y: np.maximum(y, 0), "+relu6": lambda y: np.clip(y, 0, 6)}
MASKS = {"relu_dx+bias_db": lambda y: y > 0, "relu6_dx+bias_db": lambda y: (y > 0) & (y < 6)}


def _integers(shape, low=-9, high=10, seed=0):
    """Sums of them are exact, and zeros and sixes are among them."""
    return np.random.default_rng(seed).integers(low, high, shape).astype(np.float32)


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bias_in_one_pass_with_what_follows(shape, tail):
    x, b = _integers(shape), _integers(shape[-1:], seed=1)
    for out in ((shape, "float32"), 0):
        (y,) = one_node.run(f"bias{tail}", [x, b], [out], {}, "numba")
        np.testing.assert_array_equal(y, TAILS[tail](x + b))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_bias_gradient(shape):
    dy = _integers(shape)
    (db,) = one_node.run("bias_db", [dy], [(shape[-1:], "float32")], {}, "numba")
    np.testing.assert_array_equal(db, dy.reshape(-1, shape[-1]).sum(axis=0, dtype=np.float64))


@pytest.mark.parametrize("op", MASKS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_bias_gradient_behind_that_of_a_ramp(shape, op):
    y, dy = _integers(shape, -2, 8), _integers(shape, seed=1)
    expected = np.where(MASKS[op](y), dy, 0)
    for out in ((shape, "float32"), 1):
        g, db = one_node.run(op, [y, dy], [out, (shape[-1:], "float32")], {}, "numba")
        np.testing.assert_array_equal(g, expected)
        np.testing.assert_array_equal(db, expected.reshape(-1, shape[-1]).sum(axis=0, dtype=np.float64))


@pytest.mark.parametrize("op", ["bias_db", *MASKS])
def test_the_number_of_threads_changes_no_bit(op, monkeypatch):
    rng = np.random.default_rng(0)
    y, dy = (rng.normal(size=(33, 29, 31, 6)).astype(np.float32) for _ in range(2))
    outs, found = [(dy.shape, "float32"), ((6,), "float32")], []
    for threads in (1, 2):
        monkeypatch.setattr(one_node, "_device", lambda name, threads=threads: NumbaBackend(threads))
        ins = [dy] if op == "bias_db" else [y, dy]
        found.append(one_node.run(op, ins, outs[-1:] if op == "bias_db" else outs, {}, "numba")[-1])
    np.testing.assert_array_equal(*found)
    if op == "bias_db":
        expected = dy.reshape(-1, 6).sum(axis=0, dtype=np.float64)
        np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("op", ["bias", "bias+relu", "bias+relu6"])
def test_what_is_not_finite_stays_so(op):
    x = np.array([[np.nan, np.inf, 1]], np.float32)
    (y,) = one_node.run(op, [x, np.zeros(3, np.float32)], [((1, 3), "float32")], {}, "numba")
    assert np.isnan(y[0, 0])
    assert y[0, 1] == (6 if op == "bias+relu6" else np.inf)


def test_a_ramp_has_no_gradient_where_its_output_is_not_a_number():
    y, dy = np.array([[np.nan, np.inf, -np.inf]], np.float32), np.array([[1, 2, np.nan]], np.float32)
    g, db = one_node.run("relu_dx+bias_db", [y, dy], [((1, 3), "float32"), ((3,), "float32")], {}, "numba")
    np.testing.assert_array_equal(g, [[0, 2, 0]])
    np.testing.assert_array_equal(db, [0, 2, 0])


@pytest.mark.parametrize("tail", ["relu", "relu6"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_chain_takes_the_pass_for_both(tail, dtype):
    rng = np.random.default_rng(0)
    x, w, b = (rng.normal(size=s).astype(dtype) * 3 for s in ((9, 33), (33, 21), (21,)))
    attrs = {"parts": (("matmul", 2, {}), ("bias", 1, {}), (tail, 0, {}))}
    (y,) = one_node.run(f"matmul+bias+{tail}", [x, w, b], [((9, 21), dtype)], attrs, "numba")
    np.testing.assert_allclose(y, TAILS[f"+{tail}"](x @ w + b), rtol=1e-5, atol=1e-5)
    names = [op for op, _, _ in parts_of((x, w, b), (y,), attrs)]
    assert names == (["matmul", f"bias+{tail}"] if dtype == "float32" else ["matmul", "bias", tail])
