"""What the numba backend can do. Imports no Numba and no NumPy: planning reads only this and ``rules``.

A node runs natively where ``is_native`` says so, else by the numpy backend's kernel, and is planned accordingly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from cnnforge.backends.numba.rules import conv, elementwise, linear, lrn, merge, norm, pool, sample_norm
from cnnforge.backends.numba.rules.base import Rule
from cnnforge.backends.numpy import capabilities as numpy
from cnnforge.ir.graph import Value
from cnnforge.ir.op import Scratch
from cnnforge.plan.capabilities import Capabilities

#: Ops with native kernels.
RULES: dict[str, Rule] = {
    **conv.RULES,
    **elementwise.RULES,
    **linear.RULES,
    **lrn.RULES,
    **merge.RULES,
    **norm.RULES,
    **pool.RULES,
    **sample_norm.RULES,
}


def is_native(op: str, ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> bool:
    """Does a compiled kernel run this node, all parts of a chain? ``ins`` and ``outs``: values or arrays."""
    if "+" in op and op not in RULES:
        return all(is_native(part, *read, attrs) for part, read, attrs in parts_of(ins, outs, attrs))
    return op in RULES and str(outs[0].dtype) == "float32" and RULES[op].native(ins, outs, attrs)


def scratch(op: str, ins: tuple[Value, ...], outs: tuple[Value, ...], attrs: Mapping[str, Any]) -> tuple[Scratch, ...]:
    """Workspace of a node; a chain without a kernel of its own needs what its parts need, in order."""
    if "+" not in op or op in RULES:
        if is_native(op, ins, outs, attrs):
            return RULES[op].scratch(ins, outs, attrs)
        return numpy.scratch(op, ins, outs, attrs)
    return sum((scratch(part, *read, part_attrs) for part, read, part_attrs in parts_of(ins, outs, attrs)), ())


def parts_of(
    ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]
) -> Iterator[tuple[str, tuple[tuple[Any, ...], tuple[Any, ...]], Mapping[str, Any]]]:
    """Each part of a chain with what it reads and writes: the first writes the output, the others overwrite it."""
    taken = 0
    for op, extra, part_attrs in attrs["parts"]:
        first = ins[:extra] if not taken else (outs[0], *ins[taken : taken + extra])
        yield op, (first, outs), part_attrs
        taken += extra


def capabilities() -> Capabilities:
    """The numpy backend's, with our own workspace."""
    return replace(
        numpy.capabilities(), name="numba", precisions=("float32", "float64"), scratch=scratch, native=is_native
    )
