"""Who owns which memory of a plan, and whether anybody reads what another has written over."""

from __future__ import annotations

import numpy as np

from cnnforge.backends import capabilities_of
from cnnforge.ir.graph import Value
from cnnforge.plan import Plan

#: Bytes that no two values share a part of.
LINE = 64


class Ownership:
    """Plays a plan on a map of who wrote each line of the arena last: a model of memory that shares no code with it.

    A value may only be read while every line of it is its own. An output may lie on an input only where the backend
    says that the op can, and where nobody wants that input again (which later reads find out).
    """

    def __init__(self, plan: Plan) -> None:
        self.plan, self.inplace = plan, capabilities_of(plan.backend).inplace
        self.owner = np.full(-(-plan.sizes["arena"] // LINE), -1, np.int32)
        self.same: dict[Value, int] = {}  # a reshape is another name for what is there
        for v in plan.inputs.values():
            self.write(v)

    def lines(self, v: Value) -> slice:
        place = self.plan.places[v]
        assert place.offset % LINE == 0
        assert place.offset + v.nbytes <= self.plan.sizes[place.buffer]
        return slice(place.offset // LINE, -(-(place.offset + v.nbytes) // LINE))

    def here(self, values: tuple[Value, ...]) -> list[Value]:
        return [v for v in values if self.plan.places[v].buffer == "arena"]

    def identity(self, v: Value) -> int:
        return self.same.get(v, v.id)

    def write(self, v: Value) -> None:
        self.owner[self.lines(v)] = self.identity(v)

    def read(self, v: Value, why: str) -> None:
        assert (self.owner[self.lines(v)] == self.identity(v)).all(), f"{why} reads {v}, which was overwritten"

    def overlap(self, a: Value, b: Value) -> bool:
        one, other = self.lines(a), self.lines(b)
        return one.start < other.stop and other.start < one.stop

    def play(self, *phases: str) -> None:
        for phase in phases:
            for segment in self.plan.segments:
                if segment.phase == phase:
                    for n in segment.nodes:
                        self._node(n)

    def _node(self, n) -> None:
        ins, outs, scratch = self.here(n.ins), self.here(n.outs), self.here(n.scratch)
        for v in ins:
            self.read(v, n.op)
        if n.op == "reshape":
            (x,), (y,) = ins, outs
            assert self.lines(x) == self.lines(y)
            self.same[y] = self.identity(x)
            return
        allowed = self.inplace.get(n.op)
        for i, v in enumerate(outs):
            for w in (*outs[:i], *scratch):
                assert not self.overlap(v, w), f"{n.op}: {v} lies on {w}"
            for w in ins:
                over = i == 0 and allowed is not None and w is n.ins[allowed]
                assert self.lines(v).start == self.lines(w).start if over and self.overlap(v, w) else True
                assert over or not self.overlap(v, w), f"{n.op}: {v} lies on {w}"
        for i, v in enumerate(scratch):
            for w in (*scratch[:i], *ins):
                assert not self.overlap(v, w), f"{n.op}: workspace {v} lies on {w}"
        for v in (*scratch, *outs):
            self.write(v)

    def outputs(self, *roles: str) -> None:
        for role in roles:
            self.read(self.plan.outputs[role], f"whoever asked for {role}")
