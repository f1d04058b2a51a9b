"""The compiled backend: the numpy backend's memory, kernels by op, and neighbouring native kernels as one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numba

from cnnforge.backends.base import Kernel, Step
from cnnforge.backends.numba import (
    conv,
    elementwise,
    linear,
    lrn,
    merge,
    norm,
    norm_dx,
    norm_pool,
    pool,
    sample_norm,
    winograd,
)
from cnnforge.backends.numba.capabilities import capabilities, is_native, parts_of, scratch
from cnnforge.backends.numba.driver import Call, Run
from cnnforge.backends.numba.rules.base import THREADS
from cnnforge.backends.numba.rules.conv import CONVOLUTIONS, convolution
from cnnforge.backends.numpy.backend import NumpyBackend
from cnnforge.backends.numpy.types import Arrays
from cnnforge.ir.graph import Value

#: ``bind(ins, outs, scratch, threads, **attrs)`` -> a call, or several in order.
Native = Callable[..., Call | tuple[Call, ...]]


def _convolution(op: str) -> Native:
    def bind(ins: Arrays, outs: Arrays, space: Arrays, threads: int, **attrs: Any) -> Call | tuple[Call, ...]:
        family: dict[str, Native] = (winograd if convolution(op, ins, outs, attrs) == "winograd" else conv).NATIVE
        return family[op](ins, outs, space, threads, **attrs)

    return bind


NATIVE: dict[str, Native] = {
    **elementwise.NATIVE,
    **linear.NATIVE,
    **lrn.NATIVE,
    **merge.NATIVE,
    **norm.NATIVE,
    **norm_dx.NATIVE,
    **norm_pool.NATIVE,
    **pool.NATIVE,
    **sample_norm.NATIVE,
    **{op: _convolution(op) for op in CONVOLUTIONS},
}


class Chain:
    """Steps in order: a node that takes several."""

    def __init__(self, steps: Iterable[Step]) -> None:
        self.steps = tuple(steps)

    def __call__(self) -> None:
        for step in self.steps:
            step()


class NumbaBackend(NumpyBackend):
    """Compiled kernels on the host's cores, the numpy backend's where there is none."""

    name = "numba"
    capabilities = capabilities()

    def __init__(self, threads: int | None = None) -> None:
        """``threads``: that native kernels are spread over; one for each core where not given."""
        super().__init__(1)
        self.native_threads = min(threads or THREADS, THREADS, int(numba.config.NUMBA_NUM_THREADS))

    def kernel(self, op: str) -> Kernel:
        """The kernel of ``op``: native where its shapes allow, else NumPy's."""
        if "+" in op and op not in NATIVE:
            return self._chain

        def bind(ins: Arrays, outs: Arrays, space: Arrays, **attrs: Any) -> Step:
            if is_native(op, ins, outs, attrs):
                made = NATIVE[op](ins, outs, space, self.native_threads, **attrs)
                return made if isinstance(made, Call) else Chain(made)
            step: Step = super(NumbaBackend, self).kernel(op)(ins, outs, space, **attrs)
            return step

        return bind

    def _chain(self, ins: Arrays, outs: Arrays, space: Arrays, **attrs: Any) -> Step:
        """A fused node: its parts one after another in the same memory."""
        steps: list[Step] = []
        at = 0
        for op, (read, written), part_attrs in parts_of(ins, outs, attrs):
            needs = len(scratch(op, _values(read), _values(written), part_attrs))
            steps.append(self.kernel(op)(read, written, space[at : at + needs], **part_attrs))
            at += needs
        return Chain(steps)

    def link(self, steps: Iterable[Step]) -> list[Step]:
        """Neighbouring native calls as one."""
        linked: list[Step] = []
        waiting: list[Call] = []
        for step in _flat(steps):
            if isinstance(step, Call):
                waiting.append(step)
                continue
            if waiting:
                linked.append(Run(waiting))
                waiting = []
            linked.append(step)
        return [*linked, Run(waiting)] if waiting else linked


def _values(arrays: Arrays) -> tuple[Value, ...]:
    """Arrays as planning saw them."""
    return tuple(Value(0, "", a.shape, "act", str(a.dtype), True) for a in arrays)


def _flat(steps: Iterable[Step]) -> Iterable[Step]:
    for step in steps:
        if isinstance(step, Chain):
            yield from _flat(step.steps)
        else:
            yield step
