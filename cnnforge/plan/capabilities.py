"""What a planner needs to know of a backend, without importing it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cnnforge.ir.graph import Value
from cnnforge.ir.op import Op, Scratch

#: ``(op, ins, outs, attrs) -> workspace``, in the order in which the kernel takes it.
ScratchRule = Callable[[str, tuple[Value, ...], tuple[Value, ...], Mapping[str, Any]], tuple[Scratch, ...]]


#: ``(op, ins, outs, attrs) -> ways``: by what a node can be computed, the best guess first. Of a shape, the batch
#: counts as it was planned.
WayRule = Callable[[str, tuple[Value, ...], tuple[Value, ...], Mapping[str, Any]], tuple[str, ...]]
FuseRule = Callable[[str, tuple[Value, ...], tuple[Value, ...], Mapping[str, Any]], bool]

#: The way of a node that runs as a Python call. Any other is a compiled kernel of that name.
HOST = "host"


def _one_way(op: str, ins: tuple[Value, ...], outs: tuple[Value, ...], attrs: Mapping[str, Any]) -> tuple[str, ...]:
    return ()


def _always(op: str, ins: tuple[Value, ...], outs: tuple[Value, ...], attrs: Mapping[str, Any]) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do.

    precisions: dtypes it computes in
    ops:        node ops that it has kernels for
    scratch:    workspace formulas
    ways:       by what it can compute a node; a node's attrs then name the one taken, as ``way``. None: there is one
    chains:     ``a+b+c``, run as one kernel: each reads what the one before wrote first, and nobody else does
    joins:      ``a+b+c``: b and c are all that read what a wrote, which is never written; and ``a+b``, where every
                reader has a's work in its own kernel
    pairs:      ``a+b``: b reads what a wrote, which stays, a's outputs first
    sparing:    chains that need not write what nobody reads, beside their first output
    fuses:      does that hold for these shapes and attributes?
    inexact:    ways that round more than the definition does
    inplace:    op -> index of the input whose memory its first output may take over
    tallies:    does it add losses up by itself, so that nobody waits for every one of them? (See ``train_graph``.)
    native:     are kernels of ops without ways compiled as well?
    """

    name: str
    precisions: tuple[str, ...]
    ops: frozenset[str]
    scratch: ScratchRule
    ways: WayRule = _one_way
    chains: frozenset[str] = frozenset()
    joins: frozenset[str] = frozenset()
    pairs: frozenset[str] = frozenset()
    sparing: frozenset[str] = frozenset()
    fuses: FuseRule = _always
    inexact: frozenset[str] = frozenset()
    inplace: Mapping[str, int] = field(default_factory=dict)
    tallies: bool = False
    native: bool = False

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
