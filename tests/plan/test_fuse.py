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


SUMS = replace(CAPABILITIES, chains=frozenset({"matmul+add", "matmul+add+relu", "matmul+relu_dx", "dropout+add"}))


def test_a_sum_follows_only_one_of_what_it_adds_up(g):
    x = g.input("x", (3,))
    one, other = (g.emit("matmul", x, g.param(name, (3, 3), None, True, (1, 1)), out=(3,)) for name in ("v", "w"))
    g.emit("relu", g.emit("add", one, other, out=(3,)), out=(3,))
    first, fused = fuse(g.nodes, SUMS, frozenset())
    assert (first.op, fused.op) == ("matmul", "matmul+add+relu")
    assert first.out is other
    assert [v.name for v in fused.ins] == ["x", "a.v", other.name]


def test_a_derivative_follows_where_its_dy_may_be_overwritten(g):
    x = g.input("x", (3,))
    dy = g.emit("matmul", x, g.param("w", (3, 3), None, True, (1, 1)), out=(3,))
    g.node("relu_dx", (x, dy), (g.value("dx", (3,), "act", "float32", True),))
    (fused,) = fuse(g.nodes, SUMS, frozenset())
    assert fused.op == "matmul+relu_dx"
    assert [v.name for v in fused.ins] == ["x", "a.w", "x"]
    assert [own for _, own, _ in fused.attrs["parts"]] == [2, 1]


def test_and_nowhere_else(g):
    x = g.input("x", (3,))
    y = g.emit("matmul", x, g.param("w", (3, 3), None, True, (1, 1)), out=(3,))
    g.node("relu_dx", (y, x), (g.value("dx", (3,), "act", "float32", True),))
    assert ops(g, can=SUMS) == ["matmul", "relu_dx"]


def test_what_a_chain_writes_beside_is_there_when_it_is_read(g):
    x, y, mask = g.input("x", (3,)), *(g.value(name, (3,), "act", "float32", True) for name in ("y", "mask"))
    g.node("dropout", (x,), (y, mask))
    g.emit("add", y, x, out=(3,))
    g.emit("tanh", mask, out=(3,))
    assert ops(g, can=SUMS) == ["dropout+add", "tanh"]
    g.nodes[1:] = g.nodes[:0:-1]
    assert ops(g, can=SUMS) == ["dropout", "tanh", "add"]


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


def backward_of_a_pool(g: Graph):
    """winner, dy -> dz, which two nodes read."""
    winner, dy, w = g.input("winner", (3,)), g.input("dy", (3,)), g.param("w", (3, 3), None, True, (1, 1))
    dz = g.emit("unpool", winner, dy, out=(3,))
    dw = g.emit("dw", g.inputs["dy"], dz, out=(3,))
    dx = g.emit("dx", dz, w, out=(3,))
    return winner, dy, dz, dw, dx, w


def test_a_node_joins_all_its_readers_and_its_output_is_gone(g):
    winner, dy, dz, dw, dx, w = backward_of_a_pool(g)
    can = replace(CAPABILITIES, joins=frozenset({"unpool+dw+dx"}))
    (node,) = fuse(g.nodes, can, frozenset())
    assert (node.op, node.ins, node.outs) == ("unpool+dw+dx", (winner, dy, dy, w), (dw, dx))
    assert [taken for _, taken, _ in node.attrs["parts"]] == [2, 1, 1]
    assert [n.op for n in fuse(g.nodes, can, frozenset({dz}))] == ["unpool", "dw", "dx"]


def test_a_node_goes_into_each_reader_only_where_all_have_it(g):
    backward_of_a_pool(g)
    both = replace(CAPABILITIES, joins=frozenset({"unpool+dw", "unpool+dx"}))
    assert ops(g, can=both) == ["unpool+dw", "unpool+dx"]
    assert ops(g, can=replace(CAPABILITIES, joins=frozenset({"unpool+dw"}))) == ["unpool", "dw", "dx"]
    g.emit("tanh", g.nodes[0].out, out=(3,))
    assert ops(g, can=both) == ["unpool", "dw", "dx", "tanh"]


def test_a_pair_keeps_what_the_first_wrote_and_stands_where_it_stood(g):
    _, _, dz, dw, *_ = backward_of_a_pool(g)
    pair, rest = fuse(g.nodes, replace(CAPABILITIES, pairs=frozenset({"unpool+dw"})), frozenset())
    assert (pair.op, pair.outs, rest.op) == ("unpool+dw", (dz, dw), "dx")


def test_what_is_not_ready_where_the_first_stands_is_no_pair(g):
    v = g.emit("first", g.input("x", (3,)), out=(3,))
    later = g.emit("later", g.inputs["x"], out=(3,))
    g.emit("second", v, later, out=(3,))
    assert ops(g, can=replace(CAPABILITIES, pairs=frozenset({"first+second"}))) == ["first", "later", "second"]


def test_of_a_chain_the_first_part_has_to_read_what_a_pair_keeps(g):
    x, other = g.input("x", (3,)), g.input("other", (3,))
    for norm_first in (True, False):
        v = g.emit("conv", x, out=(3,))
        normed = g.emit("norm", v if norm_first else other, out=(3,))
        g.emit("add", normed, other if norm_first else v, out=(3,))
    can = replace(CAPABILITIES, chains=frozenset({"norm+add"}), pairs=frozenset({"conv+norm+add"}))
    assert ops(g, can=can) == ["conv+norm+add", "conv", "norm+add"]
