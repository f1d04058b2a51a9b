"""Losses and softmax on rows of many sizes, with ties, and with what is not finite."""

import numpy as np
import pytest

from cnnforge.backends.numba.backend import NumbaBackend
from cnnforge.backends.numba.rules.elementwise import PIECE
from tests import one_node

#: (N, …, C)
SHAPES = [(1, 1), (64, 10), (3, 16), (5, 17), (2, 1000), (3, 5, 7, 21), (2, 3, PIECE + 5)]
LOSSES = ["softmax_cross_entropy", "sigmoid_cross_entropy", "mse"]


def _node(loss, shape, deviation=3.0):
    rng = np.random.default_rng(0)
    z = (rng.normal(size=shape) * deviation).astype(np.float32)
    if loss == "softmax_cross_entropy":
        return z, rng.integers(0, shape[-1], shape[:-1])
    return z, (rng.normal(size=shape) if loss == "mse" else rng.integers(0, 2, shape)).astype(np.float32)


def _double(array):
    return array.astype(np.float64) if array.dtype == np.float32 else array


@pytest.mark.parametrize("deviation", [1.0, 50.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_are_numpys_in_float64(loss, shape, deviation):
    ins = _node(loss, shape, deviation)
    double = [_double(a) for a in ins]
    n = shape[:1]
    found, hits = one_node.run(loss, ins, [(n, "float32")] * 2, {}, "numba")
    expected, right = one_node.run(loss, double, [(n, "float64")] * 2, {})
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(hits, right, rtol=1e-6)
    (dz,) = one_node.run(f"{loss}_dz", ins, [(shape, "float32")], {}, "numba")
    (expected,) = one_node.run(f"{loss}_dz", double, [(shape, "float64")], {})
    share = shape[0] / (np.prod(shape[:-1]) if loss == "softmax_cross_entropy" else np.prod(shape))
    np.testing.assert_allclose(dz, expected, rtol=1e-6, atol=3e-7 * share)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_softmax(shape):
    z, _ = _node("mse", shape, 5.0)
    (y,) = one_node.run("softmax", [z], [(shape, "float32")], {}, "numba")
    (expected,) = one_node.run("softmax", [_double(z)], [(shape, "float64")], {})
    np.testing.assert_allclose(y, expected, rtol=4e-6)
    dy = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    for out in ((shape, "float32"), 1):
        (dx,) = one_node.run("softmax_dx", [y, dy], [out], {}, "numba")
        (expected,) = one_node.run("softmax_dx", [_double(y), _double(dy)], [(shape, "float64")], {})
        np.testing.assert_allclose(dx, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("c", [3, 16, 40])
def test_of_equal_scores_the_first_is_the_answer(c):
    z, labels = np.ones((c, c), np.float32), np.arange(c)
    _, hits = one_node.run("softmax_cross_entropy", [z, labels], [((c,), "float32")] * 2, {}, "numba")
    np.testing.assert_array_equal(hits, labels == 0)


def test_a_right_answer_keeps_its_small_loss():
    z, t = np.array([[20.0], [-20.0]], np.float32), np.array([[1.0], [0.0]], np.float32)
    found, _ = one_node.run("sigmoid_cross_entropy", [z, t], [((2,), "float32")] * 2, {}, "numba")
    np.testing.assert_allclose(found, np.exp(-20.0), rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 5, 39])
@pytest.mark.parametrize("loss", LOSSES)
def test_what_is_not_finite_shows_in_its_sample_alone(loss, at, bad):
    z, labels = _node(loss, (3, 40))
    z[1, at] = bad
    if loss == "softmax_cross_entropy":
        labels[1] = at
    elif loss == "sigmoid_cross_entropy":
        labels[1, at] = bad < 0
    found, _ = one_node.run(loss, [z, labels], [((3,), "float32")] * 2, {}, "numba")
    np.testing.assert_array_equal(np.isfinite(found), [True, False, True])


@pytest.mark.parametrize("label", [-1, 10, 2**40])
def test_a_label_that_is_no_class_reads_and_writes_nothing_beside(label):
    z, labels = _node("softmax_cross_entropy", (2, 10))
    labels[0] = label
    found = one_node.run("softmax_cross_entropy", [z, labels], [((2,), "float32")] * 2, {}, "numba")
    for got, expected in zip(
        found, one_node.run("softmax_cross_entropy", [z, labels], [((2,), "float32")] * 2, {}), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-6)
    one_node.run("softmax_cross_entropy_dz", [z, labels], [((2, 10), "float32")], {}, "numba")


WEIGHTED = {
    "class_targets": {"smoothing": 0.1, "weights": tuple(0.1 * k for k in range(21))},
    "mixed_targets": {"smoothing": 0.1, "weights": tuple(0.1 * k for k in range(21))},
    "soft_cross_entropy": {},
    "weighted_sigmoid_cross_entropy": {"smoothing": 0.1, "pos_weight": 3.0},
}


def _weighted(op):
    """(inputs, output) of many samples, so that several threads share them."""
    rng, shape = np.random.default_rng(0), (301, 29, 21)
    z, labels = rng.normal(size=shape).astype(np.float32) * 3, rng.integers(0, 21, shape[:-1])
    per_sample = [((301,), "float32")] * 2
    if op == "class_targets":
        return [labels], [(shape, "float32")]
    if op == "mixed_targets":
        two = np.column_stack([labels.reshape(-1), labels.reshape(-1)[::-1], rng.random(labels.size)])
        return [two.astype(np.float32)], [((labels.size, 21), "float32"), ((labels.size,), "int64")]
    if op == "soft_cross_entropy":
        return [z, abs(rng.normal(size=shape)).astype(np.float32), labels], per_sample
    return [z, rng.integers(0, 2, shape).astype(np.float32)], per_sample


@pytest.mark.parametrize("op", WEIGHTED)
def test_losses_with_options_are_numpys_in_float64_whatever_the_threads(op, monkeypatch):
    ins, outs = _weighted(op)
    cases = [(op, ins, outs)]
    if not op.endswith("_targets"):
        cases.append((f"{op}_dz", ins[:2], [(ins[0].shape, "float32")]))
    for name, read, written in cases:
        double = [_double(a) for a in read]
        expected = one_node.run(name, double, [(s, "float64") for s, _ in written], WEIGHTED[op])
        found = []
        with monkeypatch.context() as patch:
            for threads in (1, 2):
                patch.setattr(one_node, "_device", lambda name, threads=threads: NumbaBackend(threads))
                found.append(one_node.run(name, read, written, WEIGHTED[op], "numba"))
        for one, other, right in zip(*found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
            np.testing.assert_allclose(one, right, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("label", [-1, 3, 2**40])
def test_a_label_that_is_no_class_counts_nothing(label, backend):
    attrs = {"smoothing": 0.2, "weights": (1.0, 2.0, 4.0)}
    (q,) = one_node.run("class_targets", [np.array([label, 1])], [((2, 3), "float32")], attrs, backend)
    np.testing.assert_allclose(q, [[0, 0, 0], [0.2 / 3, 1.6 + 0.4 / 3, 0.8 / 3]], rtol=1e-6)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_a_batch_of_classes_that_weigh_nothing_has_no_loss(backend):
    attrs = {"smoothing": 0.0, "weights": (0.0, 1.0)}
    (q,) = one_node.run("class_targets", [np.zeros(4, np.int64)], [((4, 2), "float32")], attrs, backend)
    np.testing.assert_array_equal(q, 0)


def test_a_right_answer_keeps_its_small_loss_with_weights():
    z, t = np.array([[20.0], [-20.0]], np.float32), np.array([[1.0], [0.0]], np.float32)
    attrs = {"smoothing": 0.0, "pos_weight": 2.0}
    found, _ = one_node.run("weighted_sigmoid_cross_entropy", [z, t], [((2,), "float32")] * 2, attrs, "numba")
    np.testing.assert_allclose(found, np.exp(-20.0) * np.array([2, 1]), rtol=1e-6)
