"""Neighbouring nodes that a backend runs as one kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from cnnforge.errors import Path
from cnnforge.ir.graph import Node, Value
from cnnforge.plan.capabilities import Capabilities


def fuse(nodes: Sequence[Node], capabilities: Capabilities, kept: frozenset[Value]) -> list[Node]:
    """Merge what the backend has one kernel for: chains, then joins, then pairs (see ``Capabilities``).

    A merged node's op is the names joined by ``+``. It reads what the first part reads, then what the others read
    beside it; its attrs hold, under ``parts``, each part's op, how many inputs are its own, and its attrs. ``kept``
    values are read from outside and never disappear.
    """
    nodes = _chained(nodes, capabilities, kept)
    if capabilities.joins:
        nodes = _joined(nodes, capabilities, kept)
    if capabilities.pairs:
        nodes = _paired(nodes, capabilities)
    return list(nodes)


def readers_of(nodes: Sequence[Node]) -> dict[Value, list[Node]]:
    """Who reads each value, in order."""
    readers: dict[Value, list[Node]] = {}
    for n in nodes:
        for v in dict.fromkeys(n.ins):
            readers.setdefault(v, []).append(n)
    return readers


def _chained(nodes: Sequence[Node], capabilities: Capabilities, kept: frozenset[Value]) -> Sequence[Node]:
    """Of each chain the longest beginning that has a kernel; the merged node stands where its last part stood."""
    readers = readers_of(nodes)
    place = capabilities.inplace
    beginnings = {name.rsplit("+", i)[0] for name in capabilities.chains for i in range(name.count("+") + 1)}
    merged: dict[Node, Node] = {}  # a chain's last node -> the fused one
    gone: set[Node] = set()
    for head in nodes:
        if head in gone or head.op not in beginnings:
            continue
        chain, name = [head], head.op
        while (reader := _only_reader(chain[-1], readers, kept, place)) is not None:
            if reader in gone or f"{name}+{reader.op}" not in beginnings:
                break
            chain.append(reader)
            name += f"+{reader.op}"
        while len(chain) > 1:
            whole = _chain(chain)
            if whole.op in capabilities.sparing:
                read = tuple(v for v in whole.outs[1:] if v in readers or v in kept)
                whole = replace(whole, outs=(whole.out, *read))
            if whole.op in capabilities.chains and _has(capabilities, whole) and _may_end(nodes, chain):
                gone.update(chain)
                merged[chain[-1]] = whole
                break
            chain.pop()
    return [merged.get(n, n) for n in nodes if n in merged or n not in gone]


def _only_reader(
    n: Node, readers: Mapping[Value, list[Node]], kept: frozenset[Value], place: Mapping[str, int]
) -> Node | None:
    """The one that alone reads what ``n`` wrote first, in the same phase, and where it may be overwritten: in its first
    place, or the one of ``place``; of a sum or a product, in any.
    """
    if n.out in kept or len(readers.get(n.out, ())) != 1:
        return None
    (reader,) = readers[n.out]
    at = place.get(reader.op, 0)
    places = reader.ins if reader.op in ("add", "multiply") else reader.ins[at : at + 1]
    return reader if reader.phase == n.phase and places.count(n.out) == 1 == reader.ins.count(n.out) else None


def _may_end(nodes: Sequence[Node], chain: Sequence[Node]) -> bool:
    """Does nobody read what a chain writes beside its first outputs before its last part has run?"""
    beside = {v for n in chain for v in n.outs[1:]}
    if not beside:
        return True
    begin, end = nodes.index(chain[0]), nodes.index(chain[-1])
    return not any(v in beside for n in nodes[begin:end] for v in n.ins)


def _joined(nodes: Sequence[Node], capabilities: Capabilities, kept: frozenset[Value]) -> Sequence[Node]:
    """A node and all that read its one output, which is then never written: as one, or in each reader's own kernel."""
    readers = readers_of(nodes)
    firsts = {name.split("+")[0] for name in capabilities.joins}
    replaced: dict[Node, Node | None] = {}
    for n in nodes:
        after = readers.get(n.out, [])
        if n.op not in firsts or n in replaced or not after or n.out in kept or len(n.outs) > 1:
            continue
        if any(r in replaced or r.phase != n.phase for r in after):
            continue
        whole = _join(n, after)
        if whole.op in capabilities.joins and _has(capabilities, whole) and _may_wait(nodes, after):
            replaced |= {n: None, **dict.fromkeys(after), after[-1]: whole}
            continue
        alone = [_join(n, [r]) for r in after]
        if all(w.op in capabilities.joins and _has(capabilities, w) for w in alone):
            replaced |= {n: None, **dict(zip(after, alone, strict=True))}
    return [m for n in nodes if (m := replaced.get(n, n)) is not None]


def _may_wait(nodes: Sequence[Node], group: Sequence[Node]) -> bool:
    """Does nobody read what the first of ``group`` write before the last one has run?"""
    written = {v for n in group for v in n.outs}
    begin, end = nodes.index(group[0]), nodes.index(group[-1])
    return not any(v in written for n in nodes[begin : end + 1] for v in n.ins)


def _paired(nodes: Sequence[Node], capabilities: Capabilities) -> Sequence[Node]:
    """A node and one that reads its output, which stays: they run where the first stood."""
    readers = readers_of(nodes)
    firsts = {name.split("+")[0] for name in capabilities.pairs}
    written_at = {v: i for i, n in enumerate(nodes) for v in n.outs}
    replaced: dict[Node, Node | None] = {}
    for i, n in enumerate(nodes):
        if n.op not in firsts:
            continue
        for r in readers.get(n.out, ()):
            ready = all(written_at.get(v, -1) < i or v in n.outs for v in r.ins) and n.out in _first_reads(r)
            if f"{n.op}+{r.op}" in capabilities.pairs and r.phase == n.phase and ready and r not in replaced:
                whole = _pair(n, r)
                if _has(capabilities, whole):
                    replaced |= {n: whole, r: None}
                    break
    return [m for n in nodes if (m := replaced.get(n, n)) is not None]


def _first_reads(n: Node) -> tuple[Value, ...]:
    """What ``n``, or the first part of it, reads."""
    return n.ins[: n.attrs["parts"][0][1]] if "parts" in n.attrs else n.ins


def _has(capabilities: Capabilities, n: Node) -> bool:
    return capabilities.fuses(n.op, n.ins, n.outs, n.attrs)


def _beside(n: Node, v: Value) -> tuple[Value, ...]:
    """What ``n`` reads beside ``v``."""
    return tuple(w for w in n.ins if w is not v)


def _parts(nodes: Sequence[Node], extras: Sequence[tuple[Value, ...]]) -> dict[str, Any]:
    return {"parts": tuple((n.op, len(own), n.attrs) for n, own in zip(nodes, extras, strict=True))}


def _paths(nodes: Sequence[Node]) -> tuple[Path, ...]:
    return tuple(n.path for n in nodes)


def _chain(chain: Sequence[Node]) -> Node:
    first, last = chain[0], chain[-1]
    extras = [first.ins, *(_beside(n, before.out) for before, n in pairwise(chain))]
    outs = (last.out, *(v for n in chain for v in n.outs[1:]))
    ins = tuple(v for own in extras for v in own)
    return Node("+".join(n.op for n in chain), ins, outs, _parts(chain, extras), first.phase, first.path, _paths(chain))


def _join(n: Node, after: Sequence[Node]) -> Node:
    extras = [n.ins, *(_beside(r, n.out) for r in after)]
    ins, outs = tuple(v for own in extras for v in own), tuple(v for r in after for v in r.outs)
    parts = [n, *after]
    op = "+".join(p.op for p in parts)
    return Node(op, ins, outs, _parts(parts, extras), n.phase, after[0].path, _paths(parts))


def _pair(n: Node, r: Node) -> Node:
    extras = [n.ins, _beside(r, n.out)]
    ins = (*extras[0], *extras[1])
    return Node(f"{n.op}+{r.op}", ins, (*n.outs, *r.outs), _parts([n, r], extras), n.phase, r.path, _paths([n, r]))
