"""What the backend asks of a device, and how kernels are launched on it.

Op files see arrays of a device by ``shape``, ``dtype``, ``size``, ``nbytes``, ``reshape`` and slices of vectors alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from cnnforge.backends.base import Array, Step
from cnnforge.backends.cupy.convolution import Convolution
from cnnforge.backends.cupy.tail import NOTHING, Tail
from cnnforge.ir.graph import Value
from cnnforge.ir.op import Scratch

#: Threads of a block where nothing asks for another number.
BLOCK = 256
#: Blocks of a grid-stride loop at most: a few for each processor of the largest card.
MOST_BLOCKS = 2048

Arrays = tuple[Array, ...]
#: ``kernel(device, ins, outs, scratch, **attrs) -> step``: called once per binding.
DeviceKernel = Callable[..., Step]
#: ``(ins, outs, attrs) -> workspace``
ScratchRule = Callable[[tuple[Value, ...], tuple[Value, ...], Any], tuple[Scratch, ...]]


class Queued:
    """A step that only queues work on the device, so that it can be captured into a graph.

    launches: pieces of work that it queues
    """

    __slots__ = ("_run", "launches")

    def __init__(self, run: Step, launches: int = 1) -> None:
        self._run, self.launches = run, launches

    def __call__(self) -> None:
        self._run()


class Instead(Queued):
    """What was bound as the way that was asked for is not to be had on this device."""

    __slots__ = ()


class Device(Protocol):
    """A GPU, or what stands for one in tests."""

    @property
    def name(self) -> str:
        """What it calls itself."""

    def free(self) -> int:
        """Bytes of memory that are free."""

    def zeros(self, nbytes: int) -> Any:
        """Zeroed memory, aligned to 256 bytes."""

    def view(self, buffer: Any, offset: int, shape: tuple[int, ...], dtype: str) -> Array:
        """An array of ``shape`` at ``offset`` bytes into ``buffer``. Raises IndexError where it does not fit."""

    def address(self, array: Array) -> int:
        """Where it begins."""

    def launch(
        self,
        source: str,
        kernel: str,
        grid: Sequence[int],
        block: Sequence[int],
        args: Sequence[Any],
        tail: Tail = NOTHING,
    ) -> Queued:
        """A launch of a kernel of ``source/SOURCE.cuh``, bound to its arguments: arrays and numbers, and a tail's.

        T is the dtype of the arrays given for ``T*``. Raises TypeError where they do not fit the kernel's signature.
        """

    def product(self, a: Array, b: Array, out: Array, turn_a: bool, turn_b: bool, tf32: bool) -> Queued | None:
        """out = a b of row-major matrices, each turned (transposed) first where asked; None: our own kernel will do."""

    def convolution(self, how: Convolution, plan: int, arrays: Sequence[Array], space: Array) -> Queued | None:
        """A library's convolution by the ``plan``-th of the plans that it advises and we allow, the first being 0.

        arrays: ``how``'s operands in their order;  space: bytes that a plan may use
        None where there is no library, or no such plan
        """

    def fill(self, array: Array, byte: int) -> Queued:
        """Set every byte."""

    def copy(self, source: Array, into: Array) -> Queued:
        """Copy an array to another of the same size, on the device."""

    def run(self, steps: Iterable[Step]) -> None:
        """One after another."""

    def capture(self, steps: Sequence[Queued]) -> Step:
        """These steps as one."""

    def room(self, shape: tuple[int, ...], dtype: str) -> Any:
        """A NumPy array of zeros that ``send`` copies from without waiting."""

    def send(self, host: Any, into: Array) -> None:
        """Copy what ``room`` gave, or its first rows: see ``cnnforge.backends.base``, as for the next two."""

    def release(self, array: Array) -> None:
        """What was asked for so far is all that reads what was sent to ``array``."""

    def sent(self, host: Any) -> None:
        """Wait until the last copy from ``host`` is done."""

    def put(self, host: Any, into: Array) -> None:
        """Copy a NumPy array (or number), converted, to the device, in order with what was asked for before."""

    def get(self, array: Array) -> Any:
        """A NumPy copy, when all that was asked for before is done."""

    def sync(self) -> None:
        """Wait until everything asked for has happened."""

    def join(self) -> None:
        """Meet the devices of the other processes, before the first of these calls. Raises BackendError."""

    def sum(self, array: Array) -> None:
        """Queue adding an array up over the processes, in place. No part of a graph, as the next two."""

    def gather(self, rows: Array) -> None:
        """Queue that every process has all ``rows`` (processes, …); each has brought its own."""

    def align(self, arrays: Sequence[Array]) -> None:
        """Queue that every process has what the first has in these arrays."""


def each(device: Device, source: str, kernel: str, n: int, args: Sequence[Any], tail: Tail = NOTHING) -> Queued:
    """A kernel that goes through ``n`` elements by ``EACH``."""
    return device.launch(source, kernel, (max(1, min(-(-n // BLOCK), MOST_BLOCKS)),), (BLOCK,), args, tail)


def cut(ins: Arrays, own: int) -> tuple[Arrays, Array | None]:
    """An update's ``own`` inputs, and what the device keeps beside the step block: it comes last where the graph has
    it (see ``cnnforge.ir.guarded``), and kernels take None, a null pointer, for it where not.
    """
    assert len(ins) in (own, own + 1), f"an update of {own} inputs got {len(ins)}"
    return ins[:own], ins[own] if len(ins) > own else None


def chain(steps: Iterable[Step]) -> Step:
    """Several as one: queued where all of them are."""
    parts = tuple(steps)

    def run() -> None:
        for step in parts:
            step()

    queued = tuple(step for step in parts if isinstance(step, Queued))
    if len(queued) < len(parts):
        return run
    kind = Instead if any(isinstance(step, Instead) for step in queued) else Queued
    return kind(run, sum(step.launches for step in queued))
