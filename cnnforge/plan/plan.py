"""graph -> plan: fused nodes in order, and a place for every value.

Six buffers: ``params`` (trainable ones first), ``grads``, ``slots``, ``state``, ``step``, and ``arena`` for
everything that lives within one step. Offsets and sizes are in bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from cnnforge import plugins
from cnnforge.errors import BackendError, Path
from cnnforge.ir.graph import Graph, Node, Parameter, Phase, Value
from cnnforge.ir.precision import PRECISIONS
from cnnforge.plan.arena import Request, aligned, lower_bound, place
from cnnforge.plan.capabilities import HOST, Capabilities
from cnnforge.plan.fuse import fuse

PHASES: tuple[Phase, ...] = ("forward", "output", "loss", "backward", "gather", "update")


@dataclass(frozen=True, slots=True)
class Place:
    """``offset`` bytes into ``buffer``."""

    buffer: str
    offset: int


@dataclass(frozen=True, slots=True, eq=False)
class PlannedNode:
    """A node with its workspace."""

    op: str
    ins: tuple[Value, ...]
    outs: tuple[Value, ...]
    scratch: tuple[Value, ...]
    attrs: Mapping[str, Any]
    path: Path
    paths: tuple[Path, ...] = ()


def named(node: PlannedNode) -> str:
    """A kernel call's name: its op, and the way where the backend has several."""
    way = node.attrs.get("way", "compiled")
    return node.op if way in ("compiled", HOST) else f"{node.op} ({way})"


@dataclass(frozen=True, slots=True)
class Segment:
    """Nodes of one phase, in order. ``kind``: ``host`` runs as Python calls, ``native`` as one table of kernels."""

    phase: Phase
    kind: str
    nodes: tuple[PlannedNode, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that binding needs.

    sizes:   bytes per buffer
    unshared: arena bytes if no memory were used twice;  bound: arena bytes that no placement can beat
    activations: arena bytes if kernels needed no workspace
    slots:   where each of the optimizer's lies in ``slots``, by the parameters that have it
    """

    backend: str
    batch: int
    precision: str
    segments: tuple[Segment, ...]
    places: Mapping[Value, Place]
    sizes: Mapping[str, int]
    params: Mapping[str, Parameter]
    state: Mapping[str, tuple[Value, float]]
    grads: Mapping[str, Value]
    slots: Mapping[str, Mapping[str, int]]
    inputs: Mapping[str, Value]
    outputs: Mapping[str, Value]
    unshared: int
    bound: int
    activations: int


#: ``(node, ways) -> way``: which of several ways to take.
Chooser = Callable[[Node, tuple[str, ...]], str]


def first_way(node: Node, ways: tuple[str, ...]) -> str:
    """The backend's best guess."""
    return ways[0]


def make_plan(g: Graph, capabilities: Capabilities, guard: int = 0, choose: Chooser = first_way) -> Plan:
    """Fuse, choose each node's way and memory, and list what runs.

    guard: unused bytes behind every buffer in the arena, for tests that look for kernels writing past their end
    Raises BackendError where the backend has no kernel for a node.
    """
    _can_run(g, capabilities)
    kept = frozenset(g.outputs.values())
    fused = fuse(sorted(g.nodes, key=lambda n: PHASES.index(n.phase)), capabilities, kept)
    _whole(fused)
    nodes = [_settled(n, capabilities, choose) for n in fused]
    scratch = {n: _scratch(g, n, capabilities) for n in nodes}
    places, sizes, slots = _flat_buffers(g)
    arena = _Arena(g, nodes, scratch, capabilities.inplace, guard)
    places.update(arena.places)
    sizes["arena"] = arena.size
    segments = []
    for phase in PHASES:
        here = (n for n in nodes if n.phase == phase)
        for native, group in groupby(here, lambda n: _is_native(n, capabilities)):
            planned = tuple(PlannedNode(n.op, n.ins, n.outs, scratch[n], n.attrs, n.path, n.paths) for n in group)
            segments.append(Segment(phase, "native" if native else "host", planned))
    return Plan(
        capabilities.name, g.batch, g.precision, tuple(segments), places, sizes, g.params, g.state, g.grads, slots,
        g.inputs, g.outputs, arena.unshared, arena.bound, arena.activations,
    )  # fmt: skip


def _whole(nodes: Iterable[Node]) -> None:
    """Assert that what is read was written: fusing has lost nothing."""
    written: set[Value] = set()
    for n in nodes:
        for v in n.ins:
            assert v in written or v.kind not in ("act", "grad"), f"{n.op} at {n.path} reads {v}, which nobody writes"
        written.update(n.outs)


def _settled(n: Node, capabilities: Capabilities, choose: Chooser) -> Node:
    """The node with its way among its attrs, where the backend has any."""
    ways = capabilities.ways(n.op, n.ins, n.outs, n.attrs)
    if not ways:
        return n
    way = choose(n, ways) if len(ways) > 1 else ways[0]
    return replace(n, attrs={**n.attrs, "way": way})


def _is_native(n: Node, capabilities: Capabilities) -> bool:
    return n.attrs["way"] != HOST if "way" in n.attrs else capabilities.native


def require_precision(capabilities: Capabilities, precision: str) -> None:
    """Raise BackendError where a backend does not compute in a precision."""
    if precision not in capabilities.precisions:
        elsewhere = PRECISIONS[precision].backend if precision in PRECISIONS else ""
        raise BackendError(
            f"backend {capabilities.name} does not compute in {precision}",
            where="trainer.precision",
            why=f"it has {', '.join(capabilities.precisions)}",
            fix=(f"trainer.backend={elsewhere}, which needs an NVIDIA GPU, or " if elsewhere else "")
            + f"trainer.precision={capabilities.precisions[0]}",
        )


def _can_run(g: Graph, capabilities: Capabilities) -> None:
    require_precision(capabilities, g.precision)
    missing = sorted({n.op for n in g.nodes} - capabilities.ops)
    for op in missing:
        if unusable := plugins.broken(op):
            raise unusable[0]
    if missing:
        shipped = capabilities.name == "numpy"
        raise BackendError(
            f"backend {capabilities.name} has no kernel for {', '.join(missing)}",
            where="trainer.backend",
            why="every op of a plan needs a kernel",
            fix="an entry point in cnnforge.ops from the package that adds it"
            if shipped
            else "trainer.backend=numpy, which has them all",
        )


def _scratch(g: Graph, n: Node, capabilities: Capabilities) -> tuple[Value, ...]:
    wanted = capabilities.scratch(n.op, n.ins, n.outs, n.attrs)
    return tuple(g.value(f"scratch({n.op})", s.shape, "act", s.dtype, s.batched) for s in wanted)


def _flat_buffers(g: Graph) -> tuple[dict[Value, Place], dict[str, int], dict[str, dict[str, int]]]:
    """Places in everything but the arena, and where each parameter's slots lie, by slot and parameter.

    Tensors lie side by side without gaps.
    """
    places: dict[Value, Place] = {}
    sizes = dict.fromkeys(("params", "grads", "slots", "state", "step"), 0)

    def put(v: Value, buffer: str) -> None:
        places[v] = Place(buffer, sizes[buffer])
        sizes[buffer] += v.nbytes

    for name in g.laid_out():
        put(g.params[name].value, "params")
        if name in g.grads:
            put(g.grads[name], "grads")
    for v, _ in g.state.values():
        put(v, "state")
    for v in g.values:
        if v.kind == "step":
            put(v, "step")
    slots: dict[str, dict[str, int]] = {}
    for here in g.flat.values():
        if here.buffer == "slots":
            slots.setdefault(here.slot, {}).update(dict.fromkeys(here.names, 0))
    for offsets in slots.values():
        for name in offsets:
            offsets[name] = sizes["slots"]
            sizes["slots"] += g.grads[name].nbytes
    for v, here in g.flat.items():
        first = here.names[0]
        if here.buffer == "slots":
            places[v] = Place("slots", slots[here.slot][first])
        else:
            places[v] = places[g.params[first].value if here.buffer == "params" else g.grads[first]]
    return places, sizes, slots


class _Arena:
    """Lifetimes of everything within one step, and where it lies."""

    def __init__(
        self,
        g: Graph,
        nodes: list[Node],
        scratch: Mapping[Node, tuple[Value, ...]],
        inplace: Mapping[str, int],
        guard: int,
    ) -> None:
        in_flat = set(g.grads.values())
        self._here = {
            v for v in g.values if (v.kind in ("input", "act", "grad") and v not in in_flat)
        }  # what lives in the arena
        self._first: dict[Value, int] = {}
        self._last: dict[Value, int] = {}
        self._root: dict[Value, Value] = {}
        self._lifetimes(g, nodes)
        self._share(nodes, inplace, frozenset(g.inputs.values()) | frozenset(g.outputs.values()))

        owners = [v for v in self._first if self._root[v] is v]
        requests = [Request(v.nbytes + guard, self._first[v], self._last[v]) for v in owners]
        spaces = [(s, Request(s.nbytes + guard, i, i)) for i, n in enumerate(nodes) for s in scratch[n]]
        self.activations = place(requests)[1]
        everything = [*requests, *(r for _, r in spaces)]
        offsets, size = place(everything)
        # A greedy placement may by luck be smaller with workspace than without; the arena then has that size too.
        self.activations = min(self.activations, size)
        self.size = size
        self.bound = lower_bound(everything)
        self.unshared = sum(aligned(v.nbytes) for v in self._first) + sum(aligned(s.nbytes) for s, _ in spaces)
        at = dict(zip([*owners, *(s for s, _ in spaces)], offsets, strict=True))
        self.places = {v: Place("arena", at[self._root[v]]) for v in self._first}
        self.places.update({s: Place("arena", at[s]) for s, _ in spaces})

    def _lifetimes(self, g: Graph, nodes: list[Node]) -> None:
        end = len(nodes)
        for v in g.inputs.values():
            self._first[v], self._last[v] = -1, end
        for i, n in enumerate(nodes):
            for v in (*n.ins, *n.outs):
                if v in self._here:
                    self._first.setdefault(v, i)
                    self._last[v] = max(self._last.get(v, -1), i)
        shown = max((i for i, n in enumerate(nodes) if n.phase in ("forward", "output")), default=end)
        for role, v in g.outputs.items():
            if v in self._here and v in self._first:
                # In training, the output is only read by those who stop after the output phase.
                until = shown if g.training and role in ("output", "prediction") else end
                self._last[v] = max(self._last[v], until)
        self._root = {v: v for v in self._first}

    def _share(self, nodes: list[Node], inplace: Mapping[str, int], fixed: frozenset[Value]) -> None:
        """Let a reshape, and an element-wise op that reads its input for the last time, take over its memory."""
        for i, n in enumerate(nodes):
            index = 0 if n.op == "reshape" else inplace.get(n.op)
            if index is None or n.out not in self._root:
                continue
            source = self._root.get(n.ins[index])
            if source is None or source.nbytes < n.out.nbytes or source.dtype != n.out.dtype:
                continue
            if n.op != "reshape" and (self._last[source] != i or n.ins[index] in fixed or source in fixed):
                continue
            self._root[n.out] = source
            self._last[source] = max(self._last[source], self._last[n.out])
