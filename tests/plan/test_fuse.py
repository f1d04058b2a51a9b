"""What becomes one kernel call, and what must not."""

from dataclasses import replace

import pytest

from cnnforge.backends.numpy.capabilities import CAPABILITIES
from cnnforge.ir.graph import Graph
from cnnforge.plan.fuse import fuse


@pytest.fixture
def g() -> Graph:
    graph = Graph(4, "float32", training=True)
    graph.scope = "a"
    return graph


def chain(g: Graph, *ops: str):
    """x -> matmul -> …; the values on the way."""
    v = g.input("x", (3,))
    values = []
    for op in ops:
        extra = {"matmul": (3, 3), "bias": (3,)}.get(op)
        ins = (v, g.param(f"{op}{len(values)}", extra, None, True, (1, 1))) if extra else (v,)
        attrs = {"alpha": 0.1} if op in ("leaky_relu", "elu") else {}
        v = g.emit(op, *ins, out=(3,), **attrs)
        values.append(v)
    return values


def ops(g: Graph, kept=(), can=CAPABILITIES):
    return [n.op for n in fuse(g.nodes, can, frozenset(kept))]


@pytest.mark.parametrize(
    ("written", "fused"),
    [
        (["matmul", "bias", "relu"], ["matmul+bias+relu"]),
        (["matmul", "bias"], ["matmul+bias"]),
        (["matmul", "bias", "relu", "tanh"], ["matmul+bias+relu", "tanh"]),
        (["matmul", "bias", "leaky_relu", "matmul", "bias", "elu"], ["matmul+bias+leaky_relu", "matmul+bias+elu"]),
        (["matmul", "relu"], ["matmul", "relu"]),
        (["matmul", "bias", "gelu"], ["matmul+bias", "gelu"]),  # its derivative needs its input
        (["matmul", "bias", "softmax"], ["matmul+bias", "softmax"]),
        (["relu", "bias", "relu"], ["relu", "bias", "relu"]),
        (["matmul", "bias", "bias"], ["matmul+bias", "bias"]),
    ],
)
def test_chains(g, written, fused):
    chain(g, *written)
    assert ops(g) == fused


def test_a_fused_node_has_the_chains_ends_and_every_parts_attributes(g):
    values = chain(g, "matmul", "bias", "leaky_relu")
    (node,) = fuse(g.nodes, CAPABILITIES, frozenset())
    assert [v.name for v in node.ins] == ["x", "a.matmul0", "a.bias1"]
    assert node.outs == (values[-1],)
    assert node.attrs == {"parts": (("matmul", 2, {}), ("bias", 1, {}), ("leaky_relu", 0, {"alpha": 0.1}))}


def test_what_is_wanted_from_outside_stays(g):
    product, biased, _ = chain(g, "matmul", "bias", "relu")
    assert ops(g, kept=[product]) == ["matmul", "bias", "relu"]
    assert ops(g, kept=[biased]) == ["matmul+bias", "relu"]


@pytest.mark.parametrize("phase", ["forward", "backward"])
def test_what_somebody_else_reads_stays_whenever_they_read_it(g, phase):
    product, biased, _ = chain(g, "matmul", "bias", "relu")
    g.phase = phase
    g.emit("tanh", biased, out=(3,))
    assert ops(g) == ["matmul+bias", "relu", "tanh"]
    g.emit("tanh", product, out=(3,))
    assert ops(g) == ["matmul", "bias", "relu", "tanh", "tanh"]


def test_a_chain_does_not_reach_into_another_phase(g):
    chain(g, "matmul", "bias")
    g.phase = "output"
    g.emit("sigmoid", g.nodes[-1].out, out=(3,))
    assert ops(g) == ["matmul+bias", "sigmoid"]


def test_a_backend_that_fuses_nothing(g):
    chain(g, "matmul", "bias", "relu")
    assert ops(g, can=replace(CAPABILITIES, chains=frozenset())) == ["matmul", "bias", "relu"]
    assert ops(g, can=replace(CAPABILITIES, chains=frozenset({"matmul+bias"}))) == ["matmul+bias", "relu"]
