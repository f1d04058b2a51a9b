"""A graph for one of several processes: what depends on a whole batch is put together over their shards of it.

``gather_ranks`` alone talks to the others: x and vectors (…) -> (ranks, 1 + K), of each rank the samples in its x and
its vectors side by side; zeros of a rank that computes for company (see ``cnnforge.train.ranks``). Everything behind it
is computed alike on every rank.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from cnnforge.ir.graph import Graph, Node, Value


def over_ranks(g: Graph, ranks: int, norms: bool) -> None:
    """Rewrite a graph with its backward nodes for one of ``ranks`` processes. The gradients stay those of its shard.

    norms: with the mean and variance of whole batches in batch_norm, instead of its shard's own
    Class weights are always divided by their sum over the whole batch.
    """
    nodes: list[Node] = []
    for n in g.nodes:
        if n.op == "batch_norm" and norms:
            nodes += _batch_norm(g, n, ranks)
        elif n.op == "batch_norm_dx" and norms:
            nodes += _batch_norm_dx(g, n, ranks)
        elif n.op in ("class_targets", "mixed_targets") and n.attrs["weights"]:
            nodes += _targets(g, n, ranks)
        else:
            nodes.append(n)
    g.nodes = nodes


def _batch_norm(g: Graph, n: Node, ranks: int) -> list[Node]:
    """The shard's mean and variance by the usual kernel, merged over the ranks; with them x is normalised.

    What the kernel makes of x itself is overwritten: one pass over memory for nothing.
    """
    (x, gamma, beta), (y, mean, var, unbiased) = n.ins, n.outs
    own = tuple(g.like(v, f"{v.name}.of_shard") for v in n.outs)
    gathered, gather = _gather(g, n, ranks, x, own[1], own[2])
    merge = {"per_sample": prod(x.shape[1:-1])}
    return [
        replace(n, outs=own),
        gather,
        Node("batch_norm_merge", (gathered,), (mean, var, unbiased), merge, n.phase, n.path),
        Node("batch_norm_inference", (x, gamma, beta, mean, var), (y,), n.attrs, n.phase, n.path),
    ]


def _batch_norm_dx(g: Graph, n: Node, ranks: int) -> list[Node]:
    """dx reads sums over x, divided by its rows. It gets those over all ranks, times the share that its rows have."""
    x, gamma, mean, var, dgamma, dbeta, dy = n.ins
    gathered, gather = _gather(g, n, ranks, x, dgamma, dbeta)
    parts = tuple(g.like(v, f"{v.name}.part", kind="act") for v in (dgamma, dbeta))
    return [
        gather,
        Node("batch_norm_parts", (x, gathered), parts, {}, n.phase, n.path),
        replace(n, ins=(x, gamma, mean, var, *parts, dy)),
    ]


def _targets(g: Graph, n: Node, ranks: int) -> list[Node]:
    (labels,) = n.ins
    weight = g.value("label_weights", (1,), "act", n.out.dtype)
    gathered, gather = _gather(g, n, ranks, labels, weight)
    own = Node("label_weights", (labels,), (weight,), {"weights": n.attrs["weights"]}, n.phase, n.path)
    return [own, gather, replace(n, ins=(labels, gathered))]


def _gather(g: Graph, n: Node, ranks: int, x: Value, *vectors: Value) -> tuple[Value, Node]:
    size = sum(prod(v.shape) for v in vectors)
    gathered = g.value(f"{vectors[0].name}.gathered", (ranks, 1 + size), "act", vectors[0].dtype)
    return gathered, Node("gather_ranks", (x, *vectors), (gathered,), {}, n.phase, n.path)
