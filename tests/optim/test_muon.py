"""Muon over whole models: which tensors are which matrices, what AdamW updates, how large steps are, memory."""

import numpy as np
import pytest
from pydantic import TypeAdapter

from cnnforge.errors import ConfigErrors
from cnnforge.lower import train_graph
from cnnforge.optim import AnyOptimizer
from cnnforge.spec import ModelSpec
from tests.building import build
from tests.optim.test_groups import SPEC, run

#: a u + b u^3 + c u^5 takes singular values from 0.01 up about here (Jordan, 2024).
LEAST, MOST = 0.3, 1.3


def make(**fields):
    return TypeAdapter(AnyOptimizer).validate_python({"type": "muon", **fields})


def updates(optimizer, spec=SPEC):
    graph = train_graph(spec, 2, "float32", 0, optimizer)
    return [n for n in graph.nodes if n.path == ("optimizer",)]


def test_weights_are_matrices_and_the_rest_is_adamws():
    weights, rest = updates(make(weight_decay=0.2, adamw={"lr": 4e-3, "weight_decay": 0.3}))
    assert (weights.op, rest.op) == ("muon", "adamw")
    assert weights.attrs["matrices"] == ((3 * 3 * 2, 4), (3 * 3 * 4, 5), (3 * 3 * 5, 3))
    assert (weights.attrs["weight_decay"], rest.attrs["weight_decay"]) == (0.2, 0.3)
    assert "rate" not in weights.attrs
    assert rest.attrs["rate"] == 4, "the step block's learning rate is Muon's"


def test_groups_count_for_both():
    groups = [{"match": "conv2.*", "lr": 0.5, "weight_decay": 0.7}]
    found = {n.attrs.get("rate", 1): n for n in updates(make(decay="weights", groups=groups, adamw={"lr": 2e-3}))}
    assert found.keys() == {1, 0.5, 2}
    assert found[0.5].attrs["matrices"] == ((3 * 3 * 4, 5),)
    nodes = updates(make(decay="weights", groups=groups, adamw={"lr": 2e-3}))
    shown = [(n.op, n.attrs.get("rate", 1), n.attrs["weight_decay"]) for n in nodes]
    assert shown == [
        ("muon", 1, 0.1), ("muon", 0.5, 0.7), ("muon", 1, 0.1), ("adamw", 2, 0.0), ("adamw", 1, 0.7), ("adamw", 2, 0.0),
    ]  # fmt: skip


def test_the_output_layer_can_be_adamws():
    nodes = updates(make(adamw={"match": ["fc.*"]}))
    assert [(n.op, n.ins[0].shape[0]) for n in nodes] == [
        ("muon", 3 * 3 * 2 * 4 + 3 * 3 * 4 * 5),
        ("adamw", 3 * 3 * 5 * 3 + 4 + 4 + 5 + 3),
    ]


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_what_is_left_to_adamw_is_adamws_to_the_bit(backend):
    fields = {"lr": 0.02, "betas": [0.8, 0.9], "weight_decay": 0.3}
    adamw = TypeAdapter(AnyOptimizer).validate_python({"type": "adamw", **fields})
    alone = run(adamw, 1.0, backend)
    built = run(make(lr=0.02, adamw=fields | {"match": ["*.w"]}), 1.0, backend)
    assert built.exe.slots.keys() == alone.exe.slots.keys()
    for name, p in alone.exe.weights.params.items():
        np.testing.assert_array_equal(built.exe.weights.params[name], p, err_msg=name)


def test_a_pattern_that_fits_nothing():
    with pytest.raises(ConfigErrors) as caught:
        updates(make(adamw={"match": ["fc.*", "ouput.*"]}))
    assert str(caught.value) == (
        "optimizer: no parameter is called ouput.*\n"
        "  where: optimizer.adamw.match[1]\n"
        "  why:   a pattern that fits nothing changes nothing\n"
        "  fix:   a name such as conv1.w, norm1.gamma, norm1.beta"
    )


def test_what_muon_updates_takes_one_slot():
    built = build(SPEC, optimizer=make())
    weights = 8 * (3 * 3 * 2 * 4 + 3 * 3 * 4 * 5 + 3 * 3 * 5 * 3)
    assert built.plan.sizes["slots"] == weights + 2 * 8 * (4 + 4 + 5 + 3)
    assert {key for key in built.exe.slots if key.startswith("fc")} == {"fc.w/mean", "fc.b/mean", "fc.b/square"}


@pytest.mark.parametrize(
    ("way", "wide", "tall"), [("original", 2.0, 1.0), ("match_rms_adamw", 0.2 * 4, 0.2 * 6)]
)  # fmt: skip
def test_the_rate_follows_the_shape(way, wide, tall):
    """outputs/inputs, whichever way the matrix lies."""
    layers = {
        "flat": {"type": "flatten"}, "wide": {"type": "fc", "units": 16}, "thin": {"type": "fc", "units": 36},
        "tall": {"type": "fc", "units": 4},
    }  # fmt: skip
    spec = ModelSpec.model_validate({"name": "net", "input": [2, 2, 1], "layers": layers})
    (weights, _) = updates(make(adjust_lr_fn=way), spec)
    assert weights.attrs["matrices"] == ((4, 16), (16, 36), (36, 4))
    assert weights.attrs["factors"][0] == pytest.approx(wide)
    assert weights.attrs["factors"][2] == pytest.approx(tall)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_steps_are_nearly_orthogonal(backend):
    optimizer = make(weight_decay=0)
    before, after = (run(optimizer, 1.0, backend, steps=steps).exe.weights.params for steps in (0, 1))
    for name in ("conv1.w", "conv2.w", "fc.w"):
        step = (before[name] - after[name]).astype("float64").reshape(-1, before[name].shape[-1]) / 0.1
        values = np.linalg.svd(step, compute_uv=False)
        assert LEAST < values.min() <= values.max() < MOST, name


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_without_a_gradient_weights_only_decay(backend):
    optimizer = make(weight_decay=0.5)
    built = build(SPEC, dtype="float32", optimizer=optimizer, backend=backend)
    before = built.exe.weights.params["fc.w"].copy()
    built.exe.set_step(step=1, draw=0, first=0, lr=0.1, inv_n=1, scalars=optimizer.scalars(1))
    built.bound.run("update")
    np.testing.assert_allclose(built.exe.weights.params["fc.w"], 0.95 * before, rtol=1e-6)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_what_is_not_finite_shows_in_its_tensor(backend):
    optimizer = make()
    built = build(SPEC, dtype="float32", optimizer=optimizer, backend=backend)
    for i, dw in enumerate(built.exe.grads.values()):
        dw[...] = np.random.default_rng(i).normal(size=dw.shape)
    built.exe.grads["conv2.w"][0, 0, 0, 0] = np.nan
    built.exe.set_step(step=1, draw=0, first=0, lr=0.1, inv_n=1, scalars=optimizer.scalars(1))
    built.bound.run("update")
    assert [name for name, p in built.exe.weights.params.items() if not np.isfinite(p).all()] == ["conv2.w"]


@pytest.mark.parametrize("kind", ["lamb", "muon"])
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_clipped_gathered_and_averaged(kind, backend):
    """Two halves of a batch give the step of the whole; ``average`` follows every range."""
    optimizer = TypeAdapter(AnyOptimizer).validate_python({"type": kind, "clip": {"norm": 0.1}})
    whole, halves = (
        build(SPEC, batch=4, dtype="float32", optimizer=optimizer, backend=backend, gather=gather, average=True)
        for gather in (False, True)
    )
    begun = {name: p.copy() for name, p in whole.exe.weights.params.items()}
    for built, parts in ((whole, 1), (halves, 2)):
        for slot in built.exe.slots.values():
            slot[...] = 0
        scalars = optimizer.scalars(1)
        built.exe.set_step(step=1, draw=0, first=0, lr=0.1, inv_n=1 / 8, scalars=scalars, keep=0.5)
        for _ in range(parts):
            for name, dw in built.exe.grads.items():
                dw[...] = np.random.default_rng([*name.encode()]).normal(size=dw.shape) / parts
            if parts == 2:
                built.bound.run("gather")
        built.bound.run("update")
    for name, p in whole.exe.weights.params.items():
        np.testing.assert_allclose(halves.exe.weights.params[name], p, rtol=1e-5, atol=1e-6)
        assert (p != begun[name]).any()
        np.testing.assert_allclose(whole.exe.slots[f"{name}/average"], 0.5 * p, rtol=1e-5, atol=1e-7)
