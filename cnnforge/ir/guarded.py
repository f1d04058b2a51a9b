"""Updates that a device can leave out by itself: they read ``skip`` of what it keeps beside the step block."""

from __future__ import annotations

from dataclasses import replace

from cnnforge.ir.graph import GATHERED, Graph, Node


def guarded(g: Graph) -> None:
    """Give ``g.on_device()`` as one more, last input to every update that changes parameters, slots or state.

    A second call changes nothing. What only changes gradients runs always: a left-out update too must take what was
    gathered, or the next one would count it again.
    """
    device = g.on_device()
    g.nodes = [replace(n, ins=(*n.ins, device)) if _lasts(g, n) and device not in n.ins else n for n in g.nodes]


def _lasts(g: Graph, n: Node) -> bool:
    """Is it an update of what a training goes on from?"""
    if n.phase != "update":
        return False
    flat = [g.flat[v] for v in n.outs if v in g.flat]
    return any(v.kind == "state" for v in n.outs) or any(
        r.buffer == "params" or (r.buffer == "slots" and r.slot != GATHERED) for r in flat
    )
