"""Chains of ops as one step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnnforge.backends.base import Kernel, Step
from cnnforge.backends.numpy.capabilities import TAIL_SCRATCH
from cnnforge.backends.numpy.types import Arrays


def fused(kernels: Mapping[str, Kernel]) -> Kernel:
    """The kernel of ``a+b+c``: ``a`` writes the output, the others overwrite it where it lies."""

    def bind(
        ins: Arrays, outs: Arrays, scratch: Arrays, *, parts: tuple[tuple[str, int, Mapping[str, Any]], ...]
    ) -> Step:
        (head, taken, attrs), *rest = parts
        at = len(scratch) - sum(TAIL_SCRATCH.get(op, 0) for op, _, _ in rest)
        steps = [kernels[head](ins[:taken], outs, scratch[:at], **attrs)]
        for op, extra, part_attrs in rest:
            more = TAIL_SCRATCH.get(op, 0)
            steps.append(
                kernels[op]((outs[0], *ins[taken : taken + extra]), outs, scratch[at : at + more], **part_attrs)
            )
            taken, at = taken + extra, at + more

        def step() -> None:
            for run in steps:
                run()

        return step

    return bind
