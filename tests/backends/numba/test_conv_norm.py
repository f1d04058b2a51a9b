"""A convolution that adds up the moments of the norm behind it, against both on the numpy backend."""

import numpy as np
import pytest

from cnnforge.backends.numba import norm
from cnnforge.backends.numba.backend import NumbaBackend
from cnnforge.backends.numba.capabilities import ways
from cnnforge.shapes import window
from tests import one_node
from tests.backends.numba.test_conv import node

EPSILON = {"epsilon": 1e-3}
NAMES = ["lenet, second", "strided", "pointwise", "groups", "wide", "depthwise", "depthwise, strided"]


def _case(name, tail):
    """ins, outs and attrs of the fused node, and what numpy gives."""
    (x, w), shape, conv = node("conv2d", name)
    rng = np.random.default_rng(1)
    w += np.float32(0.5)  # so that means are far from 0
    gamma, beta = rng.normal(size=(2, shape[-1])).astype(np.float32)
    c = (shape[-1],)
    (y,) = one_node.run("conv2d", [x, w], [(shape, "float32")], conv)
    statistics = [(c, "float32")] * 3
    normed, *found = one_node.run("batch_norm", [y, gamma, beta], [(shape, "float32"), *statistics], EPSILON)
    ins, own, outs = [x, w, gamma, beta], [("batch_norm", 3, EPSILON)], [(shape, "float32"), *statistics]
    if "add" in tail:
        other = rng.normal(size=shape).astype(np.float32)
        normed, ins = normed + other, [*ins, other]
        own.append(("add", 1, {}))
    if "max_pool2d" in tail:
        pool = window(shape[1:3], (2, 2), (2, 2), 0, (1, 1))
        size = (shape[0], *pool.out, shape[3])
        normed, winner = one_node.run("max_pool2d", [normed], [(size, "float32"), (size, "uint8")], {"window": pool})
        own.append(("max_pool2d", 0, {"window": pool}))
        found.append(winner)
        outs = [(size, "float32"), *statistics, (size, "uint8")]
    for function, ceiling in (("relu", None), ("relu6", 6)):
        if function == tail.split("+")[-1]:
            normed = normed.clip(0, ceiling)
            own.append((function, 0, {}))
    attrs = {"parts": tuple(own)} if len(own) > 1 else EPSILON
    follow = "+".join(part for part, _, _ in own)
    parts = (("conv2d", 2, conv), (follow, len(ins) - 1, attrs))
    return f"conv2d+{follow}", ins, [(shape, "float32"), *outs], {"parts": parts}, [y, normed, *found]


def _ways(op, ins, outs, attrs):
    return ways(op, tuple(ins), tuple(np.empty(*out) for out in outs), attrs)


@pytest.mark.parametrize("shards", [3, 32])
@pytest.mark.parametrize("tail", ["", "relu", "relu6", "add", "add+relu", "max_pool2d", "max_pool2d+relu"])
@pytest.mark.parametrize("name", NAMES)
def test_as_one_pass_it_gives_what_both_give(name, tail, shards, monkeypatch):
    monkeypatch.setattr(norm, "SHARDS", shards)  # of several units each, or of one
    op, ins, outs, attrs, expected = _case(name, tail)
    assert op in NumbaBackend(1).capabilities.pairs
    for way in _ways(op, ins, outs, attrs):
        for found, wanted in zip(one_node.run(op, ins, outs, attrs, "numba", way=way), expected, strict=True):
            if wanted.dtype == np.uint8:  # which of two that are nearly equal wins is rounding
                assert (found != wanted).mean() < 1e-3
            else:
                np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * abs(wanted).max(), err_msg=way)


@pytest.mark.parametrize("name", NAMES)
def test_the_number_of_threads_changes_no_bit(name, monkeypatch):
    op, ins, outs, attrs, _ = _case(name, "relu")
    for way in _ways(op, ins, outs, attrs):
        found = []
        for threads in (1, 2):
            monkeypatch.setattr(one_node, "_device", lambda name, threads=threads: NumbaBackend(threads))
            found.append(one_node.run(op, ins, outs, attrs, way=way))
        for a, b in zip(*found, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=way)
