"""What planning knows of a compiled kernel."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cnnforge.ir.op import Scratch

#: Threads that kernels may be spread over: workspace that each needs for itself is planned for so many.
THREADS = os.cpu_count() or 1
#: Numbers of a vector: a cache line of floats.
LANES = 16

Choice = Callable[[tuple[Any, ...], tuple[Any, ...], Mapping[str, Any]], bool]
Space = Callable[[tuple[Any, ...], tuple[Any, ...], Mapping[str, Any]], tuple[Scratch, ...]]


def always(ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> bool:
    return True


def nothing(ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> tuple[Scratch, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Rule:
    """For which nodes of an op there is a kernel, and its workspace in the order in which the kernel takes it.

    Both get the node's inputs, outputs (values or arrays) and attributes. Of a shape only what is the same for every
    batch may count: planning happens once, for the largest.
    """

    native: Choice = always
    scratch: Space = nothing
