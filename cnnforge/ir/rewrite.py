"""Graphs that give the same numbers for less work."""

from __future__ import annotations

from dataclasses import replace

from cnnforge.ir.graph import Graph, Node, Value

#: Functions that never fall: the largest of what they give is what they give of the largest.
MONOTONE = ("relu", "relu6", "leaky_relu", "elu", "selu", "softplus", "hard_sigmoid", "sigmoid", "tanh")


def pool_first(g: Graph) -> None:
    """Move a bias and a monotone function from before a max pool to behind it, where there is less to do.

    max(f(a + c), f(b + c)) = f(max(a, b) + c) to the bit, because rounding never falls either. Where f is flat the pool
    then finds the largest of what f makes equal; its gradient there is 0 all the same. Only where the pool alone reads
    what is moved. To be called before ``backward``, whose rules then need no large arrays for bias and function.
    """
    moved = True
    while moved:
        moved = False
        readers: dict[Value, int] = {}
        for n in g.nodes:
            for v in n.ins:
                readers[v] = readers.get(v, 0) + 1
        makers = {n.out: n for n in g.nodes}
        for i, pool in enumerate(g.nodes):
            before = makers.get(pool.ins[0]) if pool.op == "max_pool2d" else None
            if before is None or readers[before.out] > 1 or before.out in g.outputs.values():
                continue
            if before.op in MONOTONE or before.op == "bias":
                _swap(g, g.nodes.index(before), i)
                moved = True
                break


def _swap(g: Graph, at: int, pool_at: int) -> None:
    """before, pool -> pool, before. What the pool gave the other gives, so its readers stay as they are."""
    before, pool = g.nodes[at], g.nodes[pool_at]
    pooled = g.like(pool.out, f"{pool.out.name}.first")
    first = Node(pool.op, (before.ins[0], *pool.ins[1:]), (pooled, *pool.outs[1:]), pool.attrs, pool.phase, pool.path)
    then = replace(before, ins=(pooled, *before.ins[1:]), outs=(pool.out,))
    del g.nodes[pool_at]
    g.nodes[at] = first
    g.nodes.insert(pool_at, then)
