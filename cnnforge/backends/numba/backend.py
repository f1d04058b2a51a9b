"""The compiled backend: the numpy backend's memory, kernels by op, and neighbouring native kernels as one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from cnnforge.backends.base import Distort, Distortion, Gather, Kernel, Report, Step
from cnnforge.backends.numba import (
    activation,
    bias,
    conv,
    conv_samples,
    dropout,
    elementwise,
    fold,
    gather,
    linear,
    loss,
    lrn,
    merge,
    norm,
    norm_dx,
    norm_pool,
    optimizer,
    pool,
    prelu,
    sample_norm,
    targets,
    team,
    tensorwise,
)
from cnnforge.backends.numba.capabilities import capabilities, parts_of
from cnnforge.backends.numba.distort import bind_distort
from cnnforge.backends.numba.driver import Call, Run
from cnnforge.backends.numba.gather import bind_gather
from cnnforge.backends.numba.prepare import prepare
from cnnforge.backends.numba.rules.base import THREADS
from cnnforge.backends.numpy.backend import NumpyBackend
from cnnforge.backends.numpy.types import Arrays
from cnnforge.backends.together import SINGLE, Together
from cnnforge.ir.graph import Value
from cnnforge.plan.capabilities import HOST

#: ``bind(ins, outs, scratch, threads, **attrs)`` -> a call, or several in order.
Native = Callable[..., Call | tuple[Call, ...]]

#: Of an op with several ways: those that take ``way`` among their attributes.
SEVERAL: dict[str, Native] = {**conv.SEVERAL}
NATIVE: dict[str, Native] = {
    **activation.NATIVE,
    **bias.NATIVE,
    **conv_samples.NATIVE,
    **dropout.NATIVE,
    **elementwise.NATIVE,
    **fold.NATIVE,
    **linear.NATIVE,
    **lrn.NATIVE,
    **merge.NATIVE,
    **loss.NATIVE,
    **targets.NATIVE,
    **norm.NATIVE,
    **norm_dx.NATIVE,
    **norm_pool.NATIVE,
    **optimizer.NATIVE,
    **pool.NATIVE,
    **prelu.NATIVE,
    **sample_norm.NATIVE,
    **tensorwise.NATIVE,
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

    def __init__(self, threads: int | None = None, together: Together = SINGLE) -> None:
        """``threads``: that native kernels are spread over; one for each core where not given."""
        super().__init__(1, together)
        self.native_threads = min(threads or THREADS, THREADS)

    def kernel(self, op: str) -> Kernel:
        """The kernel of ``op``, by the way that its attributes name."""
        theirs = super().kernel

        def bind(ins: Arrays, outs: Arrays, space: Arrays, *, way: str = "compiled", **attrs: Any) -> Step:
            if way == HOST:
                return theirs(op)(ins, outs, space, **attrs)
            if op in SEVERAL:
                made = SEVERAL[op](ins, outs, space, self.native_threads, way=way, **attrs)
            elif op in NATIVE:
                made = NATIVE[op](ins, outs, space, self.native_threads, **attrs)
            else:
                return self._chain(ins, outs, space, way=way, **attrs)
            return made if isinstance(made, Call) else Chain(made)

        return bind

    def _chain(self, ins: Arrays, outs: Arrays, space: Arrays, **attrs: Any) -> Step:
        """A fused node without a kernel of its own: its parts one after another in the same memory."""
        steps: list[Step] = []
        at = 0
        for op, (read, written), own in parts_of(ins, outs, attrs):
            needs = len(self.capabilities.scratch(op, _values(read), _values(written), own))
            steps.append(self.kernel(op)(read, written, space[at : at + needs], **own))
            at += needs
        return Chain(steps)

    def run(self, steps: Iterable[Step]) -> None:
        """One after another. Only NumPy's steps need NumPy's settings, which take longer than a small net."""
        if isinstance(steps, list) and all(isinstance(step, Run) for step in steps):
            for step in steps:
                step()
        else:
            super().run(steps)

    def gather(self, x: Any, mean: Any, factor: Any, channels: int, down: Any, across: Any) -> Gather | None:
        """Compiled for bytes."""
        return bind_gather(x, mean, factor, channels, down, across)

    def distort(
        self, x: Any, mean: Any, factor: Any, channels: int, down: Any, across: Any, how: Distortion
    ) -> Distort | None:
        """Compiled when it is first bound, as few runs need it."""
        return bind_distort(x, mean, factor, channels, down, across, how)

    def prepare(self, steps: Iterable[Step], report: Report) -> None:
        """Compile the kernels that the cache does not have."""
        called = (kernel for step in _flat(steps) if isinstance(step, Call) for kernel in step.kernels())
        prepare((*team.KERNELS, *gather.KERNELS, *called), report)

    def link(self, steps: Iterable[Step]) -> list[Step]:
        """Neighbouring native calls as one."""
        steps = list(_flat(steps))
        self.prepare(steps, lambda done, total: None)
        linked: list[Step] = []
        waiting: list[Call] = []
        for step in steps:
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
