"""Backward rules: every op has one, values read twice get the sum, nobody's gradient is not worked out."""

import numpy as np
from hypothesis import given, settings

from cnnforge.backends import create
from cnnforge.backends.numpy.capabilities import CAPABILITIES
from cnnforge.executable import Executable, Weights
from cnnforge.init import Ones
from cnnforge.ir.graph import Graph
from cnnforge.ir.verify import verify
from cnnforge.ir.vjp import FROM_INPUT, FROM_OUTPUT, RULES, backward
from cnnforge.lower import train_graph
from cnnforge.optim.adam import Adam
from cnnforge.plan import make_plan
from tests.strategies import models


@settings(max_examples=60)
@given(models())
def test_every_op_of_a_way_forward_has_a_rule(made):
    g = train_graph(made, 2, "float32", 0, Adam(type="adam"))
    assert {n.op for n in g.nodes if n.phase in ("forward", "loss")} <= RULES.keys()


def test_there_are_no_rules_for_ops_that_nobody_has():
    assert RULES.keys() <= CAPABILITIES.ops
    assert {*FROM_INPUT, *FROM_OUTPUT} <= RULES.keys()


@settings(max_examples=60)
@given(models())
def test_every_gradient_has_the_shape_and_type_of_what_it_belongs_to(made):
    g = train_graph(made, 2, "float32", 0)
    by_name = {v.name: v for v in g.values}
    for v in g.values:
        if v.name.startswith("d("):
            primal = by_name[v.name[2:-1]]
            assert (v.shape, v.dtype, v.batched) == (primal.shape, primal.dtype, primal.batched)


@settings(max_examples=60)
@given(models())
def test_everything_that_is_worked_out_is_read(made):
    """A backward node whose results nobody reads would be time lost in every step."""
    g = train_graph(made, 2, "float32", 0)
    read = {v for n in g.nodes for v in n.ins} | set(g.outputs.values()) | set(g.grads.values())
    for n in g.nodes:
        if n.phase == "backward":
            assert any(v in read for v in n.outs), f"nobody reads {n.outs}"


def tied(batch: int, trainable: bool = True) -> Graph:
    """y = tanh(tanh(x w) w): one weight, read twice; then the squared distance from the labels."""
    g = Graph(batch, "float64", training=True)
    x = g.input("x", (3,))
    g.scope = "tied"
    w = g.param("w", (3, 3), Ones(type="ones"), trainable, (3, 3))
    v = x
    for _ in range(2):
        v = g.emit("tanh", g.emit("matmul", v, w, out=(3,)), out=(3,))
    labels = g.input("labels", (3,))
    g.phase = "loss"
    loss, hits = g.act("mse", ()), g.act("mse.hits", ())
    node = g.node("mse", (v, labels), (loss, hits))
    g.outputs.update(loss=loss, hits=hits, output=v, prediction=v)
    g.phase = "forward"
    backward(g, node)
    verify(g)
    return g


def test_a_weight_that_is_read_twice_gets_the_sum_of_both_gradients():
    g = tied(4)
    assert [n.op for n in g.nodes].count("add") == 1
    assert g.grads["tied.w"].kind == "grad"
    device = create("numpy")
    plan = make_plan(g, device.capabilities)
    weights = Weights(plan, device)
    executable = Executable(plan, device, weights)
    bound = executable.bound(4)
    rng = np.random.default_rng(0)
    x, labels, w = rng.normal(size=(4, 3)), rng.normal(size=(4, 3)), rng.normal(size=(3, 3))
    bound.x[...], bound.labels[...] = x, labels

    def loss(at):
        return (((np.tanh(np.tanh(x @ at) @ at)) - labels) ** 2).mean(axis=1).sum()

    weights.params["tied.w"][...] = w
    bound.run("forward", "loss", "backward")
    assert abs(bound.outputs["loss"].sum() - loss(w)) < 1e-12
    for at in np.ndindex(w.shape):
        h = np.zeros_like(w)
        h[at] = 1e-6
        assert abs((loss(w + h) - loss(w - h)) / 2e-6 - executable.grads["tied.w"][at]) < 1e-7


def test_a_frozen_model_has_no_backward():
    g = tied(4, trainable=False)
    assert not [n for n in g.nodes if n.phase == "backward"]
    assert not g.grads
