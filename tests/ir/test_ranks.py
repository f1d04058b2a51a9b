"""The graph for one of several processes: where they talk, and that nothing else changes."""

import pytest

from cnnforge.ir.graph import Graph
from cnnforge.lower import eval_graph, train_graph
from cnnforge.optim import OPTIMIZERS
from cnnforge.plan import make_plan
from cnnforge.spec import ModelSpec
from tests.building import build

LAYERS = {
    "conv": {"type": "conv", "filters": 2, "kernel": 3, "bias": False},
    "norm": {"type": "batch_norm", "activation": "relu"},
    "out": {"type": "fc", "units": 3, "activation": "softmax"},
}
WEIGHTS = {"type": "softmax_cross_entropy", "class_weights": [1, 2, 3]}


def spec(layers=LAYERS, **more):
    return ModelSpec.model_validate({"name": "t", "input": [4, 4, 1], "layers": layers} | more)


def training(model, ranks, sync=True) -> Graph:
    return train_graph(model, 3, "float64", 0, OPTIMIZERS["sgd"](type="sgd"), ranks=ranks, sync_norms=sync)


def gathers(g: Graph):
    return [(n.phase, n.path[-1], n.out.shape) for n in g.nodes if n.op == "gather_ranks"]


def test_one_process_gathers_nothing():
    assert [n.op for n in training(spec(), 1).nodes] == [n.op for n in training(spec(), 2, sync=False).nodes]
    assert not gathers(training(spec(loss=WEIGHTS), 1))


def test_a_synchronised_norm_gathers_twice():
    g = training(spec(), 4)
    assert gathers(g) == [("forward", "norm", (4, 5)), ("backward", "norm", (4, 5))]
    running = next(n for n in g.nodes if n.op == "batch_norm_running")
    merge = next(n for n in g.nodes if n.op == "batch_norm_merge")
    assert running.ins == (merge.outs[0], merge.outs[2]), "running statistics are of the whole batch"
    assert merge.attrs == {"per_sample": 4}


def test_a_norm_that_no_gradient_goes_through_gathers_once():
    first = {name: LAYERS[name] for name in ("norm", "out")}
    assert gathers(training(spec(first), 2)) == [("forward", "norm", (2, 3))]


@pytest.mark.parametrize("sync", [False, True])
def test_class_weights_are_of_the_whole_batch_always(sync):
    g = training(spec({"out": LAYERS["out"]}, loss=WEIGHTS), 3, sync)
    assert gathers(g) == [("loss", "loss", (3, 2))]
    assert gathers(eval_graph(spec(loss=WEIGHTS), 3, "float64", ranks=3)) == [("loss", "loss", (3, 2))]


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_what_runs_as_python_calls_are_the_gathered_parts(backend):
    device = build(spec(), backend=backend, dtype="float32").exe.backend
    g = train_graph(spec(), 3, "float32", 0, ranks=2, sync_norms=True)
    plan = make_plan(g, device.capabilities)
    host = {n.op for segment in plan.segments if segment.kind == "host" for n in segment.nodes}
    assert {"gather_ranks", "batch_norm_merge", "batch_norm_parts"} <= host
    if backend == "numba":
        assert host == {"gather_ranks", "batch_norm_merge", "batch_norm_parts"}
