"""Groups of parameters with rates of their own: which node updates what, what is frozen, mistakes."""

import numpy as np
import pytest
from pydantic import TypeAdapter

from cnnforge import Model, check
from cnnforge.backends import create
from cnnforge.errors import ConfigErrors
from cnnforge.lower import train_graph
from cnnforge.optim import AnyOptimizer
from cnnforge.spec import ModelSpec, RunSpec
from tests.building import build

LAYERS = {
    "conv1": {"type": "conv", "filters": 4, "kernel": 3, "bias": False},
    "norm1": {"type": "batch_norm", "activation": "relu"},
    "conv2": {"type": "conv", "filters": 5, "kernel": 3, "activation": "relu"},
    "fc": {"type": "fc", "units": 3, "activation": "softmax"},
}
SPEC = ModelSpec.model_validate({"name": "net", "input": [7, 7, 2], "layers": LAYERS})
WIDE = ModelSpec.model_validate(
    {"name": "wide", "input": [7, 7, 2], "layers": LAYERS | {"conv2": LAYERS["conv2"] | {"filters": 400}}}
)
FROZEN = [{"match": "conv1.*", "frozen": True}, {"match": "norm1.*", "frozen": True}]
EACH = [
    {"type": "sgd", "momentum": 0.9, "weight_decay": 0.1},
    {"type": "rmsprop", "momentum": 0.9, "weight_decay": 0.1},
    {"type": "adam", "weight_decay": 0.1},
    {"type": "adamw", "weight_decay": 0.1},
    {"type": "lamb", "weight_decay": 0.1},
    {"type": "lamb", "weight_decay": 0.1, "adapt": "all"},
    {"type": "muon", "weight_decay": 0.1},
    {"type": "muon", "weight_decay": 0.1, "adamw": {"match": ["fc.w"], "weight_decay": 0.1}},
]


def make(**fields):
    return TypeAdapter(AnyOptimizer).validate_python(
        fields if "type" in fields else {"type": "sgd", "momentum": 0.9} | fields
    )


def updates(optimizer):
    graph = train_graph(SPEC, 2, "float32", 0, optimizer)
    return graph, [n for n in graph.nodes if n.path == ("optimizer",)]


def test_without_groups_one_node_updates_everything():
    graph, (node,) = updates(make())
    assert node.ins[0].shape == (sum(np.prod(p.value.shape) for p in graph.params.values()),)
    assert "rate" not in node.attrs


def test_decay_of_weights_makes_two_nodes_and_spares_biases_and_norms():
    graph, nodes = updates(make(decay="weights", weight_decay=0.1))
    assert [n.attrs["weight_decay"] for n in nodes] == [0.1, 0.0]
    sizes = [sum(np.prod(graph.params[f"{name}.w"].value.shape) for name in ("conv1", "conv2", "fc")), 4 + 4 + 5 + 3]
    assert [n.ins[0].shape[0] for n in nodes] == sizes


def test_the_last_group_that_fits_counts_and_its_own_decay_is_for_vectors_too():
    groups = [{"match": "conv?.*", "lr": 0.5}, {"match": "*.b", "lr": 2, "weight_decay": 0.3}]
    optimizer = make(decay="weights", weight_decay=0.1, groups=groups)
    assert optimizer.rates("conv2.w", False) == (0.5, 0.1)
    assert optimizer.rates("conv2.b", True) == (2, 0.3)
    assert optimizer.rates("norm1.gamma", True) == (1, 0)


def test_what_is_frozen_gets_no_gradient_and_the_way_back_ends_there():
    graph, _ = updates(make(groups=FROZEN))
    assert set(graph.grads) == {"conv2.w", "conv2.b", "fc.w", "fc.b"}
    ops = [n.op for n in graph.nodes if n.phase == "backward"]
    assert ops.count("conv2d_dw") == 1
    assert not {"conv2d_dx", "batch_norm_dx", "batch_norm_dparams"} & set(ops)


@pytest.mark.parametrize("fields", EACH, ids=str)
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_each_range_is_updated_as_by_an_optimizer_of_its_own(fields, backend):
    """Three steps on fixed gradients; a frozen tensor between trained ones splits the flat buffer."""
    groups = [
        {"match": "conv1.w", "lr": 0.25}, {"match": "conv2.w", "frozen": True}, {"match": "fc.*", "weight_decay": 0.5},
    ]  # fmt: skip
    mixed = make(**fields, decay="weights", groups=groups)
    expected = {"conv1.w": (0.25, 0.1), "fc.w": (1, 0.5), "fc.b": (1, 0.5), "conv2.b": (1, 0), "norm1.beta": (1, 0)}
    built = run(mixed, 1.0, backend)
    before = run(mixed, 1.0, backend, steps=0)
    np.testing.assert_array_equal(built.exe.weights.params["conv2.w"], before.exe.weights.params["conv2.w"])
    for name, (rate, decay) in expected.items():
        theirs = {"adamw": fields.get("adamw", {}) | {"weight_decay": decay}} if fields["type"] == "muon" else {}
        alone = run(make(**fields | {"weight_decay": decay} | theirs), rate, backend)
        ours, theirs = built.exe.weights.params[name], alone.exe.weights.params[name]
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7, err_msg=name)
        assert abs(ours - before.exe.weights.params[name]).max() > 1e-4
        for key in (f"{name}/{slot}" for slot in mixed.rule(name, name.split(".")[1] != "w").slots()):
            np.testing.assert_allclose(built.exe.slots[key], alone.exe.slots[key], rtol=1e-6, atol=1e-7, err_msg=key)


def run(optimizer, rate, backend, steps=3, spec=SPEC):
    built = build(spec, dtype="float32", optimizer=optimizer, backend=backend)
    for slot in built.exe.slots.values():
        slot[...] = 0
    for step in range(steps):
        for name, dw in built.exe.grads.items():
            dw[...] = np.random.default_rng([step, *name.encode()]).normal(size=dw.shape)
        scalars = optimizer.scalars(step + 1)
        built.exe.set_step(step=step + 1, draw=step, first=0, lr=0.1 * rate, inv_n=1 / 3, scalars=scalars)
        built.bound.run("update")
    return built


def test_slots_and_gradients_of_frozen_parameters_take_no_memory():
    whole, part = (build(SPEC, optimizer=make(groups=groups)).plan for groups in ([], FROZEN))
    frozen = 8 * (3 * 3 * 2 * 4 + 4 + 4)
    assert whole.sizes["grads"] - part.sizes["grads"] == frozen
    assert whole.sizes["slots"] - part.sizes["slots"] == frozen
    assert whole.sizes["params"] == part.sizes["params"]


def test_check_counts_what_is_trained():
    whole = check(SPEC)
    frozen = check(RunSpec.model_validate({"model": SPEC, "optimizer": {"type": "sgd", "groups": FROZEN}}))
    assert whole.trainable_params == whole.params == frozen.params
    assert frozen.params - frozen.trainable_params == 3 * 3 * 2 * 4 + 4 + 4


def test_one_model_trained_by_one_optimizer_after_another_keeps_its_weights_in_place():
    """Frozen weights stay to the bit, and prediction reads the weights that training wrote."""
    model = Model({"name": "net", "input": [7, 7, 2], "layers": LAYERS}, backend="numpy")
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(12, 7, 7, 2)), rng.integers(0, 3, 12)
    first = model.params["conv1.w"].copy()
    model.fit(x, labels, epochs=2, batch_size=4, optimizer={"type": "sgd", "lr": 0.1, "groups": FROZEN})
    np.testing.assert_array_equal(model.params["conv1.w"], first)
    again = Model({"name": "net", "input": [7, 7, 2], "layers": LAYERS}, backend="numpy")
    for name, array in model.params.items():
        again.params[name] = array
    for name, array in model.state.items():
        again.state[name] = array
    np.testing.assert_array_equal(model.predict(x), again.predict(x))
    model.fit(x, labels, epochs=1, batch_size=4, optimizer={"type": "adam"})
    assert (model.params["conv1.w"] != first).any()


@pytest.mark.parametrize(
    ("groups", "text"),
    [
        (
            [{"match": "fc.*"}, {"match": "cov1.*"}],
            "optimizer: no parameter is called cov1.*\n"
            "  where: optimizer.groups[1].match\n"
            "  why:   a pattern that fits nothing changes nothing\n"
            "  fix:   did you mean 'conv1.*'?",
        ),
        (
            [{"match": "zzz"}],
            "optimizer: no parameter is called zzz\n"
            "  where: optimizer.groups[0].match\n"
            "  why:   a pattern that fits nothing changes nothing\n"
            "  fix:   a name such as conv1.w, norm1.gamma, norm1.beta",
        ),
        (
            [{"match": "*", "frozen": True}],
            "optimizer: its groups freeze every parameter\n"
            "  where: optimizer.groups\n"
            "  why:   there is nothing left to train\n"
            "  fix:   frozen: true for fewer of them",
        ),
    ],
)
def test_mistakes(groups, text):
    with pytest.raises(ConfigErrors) as caught:
        train_graph(SPEC, 2, "float32", 0, make(groups=groups))
    assert str(caught.value) == text


def test_the_number_of_threads_changes_no_bit(monkeypatch):
    optimizer = make(type="adam", decay="weights", weight_decay=0.1, groups=[{"match": "conv2.*", "lr": 0.5}])
    one, two = (threaded(monkeypatch, threads, optimizer) for threads in (1, 2))
    for name, array in one.items():
        np.testing.assert_array_equal(array, two[name], err_msg=name)


def threaded(monkeypatch, threads, optimizer):
    """Weights and slots after three updates of a layer that is several pieces long."""
    with monkeypatch.context() as m:
        m.setattr("tests.building.create", lambda name: create(name, threads))
        exe = run(optimizer, 1.0, "numba", spec=WIDE).exe
    return {name: array.copy() for name, array in (exe.weights.params | exe.slots).items()}
