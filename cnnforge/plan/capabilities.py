"""What a planner needs to know of a backend, without importing it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cnnforge.ir.graph import Value
from cnnforge.ir.op import Op, Scratch

#: ``(op, ins, outs, attrs) -> workspace``, in the order in which the kernel takes it.
ScratchRule = Callable[[str, tuple[Value, ...], tuple[Value, ...], Mapping[str, Any]], tuple[Scratch, ...]]


NativeRule = Callable[[str, tuple[Value, ...], tuple[Value, ...], Mapping[str, Any]], bool]


def _never(op: str, ins: tuple[Value, ...], outs: tuple[Value, ...], attrs: Mapping[str, Any]) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do.

    precisions: dtypes it computes in
    ops:        node ops that it has kernels for
    heads, tails: a chain ``head, bias[, tail]`` becomes one kernel call
    inplace:    op -> index of the input whose memory its first output may take over
    scratch:    workspace formulas
    native:     does a compiled kernel run this node? By its op, inputs, outputs and attributes
    """

    name: str
    precisions: tuple[str, ...]
    ops: frozenset[str]
    heads: frozenset[str]
    tails: frozenset[str]
    scratch: ScratchRule
    native: NativeRule = _never
    inplace: Mapping[str, int] = field(default_factory=dict)

    def extended(self, added: Mapping[str, Op]) -> Capabilities:
        """The same with the ops of installed packages."""
        if not added:
            return self

        def scratch(
            op: str, ins: tuple[Value, ...], outs: tuple[Value, ...], attrs: Mapping[str, Any]
        ) -> tuple[Scratch, ...]:
            if op not in added:
                return self.scratch(op, ins, outs, attrs)
            rule = added[op].scratch
            return rule(ins, outs, attrs) if rule else ()

        taken = {name: op.inplace for name, op in added.items() if op.inplace is not None}
        return replace(self, ops=self.ops | added.keys(), inplace={**self.inplace, **taken}, scratch=scratch)
