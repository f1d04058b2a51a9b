"""A plan as text: every kernel call in order, and where what it writes lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnnforge.errors import Path, dotted
from cnnforge.plan import named
from cnnforge.report.table import aligned, by, bytes_text
from cnnforge.spec import layer_of

if TYPE_CHECKING:
    from cnnforge.ir.graph import Value
    from cnnforge.plan import Plan, PlannedNode

HEAD = ("kernel", "layer", "writes", "offset", "shape", "type", "beside it")
LEFT = frozenset(HEAD) - {"offset"}


def plan_text(plan: Plan) -> str:
    """One line per kernel call under its phase: what it runs, for whom, where its output lies.

    writes, offset: the buffer that the first output lies in and the bytes before it
    beside it: further outputs, then arena offset and size of each piece of workspace
    """
    shared = f"{bytes_text(plan.sizes['arena'])} (without sharing memory {bytes_text(plan.unshared)})"
    title = f"plan for backend {plan.backend}, {plan.batch} samples of {plan.precision}: arena {shared}"
    head, *calls = aligned([HEAD, *(_cells(plan, n) for segment in plan.segments for n in segment.nodes)], LEFT)
    lines, rest = [title, "", f"  {head}"], iter(calls)
    for segment in plan.segments:
        lines.append(f"{segment.phase} ({segment.kind})")
        lines += (f"  {next(rest)}" for _ in segment.nodes)
    return "\n".join(lines)


def _cells(plan: Plan, node: PlannedNode) -> tuple[str, ...]:
    first, *others = node.outs
    place = plan.places[first]
    beside = [f"{_place(plan, v)} {by(v.shape) or 'scalar'} {v.dtype}" for v in others]
    space = [f"{_place(plan, v)} {bytes_text(v.nbytes)}" for v in node.scratch]
    return (
        named(node),
        _layer(node.path),
        place.buffer,
        f"{place.offset:,}",
        by(first.shape) or "scalar",
        first.dtype,
        "; ".join([", ".join(beside)] * bool(beside) + ["workspace " + ", ".join(space)] * bool(space)),
    )


def _place(plan: Plan, v: Value) -> str:
    place = plan.places[v]
    return f"{place.buffer}+{place.offset:,}"


def _layer(path: Path) -> str:
    """The layer's name as the table of layers has it."""
    return layer_of(path)[0] or dotted(path)


def plan_json(plan: Plan) -> dict[str, Any]:
    """The same for ``--json``: buffers by size, then every call with the place of all that it reads and writes."""
    return {
        "backend": plan.backend,
        "batch": plan.batch,
        "dtype": plan.precision,
        "buffers": dict(plan.sizes),
        "calls": [
            {
                "phase": segment.phase,
                "kind": segment.kind,
                "kernel": named(node),
                "layer": _layer(node.path),
                "reads": [_value(plan, v) for v in node.ins],
                "writes": [_value(plan, v) for v in node.outs],
                "workspace": [_value(plan, v) for v in node.scratch],
            }
            for segment in plan.segments
            for node in segment.nodes
        ],
    }


def _value(plan: Plan, v: Value) -> dict[str, Any]:
    place = plan.places[v]
    return {"buffer": place.buffer, "offset": place.offset, "shape": list(v.shape), "dtype": v.dtype}
