"""What the numba backend can do. Imports no Numba and no NumPy: planning reads only this and ``rules``.

A node goes one of its ``ways``: a compiled kernel's, or HOST, which is the numpy backend's kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from cnnforge.backends.numba.rules import (
    activation,
    bias,
    conv,
    dropout,
    elementwise,
    fold,
    linear,
    loss,
    lrn,
    merge,
    norm,
    optimizer,
    pool,
    sample_norm,
    samples,
)
from cnnforge.backends.numba.rules.base import Rule
from cnnforge.backends.numpy import capabilities as numpy
from cnnforge.ir.graph import Value
from cnnforge.ir.op import Scratch
from cnnforge.plan.capabilities import HOST, Capabilities

#: Ops with native kernels.
RULES: dict[str, Rule] = {
    **activation.RULES,
    **bias.RULES,
    **conv.RULES,
    **dropout.RULES,
    **elementwise.RULES,
    **fold.RULES,
    **linear.RULES,
    **loss.RULES,
    **lrn.RULES,
    **merge.RULES,
    **norm.RULES,
    **optimizer.RULES,
    **pool.RULES,
    **sample_norm.RULES,
    **samples.RULES,
}


def ways(op: str, ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> tuple[str, ...]:
    """By what a node can be computed. A chain without a kernel of its own goes the ways of its first part."""
    if op in RULES:
        rule = RULES[op]
        if str(outs[0].dtype) == "float32" and rule.native(ins, outs, attrs):
            return rule.ways(ins, outs, attrs)
        return (HOST,)
    if "+" not in op:
        return (HOST,)
    head, *tail = parts_of(ins, outs, attrs)
    native = all(ways(name, *arrays, own) != (HOST,) for name, arrays, own in tail)
    return ways(head[0], *head[1], head[2]) if native else (HOST,)


def fuses(op: str, ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> bool:
    """Is a fused node better than its parts?"""
    if op in RULES:
        return ways(op, ins, outs, attrs) != (HOST,) and RULES[op].fuses(ins, outs, attrs)
    return op in numpy.CAPABILITIES.chains


def parts_of(
    ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]
) -> Iterator[tuple[str, tuple[tuple[Any, ...], tuple[Any, ...]], Mapping[str, Any]]]:
    """Each part of a chain with what it reads and writes: the first writes the output, the others overwrite it.

    The first goes the chain's way, the others their own. Neighbours behind it that have one kernel are one part.
    """
    taken, parts = 0, list(attrs["parts"])
    while parts:
        op, extra, part_attrs = parts.pop(0)
        if taken and parts and f"{op}+{parts[0][0]}" in RULES and str(outs[0].dtype) == "float32":
            op = f"{op}+{parts.pop(0)[0]}"
        first = ins[:extra] if not taken else (outs[0], *ins[taken : taken + extra])
        way = attrs.get("way", "") if not taken else ways(op, first, outs, part_attrs)[0]
        yield op, (first, outs), {**part_attrs, "way": way}
        taken += extra


#: Ways that round more than the definition does.
INEXACT = frozenset(conv.TILES)

#: What a compiled kernel does in one pass where it lies in this memory.
_INPLACE = {
    "bias+relu": 0, "bias+relu6": 0, "relu_dx+bias_db": 1, "relu6_dx+bias_db": 1, "relu_dx+batch_norm_dparams": 1,
    "relu6_dx+batch_norm_dparams": 1,
}  # fmt: skip
_PAIRS = frozenset(
    {
        "relu_dx+bias_db", "relu6_dx+bias_db", "relu_dx+batch_norm_dparams", "relu6_dx+batch_norm_dparams",
        *conv.NORMED,
    }
)  # fmt: skip
_JOINS = frozenset(
    {
        "max_pool2d_dx+conv2d_dw", "max_pool2d_dx+conv2d_dw+conv2d_dx", "max_pool2d_dx+batch_norm_dparams",
        "max_pool2d_dx+batch_norm_dx", *samples.MASKED,
    }
)  # fmt: skip


def capabilities() -> Capabilities:
    """The numpy backend's ops, with our own kernels and workspace."""
    theirs = numpy.capabilities()
    fused = {op for op in RULES if "+" in op}

    def scratch(
        op: str, ins: tuple[Value, ...], outs: tuple[Value, ...], attrs: Mapping[str, Any]
    ) -> tuple[Scratch, ...]:
        """A chain without a kernel of its own needs what its parts need in their order."""
        if attrs["way"] == HOST:
            return theirs.scratch(op, ins, outs, attrs)
        if op in RULES:
            return RULES[op].scratch(ins, outs, attrs)
        return sum((scratch(part, *read, own) for part, read, own in parts_of(ins, outs, attrs)), ())

    return replace(
        theirs, name="numba", scratch=scratch, ways=ways, fuses=fuses, inexact=INEXACT, pairs=_PAIRS & fused,
        joins=_JOINS & fused, chains=theirs.chains | (fused - _PAIRS - _JOINS), sparing=frozenset(samples.POOLED),
        inplace={**theirs.inplace, **_INPLACE},
    )  # fmt: skip
