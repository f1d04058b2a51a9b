"""Which updates read what the device keeps, and so can be left out."""

from cnnforge.ir.graph import Graph
from cnnforge.ir.guarded import guarded
from cnnforge.ir.verify import verify
from cnnforge.lower import train_graph
from cnnforge.optim import OPTIMIZERS
from cnnforge.spec import ModelSpec

LAYERS = {
    "conv": {"type": "conv", "filters": 2, "kernel": 3},
    "norm": {"type": "batch_norm", "activation": "relu"},
    "out": {"type": "fc", "units": 3, "activation": "softmax"},
}


def training() -> Graph:
    spec = ModelSpec.model_validate({"name": "t", "input": [4, 4, 1], "layers": LAYERS})
    clip = {"norm": 1.0}
    optimizer = OPTIMIZERS["sgd"].model_validate({"type": "sgd", "momentum": 0.9, "clip": clip})
    return train_graph(spec, 3, "float64", 0, optimizer, gather=True, average=True)


def readers(g: Graph) -> dict[str, bool]:
    return {n.op: n.ins[-1] is g.on_device() for n in g.nodes if n.phase in ("gather", "update")}


def test_what_lasts_beyond_the_step_can_be_left_out():
    g = training()
    guarded(g)
    verify(g)
    assert readers(g) == {
        "batch_norm_running": True, "gather": False, "take": False, "clip_norm": False, "sgd": True, "average": True,
    }  # fmt: skip
    assert not any(g.on_device() in n.ins for n in g.nodes if n.phase not in ("gather", "update"))


def test_a_second_call_changes_nothing():
    g = training()
    guarded(g)
    once = [(n.op, n.ins) for n in g.nodes]
    guarded(g)
    assert [(n.op, n.ins) for n in g.nodes] == once
