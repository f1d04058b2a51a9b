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
        readers = count_readers(g)
        makers = {n.out: n for n in g.nodes}
        for i, pool in enumerate(g.nodes):
            before = makers.get(pool.ins[0]) if pool.op == "max_pool2d" else None
            if before is None or readers[before.out] > 1 or before.out in g.outputs.values():
                continue
            if before.op in MONOTONE or before.op == "bias":
                _swap(g, g.nodes.index(before), i)
                moved = True
                break


#: Ops whose weights' last axis is that of their outputs' channels.
_LINEAR = ("conv2d", "matmul")


def fold_norms(g: Graph) -> None:
    """Take the batch_norm behind a convolution or fc into its weights, in inference (Jacob et al., CVPR 2018).

    conv(x, w) + b, then gamma (. - mean) / sqrt(var + epsilon) + beta, is conv(x, w s) + (b - mean) s + beta with
    s = gamma / sqrt(var + epsilon). ``fold_batch_norm`` computes those weights at each run, because they learn between
    runs; it costs as much as there are weights, the norm as much as there are activations. Only where the norm alone
    reads what it norms.
    """
    readers = count_readers(g)
    makers = {n.out: n for n in g.nodes}
    for norm in [n for n in g.nodes if n.op == "batch_norm_inference"]:
        x, gamma, beta, mean, var = norm.ins
        last = makers.get(x)
        bias = last if last is not None and last.op == "bias" and readers[x] == 1 else None
        linear = makers.get(bias.ins[0]) if bias is not None else last
        if linear is None or linear.op not in _LINEAR or readers[linear.out] > 1 or linear.out in g.outputs.values():
            continue
        if readers[x] > 1 or x in g.outputs.values() or linear.ins[1].kind != "param":
            continue
        w = linear.ins[1]
        folded = g.value(f"{w.name}.folded", w.shape, "act"), g.value(f"{beta.name}.folded", beta.shape, "act")
        ins = (w, gamma, beta, mean, var, *((bias.ins[1],) if bias else ()))
        fold = Node("fold_batch_norm", ins, folded, norm.attrs, norm.phase, norm.path)
        at = g.nodes.index(linear)
        g.nodes[at : at + 1] = [fold, replace(linear, ins=(linear.ins[0], folded[0]))]
        g.nodes[g.nodes.index(norm)] = Node("bias", (linear.out, folded[1]), norm.outs, {}, norm.phase, norm.path)
        if bias is not None:
            g.nodes.remove(bias)


def count_readers(g: Graph) -> dict[Value, int]:
    """How many places read each value."""
    readers: dict[Value, int] = {}
    for n in g.nodes:
        for v in n.ins:
            readers[v] = readers.get(v, 0) + 1
    return readers


def _swap(g: Graph, at: int, pool_at: int) -> None:
    """before, pool -> pool, before. What the pool gave the other gives, so its readers stay as they are."""
    before, pool = g.nodes[at], g.nodes[pool_at]
    pooled = g.like(pool.out, f"{pool.out.name}.first")
    first = Node(pool.op, (before.ins[0], *pool.ins[1:]), (pooled, *pool.outs[1:]), pool.attrs, pool.phase, pool.path)
    then = replace(before, ins=(pooled, *before.ins[1:]), outs=(pool.out,))
    del g.nodes[pool_at]
    g.nodes[at] = first
    g.nodes.insert(pool_at, then)
