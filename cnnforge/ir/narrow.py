"""Where numbers are cast: the one pass that gives a forward graph its precision (Micikevicius et al., ICLR 2018)."""

from __future__ import annotations

from dataclasses import replace

from cnnforge.ir.graph import Graph, Node, Value

#: Ops that a matrix unit computes, and whose second input is a weight that it needs in the dtype of the first.
PRODUCTS = ("conv2d", "conv2d_dx", "matmul")


def narrowed(g: Graph) -> None:
    """Give the forward nodes the graph's precision. To be called before ``backward``, whose rules then follow.

    Mixed: what a forward node reads of a batch and its first output are in the smaller dtype, and so are the weights of
    products. All else stays: biases, what norms learn, measure and keep (a node's further outputs), and whatever is
    read in another phase or given out, for which the smaller value is cast back. TF32: products are marked.
    """
    if g.numbers.tf32:
        g.nodes = [replace(n, attrs={**n.attrs, "tf32": True}) if n.op in PRODUCTS else n for n in g.nodes]
    if g.numbers.mixed:
        _mixed(g)


def _mixed(g: Graph) -> None:
    smaller: dict[Value, Value] = {}
    wanted = {*g.outputs.values(), *(v for n in g.nodes if n.phase != "forward" for v in n.ins)}
    nodes: list[Node] = []

    def small(v: Value) -> Value:
        """The smaller value that stands for ``v``."""
        if v not in smaller:
            smaller[v] = g.value(f"{v.name}.{g.numbers.activations}", v.shape, "act", g.numbers.activations, v.batched)
        return smaller[v]

    def read(n: Node, at: int, v: Value) -> Value:
        of_batch = v.batched and v.dtype == g.dtype
        if not of_batch and not (n.op in PRODUCTS and at == 1):
            return v
        if v not in smaller:  # no forward node made it: an input or a weight
            nodes.append(Node("cast", (v,), (small(v),), {}, n.phase, n.path))
        return small(v)

    for n in g.nodes:
        if n.phase != "forward":
            nodes.append(n)
            continue
        ins = tuple(read(n, at, v) for at, v in enumerate(n.ins))
        first, *others = n.outs
        if not first.batched or first.dtype != g.dtype:
            nodes.append(replace(n, ins=ins))
            continue
        nodes.append(replace(n, ins=ins, outs=(small(first), *others)))
        if first in wanted:
            nodes.append(Node("cast", (small(first),), (first,), {}, n.phase, n.path))
    g.nodes = nodes
