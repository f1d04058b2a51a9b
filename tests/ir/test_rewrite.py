"""Rewritten graphs give the same numbers."""

import numpy as np
import pytest

from cnnforge.ir import rewrite
from cnnforge.spec import ModelSpec
from tests.building import build


def _spec(pool, activation="relu", after=None):
    layers = {
        "conv": {"type": "conv", "filters": 5, "kernel": 3, "activation": activation, "bias_init": "ones"},
        "pool": {"type": "pool", **pool},
        **(after or {}),
        "out": {"type": "fc", "units": 3, "activation": "softmax"},
    }
    return ModelSpec.model_validate({"name": "m", "input": [9, 8, 2], "layers": layers})


POOLS = [{"kernel": 2}, {"kernel": 3, "stride": 2}, {"kernel": 2, "stride": 1, "padding": 1}]


@pytest.mark.parametrize("activation", ["none", *rewrite.MONOTONE])
@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_a_bias_and_a_function_behind_the_pool_change_no_bit(pool, activation, monkeypatch):
    spec = _spec(pool, activation)
    moved = build(spec)
    with monkeypatch.context() as m:
        m.setattr("cnnforge.lower.pool_first", lambda g: None)
        written = build(spec)
    found, expected = (b.run("forward", "loss", "backward") or b for b in (moved, written))
    names = [n.op for n in moved.graph.nodes if n.phase == "forward"]
    assert names[:2] == ["conv2d", "max_pool2d"]
    np.testing.assert_array_equal(found.bound.outputs["loss"], expected.bound.outputs["loss"])
    for name, grad in expected.exe.grads.items():
        np.testing.assert_allclose(found.exe.grads[name], grad, rtol=1e-12, atol=1e-13, err_msg=name)


def test_what_somebody_else_reads_stays_before_the_pool():
    more = {"side": {"type": "conv", "filters": 5, "kernel": 2, "stride": 2, "input": "conv"}}
    more["sum"] = {"type": "merge", "inputs": ["pool", "side"], "mode": "add"}
    ops = [n.op for n in build(_spec({"kernel": 2}, after=more)).graph.nodes]
    assert ops.index("relu") < ops.index("max_pool2d")


def test_an_average_pool_and_a_function_that_falls_stay():
    ops = [n.op for n in build(_spec({"kernel": 2, "mode": "average"})).graph.nodes]
    assert ops.index("relu") < ops.index("average_pool2d")
    ops = [n.op for n in build(_spec({"kernel": 2}, "gelu")).graph.nodes]
    assert ops.index("gelu") < ops.index("max_pool2d")


NORM = {"type": "batch_norm", "activation": "relu", "epsilon": 1e-3}
FOLDED = {
    "conv without bias": {"c": {"type": "conv", "filters": 5, "kernel": 3, "bias": False}, "n": NORM},
    "conv": {"c": {"type": "conv", "filters": 5, "kernel": 3}, "n": NORM, "p": {"type": "pool", "kernel": 2}},
    "depthwise": {"c": {"type": "conv", "groups": "depthwise", "filters": 4, "kernel": 3}, "n": NORM},
    "fc": {"c": {"type": "fc", "units": 7}, "n": NORM},
}
KEPT = {
    "a function between": {"c": {"type": "conv", "filters": 5, "kernel": 3, "activation": "tanh"}, "n": NORM},
    "transposed": {"c": {"type": "conv_transpose", "filters": 5, "kernel": 3}, "n": NORM},
    "read twice": {
        "c": {"type": "conv", "filters": 5, "kernel": 3}, "n": NORM,
        "sum": {"type": "merge", "inputs": ["c", "n"], "mode": "add"},
    },
}  # fmt: skip


def _with_end(layers):
    layers = {**layers, "out": {"type": "fc", "units": 3, "activation": "softmax"}}
    return ModelSpec.model_validate({"name": "m", "input": [9, 8, 2], "layers": layers})


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("layers", FOLDED.values(), ids=FOLDED)
def test_folded_norms_give_the_same_numbers(layers, backend, monkeypatch):
    dtype = "float64" if backend == "numpy" else "float32"
    folded = build(_with_end(layers), dtype=dtype, training=False, backend=backend)
    assert [n.op for n in folded.graph.nodes].count("fold_batch_norm") == 1
    assert "batch_norm_inference" not in [n.op for n in folded.graph.nodes]
    with monkeypatch.context() as m:
        m.setattr("cnnforge.lower.fold_norms", lambda g: None)
        plain = build(_with_end(layers), dtype="float64", training=False)
    for name, array in folded.exe.weights.params.items():
        plain.exe.weights.params[name][...] = array
    for name, array in folded.exe.weights.state.items():
        plain.exe.weights.state[name][...] = array
    plain.bound.x[...] = folded.bound.x
    for b in (folded, plain):
        b.run("forward", "output")
    room = 1e-12 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(folded.bound.outputs["output"], plain.bound.outputs["output"], rtol=room, atol=room)


@pytest.mark.parametrize("layers", KEPT.values(), ids=KEPT)
def test_norms_that_cannot_be_folded_stay(layers):
    ops = [n.op for n in build(_with_end(layers), training=False).graph.nodes]
    assert "batch_norm_inference" in ops
    assert "fold_batch_norm" not in ops


def test_training_folds_nothing():
    assert "fold_batch_norm" not in [n.op for n in build(_with_end(FOLDED["conv"])).graph.nodes]
