"""From a graph to places and segments. What lies where and when is tried in tests/conformance/test_memory.py."""

from cProfile import Profile
from dataclasses import replace

import pytest
from hypothesis import given, settings

from cnnforge.backends.numpy.capabilities import CAPABILITIES
from cnnforge.errors import BackendError
from cnnforge.ir.graph import STEP_FIELDS, Graph
from cnnforge.lower import eval_graph, train_graph
from cnnforge.optim.adam import Adam
from cnnforge.plan import PHASES, make_plan, require_precision
from cnnforge.plan.capabilities import HOST
from cnnforge.plan.forecast import memory
from cnnforge.spec import ModelSpec
from tests.nets import plain_deep, plain_mobilenet, plain_resnet20, plain_vgg
from tests.strategies import models

ADAM = Adam(type="adam")
SPEC = ModelSpec.model_validate(
    {
        "name": "m",
        "input": [6, 6, 2],
        "layers": {
            "a": {"type": "conv", "filters": 3, "kernel": 3, "activation": "relu"},
            "n": {"type": "batch_norm"},
            "d": {"type": "dropout"},
            "b": {"type": "fc", "units": 3, "activation": "softmax"},
        },
    }
)


def test_a_backend_that_does_not_compute_in_a_precision():
    with pytest.raises(BackendError) as caught:
        make_plan(eval_graph(SPEC, 2, "bfloat16"), CAPABILITIES)
    assert str(caught.value) == (
        "backend numpy does not compute in bfloat16\n"
        "  where: trainer.precision\n"
        "  why:   it has float32, float64\n"
        "  fix:   trainer.backend=cupy, which needs an NVIDIA GPU, or trainer.precision=float32"
    )


def test_a_precision_that_nobody_has():
    with pytest.raises(BackendError) as caught:
        require_precision(CAPABILITIES, "int4")
    assert str(caught.value).endswith(
        "does not compute in int4\n"
        "  where: trainer.precision\n"
        "  why:   it has float32, float64\n"
        "  fix:   trainer.precision=float32"
    )


def test_a_backend_without_a_kernel():
    can = replace(CAPABILITIES, name="little", ops=CAPABILITIES.ops - {"relu", "matmul"})
    with pytest.raises(BackendError) as caught:
        make_plan(eval_graph(SPEC, 2, "float32"), can)
    assert caught.value.what == "backend little has no kernel for matmul, relu"
    assert caught.value.fix == "trainer.backend=numpy, which has them all"


def test_a_node_that_fusing_loses_is_no_plan(monkeypatch):
    g = train_graph(SPEC, 2, "float32", 0, ADAM)
    lost = next(n for n in g.nodes if n.op == "batch_norm")
    monkeypatch.setattr("cnnforge.plan.plan.fuse", lambda nodes, *rest: [n for n in nodes if n is not lost])
    with pytest.raises(AssertionError, match=r"reads .*batch_norm.*, which nobody writes"):
        make_plan(g, CAPABILITIES)


@settings(max_examples=40)
@given(models())
def test_segments_follow_the_phases_and_every_node_is_in_one(made):
    graph = train_graph(made, 2, "float32", 0, ADAM)
    plan = make_plan(graph, CAPABILITIES)
    phases = [s.phase for s in plan.segments]
    assert phases == sorted(phases, key=PHASES.index)
    planned = [op for s in plan.segments for n in s.nodes for op in n.op.split("+")]
    assert sorted(planned) == sorted(n.op for n in graph.nodes)


def test_neighbours_that_are_compiled_are_one_segment():
    compiled = ("batch_norm", "dropout", "relu_dx")
    can = replace(CAPABILITIES, ways=lambda op, ins, outs, attrs: ("fast",) if op in compiled else (HOST,))
    plan = make_plan(train_graph(SPEC, 2, "float32", 0, ADAM), can)
    kinds = [(s.phase, s.kind, [n.op for n in s.nodes]) for s in plan.segments]
    assert kinds[:3] == [
        ("forward", "host", ["conv2d+bias+relu"]),
        ("forward", "native", ["batch_norm", "dropout"]),
        ("forward", "host", ["reshape", "matmul+bias"]),
    ]
    assert ("backward", "native", ["relu_dx"]) in kinds


@settings(max_examples=40)
@given(models())
def test_planning_is_a_function(made):
    """The same graph gives the same offsets: what a resumed run and another rank rely on."""
    plans = [make_plan(train_graph(made, 2, "float32", 0, ADAM), CAPABILITIES) for _ in range(2)]
    shown = [[(v.name, v.shape, p.buffer, p.offset) for v, p in plan.places.items()] for plan in plans]
    assert shown[0] == shown[1]
    assert plans[0].sizes == plans[1].sizes


@settings(max_examples=40)
@given(models())
def test_every_plan_of_a_model_lays_its_weights_out_alike(made):
    plans = [
        make_plan(train_graph(made, 4, "float32", 0, ADAM), CAPABILITIES),
        make_plan(train_graph(made, 2, "float32", 1), CAPABILITIES, guard=64),
        make_plan(eval_graph(made, 3, "float32"), CAPABILITIES),
    ]
    shown = [
        {v.name: place for v, place in plan.places.items() if place.buffer in ("params", "state") and v.kind != "flat"}
        for plan in plans
    ]
    assert shown[0] == shown[1] == shown[2]
    assert len({(plan.sizes["params"], plan.sizes["state"]) for plan in plans}) == 1


def test_the_forecast_names_every_purpose():
    train, inference = (
        make_plan(g, CAPABILITIES) for g in (train_graph(SPEC, 4, "float32", 0, ADAM), eval_graph(SPEC, 8, "float32"))
    )
    shown = memory(train, inference)
    weights = 4 * (3 * 3 * 2 * 3 + 3 + 3 + 3 + 48 * 3 + 3)
    assert shown["params"] == shown["gradients"] == weights
    assert shown["optimizer"] == 2 * weights
    assert shown["state"] == 4 * (3 + 3) + 8 * len(STEP_FIELDS)
    assert shown["activations"] + shown["workspace"] == max(train.sizes["arena"], inference.sizes["arena"])


def test_an_eval_plan_holds_no_gradients_or_slots():
    sizes = make_plan(eval_graph(SPEC, 4, "float32"), CAPABILITIES).sizes
    assert sizes["grads"] == sizes["slots"] == sizes["step"] == 0


def test_what_a_later_phase_reads_is_not_fused_away():
    g = Graph(2, "float32", training=True)
    g.scope = "a"
    x, w, b = g.input("x", (3,)), *(g.param(n, s, None, True, (1, 1)) for n, s in (("w", (3, 3)), ("b", (3,))))
    biased = g.emit("bias", g.emit("matmul", x, w, out=(3,)), b, out=(3,))
    g.outputs["output"] = g.emit("relu", biased, out=(3,))
    g.phase = "backward"
    g.emit("tanh", biased, out=(3,))
    plan = make_plan(g, CAPABILITIES)
    assert [n.op for s in plan.segments for n in s.nodes] == ["matmul+bias", "relu", "tanh"]


def test_a_net_twice_as_deep_takes_twice_the_work_to_plan():
    """Calls are counted, not seconds, which are the machine's as much as ours; a thousand nodes take 0.1 to 0.2 s."""
    half, whole = (train_graph(plain_deep(triples), 64, "float32", 0, ADAM) for triples in (50, 100))
    assert len(whole.nodes) > 900
    assert calls_to_plan(whole) < 2.5 * calls_to_plan(half)
    plan = make_plan(whole, CAPABILITIES)
    assert plan.sizes["arena"] == plan.bound


def calls_to_plan(graph: Graph) -> int:
    """How many functions, Python's and C's, are called to plan it."""
    profile = Profile()
    profile.runcall(make_plan, graph, CAPABILITIES)
    return sum(entry.callcount for entry in profile.getstats())


@pytest.mark.parametrize("net", [plain_vgg, plain_resnet20, plain_mobilenet])
def test_little_of_the_arena_is_wasted(net):
    plan = make_plan(train_graph(net(), 64, "float32", 0, ADAM), CAPABILITIES)
    assert plan.sizes["arena"] <= 1.03 * plan.bound
