"""Seconds from costs: no machine is measured here. Bytes are tried in tests/conformance/test_forecast.py."""

from __future__ import annotations

import pytest

from cnnforge.backends.cupy.capabilities import capabilities as of_cupy
from cnnforge.backends.numpy.capabilities import CAPABILITIES
from cnnforge.lower import train_graph
from cnnforge.optim.adam import Adam
from cnnforge.plan import Plan, make_plan
from cnnforge.plan.forecast import STEP, measuring_batch, memory, signature, step_seconds, training_nodes
from cnnforge.spec import ModelSpec
from tests.nets import plain_deep, plain_resnet20

SPEC = {
    "name": "m",
    "input": [6, 6, 2],
    "layers": {
        "a": {"type": "conv", "filters": 2, "kernel": 3, "padding": "same", "activation": "relu"},
        "b": {"type": "conv", "filters": 2, "kernel": 3, "padding": "same", "activation": "relu"},
        "d": {"type": "dropout", "rate": 0.5},
        "e": {"type": "dropout", "rate": 0.5},
        "out": {"type": "fc", "units": 3, "activation": "softmax"},
    },
}


def planned(batch: int, spec: dict | None = None, seed: int = 0) -> Plan:
    model = ModelSpec.model_validate(spec or SPEC)
    return make_plan(train_graph(model, batch, "float32", seed, Adam(type="adam")), CAPABILITIES)


def signatures(plan: Plan, batch: int) -> list[str]:
    return [signature(node, batch) for node in training_nodes(plan)]


def test_equal_calls_share_a_signature_whatever_their_layer_and_random_stream() -> None:
    plan = planned(4)
    names = dict(zip(((n.op, n.path[-1]) for n in training_nodes(plan)), signatures(plan, 4), strict=True))
    assert names["conv2d+bias+relu", "a"] == names["conv2d+bias+relu", "b"]
    assert names["dropout", "d"] == names["dropout", "e"]
    assert names["conv2d+bias+relu", "a"] != names["conv2d_dw", "a"]
    assert signatures(plan, 4) == signatures(planned(4, seed=7), 4)


def test_a_signature_is_of_the_batch_asked_for() -> None:
    assert signatures(planned(64), 4) == signatures(planned(4), 4)
    assert signatures(planned(64), 4) != signatures(planned(64), 64)
    doubled = {**SPEC, "input": [12, 6, 2]}
    assert not set(signatures(planned(4), 4)[:3]) & set(signatures(planned(4, doubled), 4)[:3])


def test_half_activations_take_half_the_memory() -> None:
    """All but the pictures, the masks of dropout and what is as small as weights and logits."""
    layers = {**SPEC["layers"], "a": SPEC["layers"]["a"] | {"filters": 16}, "b": SPEC["layers"]["b"] | {"filters": 16}}
    model = ModelSpec.model_validate({**SPEC, "input": [32, 32, 1], "layers": layers})
    full, half, tf32 = (
        memory(make_plan(train_graph(model, 64, precision, 0, Adam(type="adam")), of_cupy()))
        for precision in ("float32", "bfloat16", "tf32")
    )
    assert tf32 == full
    same = ("params", "gradients", "optimizer", "state")
    assert [half[name] for name in same] == [full[name] for name in same]
    pictures, masks = 64 * 32 * 32 * 4, 2 * 64 * 32 * 32 * 16
    large = full["activations"] - pictures - masks
    assert half["activations"] - pictures - masks == pytest.approx(large / 2, rel=0.1)


def test_a_step_is_the_sum_of_its_calls() -> None:
    plan = planned(4)
    names = signatures(plan, 4)
    costs = {name: 2.0**i for i, name in enumerate(dict.fromkeys(names))} | {STEP: 0.5}
    assert step_seconds(plan, costs, 4) == 0.5 + sum(costs[name] for name in names)
    for missing in (STEP, names[3]):
        assert step_seconds(plan, {n: c for n, c in costs.items() if n != missing}, 4) is None


def test_only_what_works_on_the_batch_is_scaled() -> None:
    plan = planned(64)
    names = signatures(plan, 4)
    costs = dict.fromkeys(names, 0.0) | {STEP: 0.0}
    update = names[-1]
    assert [n.op for n in training_nodes(plan)][-1] == "adam"
    assert step_seconds(plan, costs | {update: 1.0}, 4) == 1.0
    assert step_seconds(plan, costs | {names[0]: 1.0}, 4) == 16 * names.count(names[0])


@pytest.mark.parametrize(
    ("net", "batch", "fewer"), [(plain_resnet20, 64, False), (plain_deep, 64, True), (plain_resnet20, 4096, True)]
)
def test_long_or_large_steps_are_measured_with_fewer_samples(net, batch, fewer) -> None:
    model = net()
    plan = make_plan(train_graph(model, batch, "float32", 0, Adam(type="adam")), CAPABILITIES)
    found = measuring_batch(plan, sum(row.macs for row in model.table))
    assert 1 <= found <= batch
    assert (found < batch) == fewer
    assert plan.sizes["arena"] * found / batch <= 1 << 30
