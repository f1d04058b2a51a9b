"""Chains that a backend runs as one kernel."""

from __future__ import annotations

from collections.abc import Sequence

from cnnforge.ir.graph import Node, Value
from cnnforge.plan.capabilities import Capabilities


def fuse(nodes: Sequence[Node], capabilities: Capabilities, kept: frozenset[Value]) -> list[Node]:
    """Merge ``head, bias[, tail]`` into one node where nobody else reads what is in between.

    The merged node stands where the chain's last one stood; its op is the names joined by ``+`` and its attrs hold
    each part's own under ``parts``. ``kept`` values are read from outside and never disappear.
    """
    readers: dict[Value, list[Node]] = {}
    for n in nodes:
        for v in n.ins:
            readers.setdefault(v, []).append(n)

    def next_of(n: Node, ops: frozenset[str]) -> Node | None:
        if n.out in kept or len(n.outs) > 1 or len(readers.get(n.out, ())) != 1:
            return None
        (reader,) = readers[n.out]
        same_place = reader.ins[0] is n.out and reader.phase == n.phase
        return reader if same_place and reader.op in ops else None

    merged: dict[Node, Node] = {}  # a chain's last node -> the fused one
    gone: set[Node] = set()
    for head in nodes:
        if head.op not in capabilities.heads:
            continue
        chain = [head]
        if (bias := next_of(head, frozenset({"bias"}))) is not None:
            chain.append(bias)
            if (tail := next_of(bias, capabilities.tails)) is not None:
                chain.append(tail)
        if len(chain) > 1:
            gone.update(chain)
            merged[chain[-1]] = _join(chain)
    return [merged.get(n, n) for n in nodes if n in merged or n not in gone]


def _join(chain: list[Node]) -> Node:
    first, last = chain[0], chain[-1]
    ins = first.ins + tuple(v for n in chain[1:] for v in n.ins[1:])
    parts = tuple((n.op, len(n.ins) - (n is not first), n.attrs) for n in chain)
    return Node("+".join(n.op for n in chain), ins, last.outs, {"parts": parts}, first.phase, first.path)
