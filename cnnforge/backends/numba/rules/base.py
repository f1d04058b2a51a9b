"""What planning knows of a compiled kernel."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cnnforge.ir.op import Scratch

#: Threads that kernels may be spread over: workspace that each needs for itself is planned for so many.
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
#: Numbers of a vector: a cache line of floats.
LANES = 16

#: Of a fused node: each part's op, how many inputs are its own, and its attributes.
Parts = tuple[tuple[str, int, Mapping[str, Any]], ...]

Choice = Callable[[tuple[Any, ...], tuple[Any, ...], Mapping[str, Any]], bool]
Space = Callable[[tuple[Any, ...], tuple[Any, ...], Mapping[str, Any]], tuple[Scratch, ...]]


def always(ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> bool:
    return True


def nothing(ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> tuple[Scratch, ...]:
    return ()


Ways = Callable[[tuple[Any, ...], tuple[Any, ...], Mapping[str, Any]], tuple[str, ...]]


def compiled(ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> tuple[str, ...]:
    return ("compiled",)


@dataclass(frozen=True, slots=True)
class Rule:
    """What there is for the nodes of an op. Of a shape, the batch counts as it was planned.

    native:  is there a kernel? What decides may not depend on the batch: smaller ones run in the same plan
    scratch: its workspace, in the order in which it takes it; nor may this. The attributes hold the ``way`` chosen
    ways:    by what names, where there are several: the best guess first
    fuses:   of a fused node: is it better than its parts?
    """

    native: Choice = always
    scratch: Space = nothing
    ways: Ways = compiled
    fuses: Choice = always
