"""A plan as text: every kernel call in order, and where what it writes lies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cnnforge.errors import dotted
from cnnforge.report.table import by, bytes_text

if TYPE_CHECKING:
    from cnnforge.ir.graph import Value
    from cnnforge.plan import Plan


def plan_text(plan: Plan) -> str:
    """One line per kernel call: what it runs, for whom, and buffer+offset of its outputs and workspace."""
    shared = f"{bytes_text(plan.sizes['arena'])} (without sharing memory {bytes_text(plan.unshared)})"
    lines = [f"plan for backend {plan.backend}, {plan.batch} samples of {plan.dtype}: arena {shared}"]
    for segment in plan.segments:
        lines.append(f"{segment.phase} ({segment.kind})")
        for node in segment.nodes:
            whose = dotted(node.path).removeprefix("model.layers.")
            text = f"  {node.op:<28} {whose:<12} -> {_places(plan, node.outs)}"
            lines.append(text + (f"; workspace {_places(plan, node.scratch)}" if node.scratch else ""))
    return "\n".join(lines)


def _places(plan: Plan, values: Iterable[Value]) -> str:
    texts = []
    for value in values:
        place = plan.places[value]
        texts.append(f"{place.buffer}+{place.offset:,} {by(value.shape) or 'scalar'} {value.dtype}")
    return ", ".join(texts)
