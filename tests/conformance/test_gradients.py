"""Gradients of whole models against central differences in float64."""

import numpy as np
import pytest
from hypothesis import given, settings

from cnnforge.spec import ModelSpec
from tests.building import build
from tests.strategies import FUNCTIONS, models

STEP = 1e-5


def directional_error(spec: ModelSpec, batch: int = 3, seed: int = 0) -> float:
    """|<grad, v> - (L(p + hv) - L(p - hv)) / 2h|, relative, along one random direction over all parameters."""
    built = build(spec, batch=batch, seed=seed)
    built.run("forward", "loss", "backward")
    rng = np.random.default_rng(seed + 1)
    params = {name: built.exe.weights.params[name] for name in built.exe.grads}
    direction = {name: rng.normal(size=a.shape) for name, a in params.items()}
    exact = sum(float((built.exe.grads[name] * direction[name]).sum()) for name in params)
    start = {name: a.copy() for name, a in params.items()}

    def at(h: float) -> float:
        for name, a in params.items():
            a[...] = start[name] + h * direction[name]
        return built.loss()

    # Richardson's extrapolation of two central differences: the error falls with the fourth power of the step.
    coarse, fine = ((at(h) - at(-h)) / (2 * h) for h in (2 * STEP, STEP))
    numeric = (4 * fine - coarse) / 3
    return abs(numeric - exact) / max(1.0, abs(exact))


@settings(max_examples=150, deadline=None)
@given(models(smooth=True))
def test_random_models(spec):
    assert directional_error(spec) < 1e-6


def one_block(block: dict, size=(6, 5, 4), after: dict | None = None) -> ModelSpec:
    layers = {
        "first": {"type": "conv", "filters": 4, "kernel": 1},
        "block": block,
        "tail": after or {"type": "fc", "units": 3},
    }
    return ModelSpec.model_validate({"name": "one", "input": list(size), "layers": layers})


SMOOTH = {"type": "conv", "filters": 4, "kernel": 3, "padding": "same", "activation": "tanh"}
BLOCKS = {
    "conv": {"type": "conv", "filters": 3, "kernel": 3},
    "conv same stride 2": {"type": "conv", "filters": 3, "kernel": [2, 3], "stride": 2, "padding": "same"},
    "conv dilated": {"type": "conv", "filters": 2, "kernel": 3, "dilation": 2, "padding": 2},
    "conv groups": {"type": "conv", "filters": 4, "kernel": 3, "groups": 2, "padding": [0, 1, 2, 0]},
    "conv depthwise": {"type": "conv", "kernel": 3, "groups": "depthwise", "padding": 1},
    "conv depthwise doubled": {"type": "conv", "filters": 8, "kernel": [3, 2], "groups": "depthwise", "flip": True},
    "conv flip": {"type": "conv", "filters": 2, "kernel": [3, 2], "flip": True},
    "conv 1x1": {"type": "conv", "filters": 5, "kernel": 1, "bias": False},
    "conv_transpose": {"type": "conv_transpose", "filters": 3, "kernel": 3, "stride": 2, "activation": "tanh"},
    "conv_transpose same": {"type": "conv_transpose", "filters": 2, "kernel": [3, 1], "stride": 2, "padding": "same"},
    "conv_transpose of everything": {
        "type": "conv_transpose", "filters": 2, "kernel": [3, 2], "stride": [2, 3], "padding": [1, 0, 2, 1],
        "output_padding": [1, 2], "dilation": 2, "groups": 2, "flip": True, "bias": False,
    },
    "conv_transpose depthwise": {"type": "conv_transpose", "filters": 4, "kernel": 2, "stride": 2, "groups": 4},
    "max pool": {"type": "pool", "kernel": 2},
    "max pool overlapping": {"type": "pool", "kernel": 3, "stride": 1, "padding": 1},
    "average pool": {"type": "pool", "kernel": 3, "stride": 2, "padding": 1, "mode": "average"},
    "average pool ceil": {"type": "pool", "kernel": 2, "mode": "average", "ceil_mode": True, "count_include_pad": True},
    "global max": {"type": "global_pool", "mode": "max"},
    "global average": {"type": "global_pool"},
    "flatten": {"type": "flatten"},
    "scale": {"type": "scale", "factor": -0.7, "activation": "tanh"},
    "fc": {"type": "fc", "units": 4, "activation": "tanh"},
    "dropout": {"type": "dropout", "rate": 0.4},
    "spatial_dropout": {"type": "spatial_dropout", "rate": 0.4},
    "drop_path": {"type": "drop_path", "rate": 0.4},
    "lrn": {"type": "lrn", "alpha": 1.0},
    "lrn of two": {"type": "lrn", "size": 2, "alpha": 1.0, "beta": 0.5, "k": 2},
    "batch_norm": {"type": "batch_norm"},
    "group_norm": {"type": "group_norm", "groups": 2},
    "group_norm of one group": {"type": "group_norm", "groups": 1, "epsilon": 1e-3},
    "group_norm frozen": {"type": "group_norm", "groups": 4, "trainable": False},
    "layer_norm": {"type": "layer_norm"},
    "layer_norm frozen": {"type": "layer_norm", "trainable": False},
    "batch_norm frozen": {"type": "batch_norm", "trainable": False},
    "batch_norm with an ending": {"type": "batch_norm", "activation": "tanh"},
    "channel_shuffle": {"type": "channel_shuffle", "groups": 2},
    "sequence": {"type": "sequence", "layers": {"a": SMOOTH, "b": SMOOTH}},
    "residual": {"type": "residual", "layers": {"a": SMOOTH, "b": SMOOTH}, "activation": "tanh"},
    "residual projection": {"type": "residual", "layers": {"a": SMOOTH | {"filters": 6, "stride": 2}}},
    "residual projection with a norm": {
        "type": "residual",
        "layers": {"a": SMOOTH | {"filters": 6, "stride": [2, 1]}, "norm": {"type": "batch_norm"}},
    },
    "residual forced projection": {"type": "residual", "layers": {"a": SMOOTH}, "shortcut": "projection"},
    "residual pad": {"type": "residual", "layers": {"a": SMOOTH | {"filters": 7, "stride": 2}}, "shortcut": "pad"},
    "residual of vectors": {
        "type": "sequence",
        "layers": {
            "flat": {"type": "flatten"},
            "sum": {"type": "residual", "layers": {"a": {"type": "fc", "units": 5, "activation": "tanh"}}},
        },
    },
    "branches concat": {"type": "branches", "branches": {"x": {}, "a": {"a": SMOOTH}, "b": {"a": SMOOTH, "b": SMOOTH}}},
    "branches add": {"type": "branches", "merge": "add", "branches": {"x": {}, "a": {"a": SMOOTH}, "y": {}}},
    "branches multiply": {"type": "branches", "merge": "multiply", "branches": {"x": {}, "a": {"a": SMOOTH}}},
    "squeeze and excite": {
        "type": "branches",
        "merge": "multiply",
        "branches": {
            "x": {},
            "gate": {
                "squeeze": {"type": "global_pool"},
                "reduce": {"type": "conv", "filters": 2, "kernel": 1, "activation": "tanh"},
                "expand": {"type": "conv", "filters": 4, "kernel": 1, "activation": "sigmoid"},
            },
        },
    },
    "merge": {
        "type": "sequence",
        "layers": {
            "a": SMOOTH,
            "b": SMOOTH,
            "c": SMOOTH | {"input": "a"},
            "m": {"type": "merge", "inputs": ["a", "b", "c"], "activation": "tanh"},
            "n": {"type": "merge", "inputs": ["m", "m"], "mode": "multiply"},
        },
    },
    **{f: {"type": "activation", "function": f} for f in (*FUNCTIONS, "softmax")},
    "gelu tanh": {"type": "activation", "function": "gelu", "approximate": "tanh"},
    "prelu": {"type": "activation", "function": "prelu"},
    "prelu frozen": {"type": "activation", "function": "prelu", "trainable": False},
    "leaky_relu steep": {"type": "activation", "function": "leaky_relu", "alpha": 1.7},
}  # fmt: skip


@pytest.mark.parametrize("name", BLOCKS)
def test_every_block(name):
    for seed in range(3):
        assert directional_error(one_block(BLOCKS[name]), seed=seed) < 1e-6


def test_prelu_after_fc():
    prelu = {"type": "activation", "function": "prelu", "alpha": 0.1}
    assert directional_error(one_block({"type": "fc", "units": 6}, after=prelu)) < 1e-6


@pytest.mark.parametrize("norm", [{"type": "batch_norm"}, {"type": "group_norm", "groups": 3}, {"type": "layer_norm"}])
def test_a_norm_after_fc(norm):
    assert directional_error(one_block({"type": "fc", "units": 6}, after=norm)) < 1e-6


@pytest.mark.parametrize("ending", ["softmax", "sigmoid", "tanh", "none"])
@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "sigmoid_cross_entropy", "mse"])
def test_every_loss_behind_every_ending(loss, ending):
    spec = one_block(BLOCKS["conv"], after={"type": "fc", "units": 3, "activation": ending})
    spec = spec.model_copy(update={"loss": ModelSpec.model_validate(spec.model_dump() | {"loss": loss}).loss})
    assert directional_error(spec) < 1e-6


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "sigmoid_cross_entropy", "mse"])
def test_losses_over_pictures(loss):
    """A net without fc: one prediction per position."""
    tree = {
        "name": "map", "input": [4, 5, 2], "loss": loss,
        "layers": {"a": {"type": "conv", "filters": 3, "kernel": 2}},
    }  # fmt: skip
    assert directional_error(ModelSpec.model_validate(tree)) < 1e-6


def test_every_single_gradient_of_a_small_model():
    """Element by element, so that two errors cannot cancel along a direction."""
    spec = one_block(BLOCKS["conv same stride 2"], size=(4, 4, 2))
    built = build(spec, batch=2)
    built.run("forward", "loss", "backward")
    for name, grad in built.exe.grads.items():
        array, exact = built.exe.weights.params[name], grad.copy()
        for at in np.ndindex(array.shape):
            kept = array[at]
            array[at] = kept + STEP
            up = built.loss()
            array[at] = kept - STEP
            down = built.loss()
            array[at] = kept
            assert abs((up - down) / (2 * STEP) - exact[at]) < 1e-6 * max(1, abs(exact[at])), f"{name}{at}"


@pytest.mark.parametrize(
    "loss",
    [
        {"type": "softmax_cross_entropy", "label_smoothing": 0.3, "class_weights": [0.5, 2.0, 0.1]},
        {"type": "sigmoid_cross_entropy", "label_smoothing": 0.3, "pos_weight": 5.0},
    ],
)
def test_losses_with_options(loss):
    ending = loss["type"].split("_")[0]
    layers = {"c": SMOOTH, "tail": {"type": "conv", "filters": 3, "kernel": 2, "activation": ending}}
    spec = ModelSpec.model_validate({"name": "one", "input": [4, 4, 2], "layers": layers, "loss": loss})
    assert directional_error(spec) < 1e-6
