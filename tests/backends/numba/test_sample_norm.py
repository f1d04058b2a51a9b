"""Norms within a sample at sizes with several vectors, pieces and shards, against the numpy backend in float64."""

import numpy as np
import pytest

from cnnforge.backends.numba.backend import NumbaBackend
from tests import one_node

SHAPES = {
    "one channel": (3, 17, 19, 1),
    "six channels": (9, 28, 27, 6),
    "whole vectors": (5, 33, 32, 64),
    "a vector and a part": (5, 20, 21, 24),
    "many channels, few positions": (7, 2, 3, 520),
    "no picture": (9, 150),
}


def _arrays(shape):
    rng = np.random.default_rng(0)
    gamma, beta = rng.normal(size=(2, shape[-1]))
    x = rng.normal(size=shape) * rng.uniform(0.5, 2, shape[-1]) + rng.uniform(-3, 3, shape[-1])
    return x, rng.normal(size=shape), gamma, beta


def _run(op, ins, shapes, attrs, backend, dtype):
    outs = [(shape, dtype) for shape in shapes]
    return one_node.run(op, [a.astype("float32").astype(dtype) for a in ins], outs, attrs, backend)


def _same(op, ins, shapes, attrs):
    found, expected = (_run(op, ins, shapes, attrs, *at) for at in (("numba", "float32"), ("numpy", "float64")))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=3e-5, atol=3e-5 * float(1 + abs(b).max()))
    return expected


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
class TestAgainstNumpy:
    @pytest.mark.parametrize("groups", [1, 2, None])
    def test_group_norm(self, shape, groups):
        groups = shape[-1] if groups is None else groups
        if shape[-1] % groups or (groups == shape[-1] and len(shape) < 4):  # of one element nothing is left
            groups = 1
        x, dy, gamma, beta = _arrays(shape)
        kept, attrs = (shape[0], groups), {"groups": groups}
        _, mean, inverse = _same("group_norm", [x, gamma, beta], [shape, kept, kept], attrs | {"epsilon": 1e-3})
        _same("group_norm_dx", [x, gamma, mean, inverse, dy], [shape], attrs)
        _same("group_norm_dgamma", [x, mean, inverse, dy], [shape[-1:]], attrs)

    def test_layer_norm(self, shape):
        x, dy, gamma, beta = _arrays(shape)
        kept = shape[:-1]
        _, mean, inverse = _same("layer_norm", [x, gamma, beta], [shape, kept, kept], {"epsilon": 1e-2})
        _same("layer_norm_dx", [x, gamma, mean, inverse, dy], [shape], {})
        _same("layer_norm_dgamma", [x, mean, inverse, dy], [shape[-1:]], {})


def test_the_number_of_threads_changes_no_bit(monkeypatch):
    shape = (5, 33, 32, 64)
    x, dy, gamma, _ = _arrays(shape)
    statistics = np.ones((2, 5, 4))
    positions = np.ones((2, *shape[:-1]))
    found = []
    for threads in (1, 2):
        monkeypatch.setattr(one_node, "_device", lambda name, threads=threads: NumbaBackend(threads))
        found.append(
            [
                *_run("group_norm_dx", [x, gamma, *statistics, dy], [shape], {"groups": 4}, "numba", "float32"),
                *_run("group_norm_dgamma", [x, *statistics, dy], [(64,)], {"groups": 4}, "numba", "float32"),
                *_run("layer_norm_dgamma", [x, *positions, dy], [(64,)], {}, "numba", "float32"),
            ]
        )
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)
