"""A GPU through CuPy: the only file that imports it.

Everything but batches goes over one stream, in the order in which it was asked for. Batches go over a second one, so
that one is copied while the step before it runs, and events keep the two in order: steps wait for the copies asked for
before them, a copy for the steps that read what it overwrites. The host waits for an event where it is about to write
pinned memory that a copy may still be reading.
"""

from __future__ import annotations

import importlib.util
import os
from collections import deque
from collections.abc import Iterable, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnforge.backends.base import Step
from cnnforge.backends.cupy import signature
from cnnforge.backends.cupy.card import Card
from cnnforge.backends.cupy.convolution import Convolution
from cnnforge.backends.cupy.cublas import WORKSPACE, Cublas, arguments
from cnnforge.backends.cupy.cudnn import Cudnn
from cnnforge.backends.cupy.device import Queued
from cnnforge.backends.cupy.failures import (
    GRAPHS,
    crowded,
    no_device,
    no_nccl,
    no_such_device,
    out_of_memory,
    unavailable,
)
from cnnforge.backends.cupy.libraries import found
from cnnforge.backends.cupy.nccl import Nccl
from cnnforge.backends.cupy.tail import NOTHING, Function, Tail
from cnnforge.backends.together import SINGLE, Together
from cnnforge.errors import BackendError

#: Copies of one size that may wait in pinned memory at a time.
WAITING = 4
#: Bytes of the largest copy that page-locked memory is kept for.
LARGEST = 64 << 20

#: What CUDA answers where the driver is too old or missing, and where it shows no device.
_OLD_DRIVER, _NO_DEVICE = 35, 100


def built_for() -> int:
    """The CUDA that the installed CuPy was built for: 12090 is 12.9."""
    import cupy

    return int(cupy.cuda.runtime.runtimeGetVersion())


def captures() -> bool:
    """Are steps captured into graphs? ``CNNFORGE_CUDA_GRAPHS=0`` queues kernels one by one, to find one's fault."""
    return os.environ.get(GRAPHS) != "0"


def open_device(number: int | None = None, together: Together = SINGLE) -> CudaDevice:
    """The device of this number, else the first that CUDA shows; of several processes on a host each takes its own.

    Raises BackendError where there is none, or no CuPy.
    """
    if importlib.util.find_spec("cupy") is None:
        raise unavailable("CuPy is not installed", "pip install 'cnnforge[gpu]'")
    try:
        import cupy
    except Exception as error:  # a library that does not load says so in many ways
        why = f"CuPy cannot be imported: {type(error).__name__}: {error}"
        raise unavailable(why.splitlines()[0], "pip install --force-reinstall 'cnnforge[gpu]'") from None
    runtime = cupy.cuda.runtime
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        if error.status not in (_OLD_DRIVER, _NO_DEVICE):
            raise unavailable(f"CUDA does not start: {error}", "nvidia-smi says more") from None
        count = 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not count:
        raise no_device(runtime.driverGetVersion(), runtime.runtimeGetVersion(), visible)
    if number is not None and number >= count:
        raise no_such_device(number, count, visible)
    # Where there are fewer, a launcher may have given each process its own; ``join`` finds out.
    return CudaDevice(cupy, together.host[0] % count if number is None else number, together)


def numpy_dtype(name: str) -> np.dtype[Any]:
    """NumPy's; it has bfloat16 from ml_dtypes, as CuPy has. Raises BackendError where that is missing."""
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise BackendError(
            "there is no bfloat16",
            where="trainer.precision",
            why="NumPy and CuPy have it from ml_dtypes, which is not installed",
            fix="pip install 'cnnforge[gpu]', or trainer.precision=float16",
        ) from None
    found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return found


class _Pinned:
    """Page-locked memory for copies of one size that may still be on their way."""

    def __init__(self, cupy: Any, nbytes: int) -> None:
        self._cupy, self._nbytes = cupy, nbytes
        self._busy: deque[tuple[NDArray[np.uint8], Any]] = deque()

    def take(self) -> NDArray[np.uint8]:
        """Bytes that no copy reads."""
        if self._busy and (self._busy[0][1].done or len(self._busy) >= WAITING):
            memory, event = self._busy.popleft()
            event.synchronize()
            return memory
        from cupyx import empty_pinned

        fresh: NDArray[np.uint8] = empty_pinned(self._nbytes, np.uint8)
        return fresh

    def sent(self, memory: NDArray[np.uint8], stream: Any) -> None:
        """A copy from it has just been asked for."""
        event = self._cupy.cuda.Event(disable_timing=True)
        event.record(stream)
        self._busy.append((memory, event))


class CudaDevice:
    """See ``cnnforge.backends.cupy.device.Device``."""

    def __init__(self, cupy: Any, number: int = 0, together: Together = SINGLE) -> None:
        """together: the processes that train with this one, each on a device of its own"""
        self._cupy, self._together = cupy, together
        self.card = Card(cupy, number)
        with self.card:
            self.stream = cupy.cuda.Stream(non_blocking=True)
            self.copies = cupy.cuda.Stream(non_blocking=True)
        self._nccl: Nccl | None = None
        self._released: dict[int, Any] = {}
        self._sent: dict[int, Any] = {}
        self._spare: list[Any] = []
        self._modules: dict[tuple[str, str, tuple[Function, ...]], Any] = {}
        self._pinned: dict[int, _Pinned] = {}

    @property
    def name(self) -> str:
        """The card's."""
        return self.card.name

    def free(self) -> int:
        """Bytes that are free, those that CuPy keeps for later among them."""
        with self.card:
            free, _ = self._cupy.cuda.runtime.memGetInfo()
            return int(free) + int(self._cupy.get_default_memory_pool().free_bytes())

    def zeros(self, nbytes: int) -> Any:
        """Zeroed memory. Raises BackendError where there is not enough."""
        with self.card, self.stream:
            try:
                buffer = self._cupy.ndarray((nbytes,), np.uint8)
            except self._cupy.cuda.memory.OutOfMemoryError:
                raise out_of_memory(self.name, nbytes, self.free()) from None
            if nbytes:
                begin = self.address(buffer)
                for address in [a for a in self._released if begin <= a < begin + nbytes]:
                    del self._released[address]  # of what was here before
                buffer.data.memset_async(0, nbytes, self.stream)
            return buffer

    def view(self, buffer: Any, offset: int, shape: tuple[int, ...], dtype: str) -> Any:
        kind = numpy_dtype(dtype)
        end = offset + int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        if not 0 <= offset <= end <= buffer.nbytes:
            raise IndexError(f"{shape} {dtype} at {offset} does not fit {buffer.nbytes} bytes")
        return self._cupy.ndarray(shape, kind, memptr=buffer.data + offset)

    def address(self, array: Any) -> int:
        return int(array.data.ptr)

    def launch(
        self,
        source: str,
        kernel: str,
        grid: Sequence[int],
        block: Sequence[int],
        args: Sequence[Any],
        tail: Tail = NOTHING,
    ) -> Queued:
        call = signature.call(source, kernel, args, tail)
        variant = source, call.dtype, tail.functions
        with self.card:
            if variant not in self._modules:
                text = signature.text(*variant)
                self._modules[variant] = self._cupy.RawModule(code=text, options=("-std=c++17",))
            function = self._modules[variant].get_function(kernel)
            assert function.num_regs, "asking for it loads the kernel, which a capture could not"
        values = tuple(np.dtype(dtype).type(value) if dtype else value for dtype, value in call.arguments)
        blocks, threads = (*grid, 1, 1)[:3], (*block, 1, 1)[:3]

        def run() -> None:
            function(blocks, threads, values)

        return Queued(run)

    @cached_property
    def _cublas(self) -> Cublas | None:
        """None where the library is not to be found: it comes with CUDA, or as nvidia-cublas-cu12."""
        path = found("cublas")
        if path is None:
            return None
        self._workspace = self.zeros(WORKSPACE)
        with self.card:
            return Cublas(path, self.stream.ptr, self.address(self._workspace))

    def product(self, a: Any, b: Any, out: Any, turn_a: bool, turn_b: bool, tf32: bool) -> Queued | None:
        if self._cublas is None:
            return None
        how = arguments(a.shape, b.shape, out.shape, turn_a, turn_b)
        if not self._cublas.fits(how):
            return None
        return Queued(self._cublas.gemm(str(out.dtype), tf32, how, *(self.address(array) for array in (a, b, out))))

    @cached_property
    def _cudnn(self) -> Cudnn | None:
        """None where it is not installed or does not load: convolutions then go by kernels of our own."""
        if importlib.util.find_spec("cudnn") is None:
            return None
        with self.card:
            try:
                return Cudnn(self.stream.ptr)
            except Exception:  # a library that does not load says so in many ways
                return None

    def convolution(self, how: Convolution, plan: int, arrays: Sequence[Any], space: Any) -> Queued | None:
        """Tried in a capture whose graph is thrown away: so its kernels are loaded, and a plan that fails is none."""
        if self._cudnn is None:
            return None
        with self.card:
            addresses = [self.address(array) for array in arrays]
            call = self._cudnn.convolution(how, plan, addresses, (self.address(space), space.nbytes))
            if call is None or not self._captured(call):
                return None
        return Queued(call)

    def _captured(self, call: Step) -> bool:
        """Does it come through a capture?"""
        with self.stream:
            self.stream.begin_capture()
            try:
                call()
            except Exception:
                fine = False
            else:
                fine = True
            try:
                self.stream.end_capture()
            except Exception:  # what failed inside ends the capture
                return False
        return fine

    def fill(self, array: Any, byte: int) -> Queued:
        return Queued(lambda: array.data.memset_async(byte, array.nbytes, self.stream))

    def copy(self, source: Any, into: Any) -> Queued:
        return Queued(lambda: into.data.copy_from_device_async(source.data, into.nbytes, self.stream))

    def run(self, steps: Iterable[Step]) -> None:
        with self.card, self.stream:
            for step in steps:
                step()

    def capture(self, steps: Sequence[Queued]) -> Step:
        """These steps as one CUDA graph."""
        with self.card, self.stream:
            self.stream.begin_capture()
            try:
                for step in steps:
                    step()
            finally:
                graph = self.stream.end_capture()
            graph.upload(self.stream)

        def run() -> None:
            graph.launch(self.stream)

        return run

    def room(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Any thread may ask for it."""
        from cupyx import empty_pinned

        with self.card:
            array: NDArray[Any] = empty_pinned(shape, numpy_dtype(dtype))
        array.fill(0)
        return array

    def send(self, host: NDArray[Any], into: Any) -> None:
        with self.card:
            free = self._released.pop(self.address(into), None) or self._mark(self.stream)
            self.copies.wait_event(free)
            self._spare.append(free)  # what waits for it waits for this time, also when it is used again
            into.set(host, stream=self.copies)
            if (place := _place(host)) not in self._sent:
                self._sent[place] = self._event()
            sent = self._sent[place]
            sent.record(self.copies)
            self.stream.wait_event(sent)

    def release(self, array: Any) -> None:
        with self.card:
            before = self._released.pop(self.address(array), None)
            self._released[self.address(array)] = self._mark(self.stream, before)

    def sent(self, host: NDArray[Any]) -> None:
        if (event := self._sent.get(_place(host))) is not None:
            with self.card:
                self._together.wait(event.synchronize)

    def _event(self) -> Any:
        """One at which a thread sleeps, instead of asking again and again."""
        return self._cupy.cuda.Event(block=True, disable_timing=True)

    def _mark(self, stream: Any, event: Any = None) -> Any:
        """An event behind what was asked for on ``stream`` so far."""
        event = event or (self._spare.pop() if self._spare else self._event())
        event.record(stream)
        return event

    def put(self, host: Any, into: Any) -> None:
        """By way of pinned memory, so that the copy is not waited for."""
        if not into.size:
            return
        if into.nbytes > LARGEST:
            with self.card:
                into.set(np.ascontiguousarray(np.broadcast_to(host, into.shape), into.dtype), stream=self.stream)
                self.sync()
            return
        pinned = self._pinned.setdefault(into.nbytes, _Pinned(self._cupy, into.nbytes))
        with self.card:
            memory = self._together.wait(pinned.take)
            staged = memory.view(into.dtype).reshape(into.shape)
            staged[...] = host
            into.set(staged, stream=self.stream)
            pinned.sent(memory, self.stream)

    def get(self, array: Any) -> NDArray[Any]:
        with self.card:
            copy: NDArray[Any] = self._together.wait(partial(array.get, stream=self.stream))
        return copy

    def sync(self) -> None:
        with self.card:
            self._together.wait(self.stream.synchronize)

    def join(self) -> None:
        """Raises BackendError where a GPU would be two processes', or there is no NCCL."""
        with self.card:
            count = self._cupy.cuda.runtime.getDeviceCount()
        about = (self.card.uuid, self.card.number, count, self._together.host[1])
        cards = self._together.every(about)
        for rank, (uuid, number, count, processes) in enumerate(cards):
            first = next(other for other, card in enumerate(cards) if card[0] == uuid)
            if first != rank:
                raise self._together.together(crowded((first, rank), self.name, number, count, processes))
        path = found("nccl")
        if path is None:
            raise no_nccl()
        with self.card:
            self._nccl = Nccl(path, self._together, self.stream.ptr)

    def sum(self, array: Any) -> None:
        assert self._nccl is not None
        with self.card:
            self._nccl.sum(self.address(array), array.size, str(array.dtype))

    def gather(self, rows: Any) -> None:
        assert self._nccl is not None
        with self.card:
            self._nccl.gather(self.address(rows), rows.nbytes // self._together.size)

    def align(self, arrays: Sequence[Any]) -> None:
        assert self._nccl is not None
        with self.card:
            self._nccl.align([(self.address(array), array.nbytes) for array in arrays])


def _place(host: NDArray[Any]) -> int:
    """Where it begins: a batch's first rows are at the place of its room."""
    return int(host.__array_interface__["data"][0])
