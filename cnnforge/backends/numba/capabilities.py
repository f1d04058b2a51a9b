"""What the numba backend can do. Imports no Numba and no NumPy: planning reads only this.

A node runs natively where ``is_native`` says so, else by the numpy backend's kernel, and is planned accordingly.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from cnnforge.backends.numpy import capabilities as numpy
from cnnforge.ir.graph import Value
from cnnforge.ir.op import Scratch
from cnnforge.plan.capabilities import Capabilities

#: Threads that kernels may be spread over: workspace that each needs for itself is planned for so many.
THREADS = os.cpu_count() or 1

Choice = Callable[[tuple[Any, ...], tuple[Any, ...], Mapping[str, Any]], bool]
Rule = Callable[[tuple[Any, ...], tuple[Any, ...], Mapping[str, Any]], tuple[Scratch, ...]]


def _always(ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> bool:
    return True


#: Ops with native kernels -> for which shapes and attributes. Of a shape only what is the same for every batch counts.
CHOICES: dict[str, Choice] = {
    "reshape": _always, "relu": _always, "relu_dx": _always, "add": _always,
}  # fmt: skip

#: Workspace of native kernels, where they need any.
SCRATCH: dict[str, Rule] = {}


def is_native(op: str, ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> bool:
    """Does a compiled kernel run this node, all parts of a chain? ``ins`` and ``outs``: values or arrays."""
    if "+" in op:
        return all(is_native(part, *read, attrs) for part, read, attrs in parts_of(ins, outs, attrs))
    return op in CHOICES and str(outs[0].dtype) == "float32" and CHOICES[op](ins, outs, attrs)


def scratch(op: str, ins: tuple[Value, ...], outs: tuple[Value, ...], attrs: Mapping[str, Any]) -> tuple[Scratch, ...]:
    """Workspace of a node; a fused node needs what its parts need in the order of the chain."""
    if "+" not in op:
        if is_native(op, ins, outs, attrs):
            rule = SCRATCH.get(op)
            return rule(ins, outs, attrs) if rule else ()
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
