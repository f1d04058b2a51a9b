"""A GPU through CuPy: the only file that imports it.

Everything goes over one stream, in the order in which it was asked for, so nothing needs an event but what waits for
the host: the pinned memory that a copy is still reading.
"""

from __future__ import annotations

import importlib.util
import os
from collections import deque
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnforge.backends.base import Step
from cnnforge.backends.cupy import signature
from cnnforge.backends.cupy.convolution import Convolution
from cnnforge.backends.cupy.cublas import WORKSPACE, Cublas, arguments
from cnnforge.backends.cupy.cudnn import Cudnn
from cnnforge.backends.cupy.device import Queued
from cnnforge.errors import BackendError

#: Copies of one size that may wait in pinned memory at a time.
WAITING = 4
#: Bytes of the largest copy that page-locked memory is kept for.
LARGEST = 64 << 20
GRAPHS = "CNNFORGE_CUDA_GRAPHS"
FIX = "trainer.backend=auto; cnnforge doctor says what this machine has"


def cuda_version(number: int) -> str:
    """12090 -> 12.9."""
    return f"{number // 1000}.{number % 1000 // 10}"


def unavailable(why: str, fix: str) -> BackendError:
    """The error of a machine that cannot run this backend."""
    return BackendError("backend cupy is not available", where="trainer.backend", why=why, fix=f"{fix}, or {FIX}")


def no_device(driver: int, runtime: int, visible: str | None) -> BackendError:
    """Why CUDA gives no device.  driver, runtime: CUDA versions, 0 without a driver;  visible: CUDA_VISIBLE_DEVICES"""
    if not driver:
        return unavailable("there is no NVIDIA driver", "install it, on a machine with an NVIDIA GPU")
    if driver // 1000 < runtime // 1000:
        why = f"the NVIDIA driver is too old: it knows CUDA {cuda_version(driver)}, CuPy needs {cuda_version(runtime)}"
        return unavailable(why, f"a newer driver, or a CuPy for CUDA {driver // 1000}")
    if visible is not None:
        why = f"there is no such device: CUDA_VISIBLE_DEVICES={visible} leaves none"
        return unavailable(why, "another CUDA_VISIBLE_DEVICES")
    return unavailable("there is no NVIDIA GPU", "another machine")


def captures() -> bool:
    """Are steps captured into graphs? ``CNNFORGE_CUDA_GRAPHS=0`` queues kernels one by one, to find one's fault."""
    return os.environ.get(GRAPHS) != "0"


def open_device() -> CudaDevice:
    """The first device that CUDA shows. Raises BackendError where there is none, or no CuPy."""
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
    except runtime.CUDARuntimeError:
        count = 0
    if not count:
        versions = runtime.driverGetVersion(), runtime.runtimeGetVersion()
        raise no_device(*versions, os.environ.get("CUDA_VISIBLE_DEVICES"))
    return CudaDevice(cupy)


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

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self.card = cupy.cuda.Device(0)
        with self.card:
            self.stream = cupy.cuda.Stream(non_blocking=True)
        self._modules: dict[tuple[str, str], Any] = {}
        self._pinned: dict[int, _Pinned] = {}

    @property
    def name(self) -> str:
        """The card's."""
        return str(self._cupy.cuda.runtime.getDeviceProperties(self.card.id)["name"].decode())

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
                buffer.data.memset_async(0, nbytes, self.stream)
            return buffer

    def view(self, buffer: Any, offset: int, shape: tuple[int, ...], dtype: str) -> Any:
        end = offset + int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if not 0 <= offset <= end <= buffer.nbytes:
            raise IndexError(f"{shape} {dtype} at {offset} does not fit {buffer.nbytes} bytes")
        return self._cupy.ndarray(shape, dtype, memptr=buffer.data + offset)

    def address(self, array: Any) -> int:
        return int(array.data.ptr)

    def launch(
        self, source: str, kernel: str, grid: Sequence[int], block: Sequence[int], args: Sequence[Any]
    ) -> Queued:
        call = signature.call(source, kernel, args)
        with self.card:
            if (source, call.dtype) not in self._modules:
                text = signature.text(source, call.dtype)
                self._modules[source, call.dtype] = self._cupy.RawModule(code=text, options=("-std=c++17",))
            function = self._modules[source, call.dtype].get_function(kernel)
            assert function.num_regs, "asking for it loads the kernel, which a capture could not"
        values = tuple(np.dtype(dtype).type(value) if dtype else value for dtype, value in call.arguments)
        blocks, threads = (*grid, 1, 1)[:3], (*block, 1, 1)[:3]

        def run() -> None:
            function(blocks, threads, values)

        return Queued(run)

    @cached_property
    def _cublas(self) -> Cublas | None:
        """None where the library is not to be found: it comes with CUDA, or as nvidia-cublas-cu12."""
        from cuda.pathfinder import DynamicLibNotFoundError, load_nvidia_dynamic_lib

        try:
            path = load_nvidia_dynamic_lib("cublas").abs_path
        except DynamicLibNotFoundError:
            return None
        self._workspace = self.zeros(WORKSPACE)
        with self.card:
            return Cublas(str(path), self.stream.ptr, self.address(self._workspace))

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
        from cupyx import empty_pinned

        array: NDArray[Any] = empty_pinned(shape, np.dtype(dtype))
        array.fill(0)
        return array

    def send(self, host: NDArray[Any], into: Any) -> None:
        with self.card:
            into.set(host, stream=self.stream)

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
            memory = pinned.take()
            staged = memory.view(into.dtype).reshape(into.shape)
            staged[...] = host
            into.set(staged, stream=self.stream)
            pinned.sent(memory, self.stream)

    def get(self, array: Any) -> NDArray[Any]:
        with self.card:
            found: NDArray[Any] = array.get(stream=self.stream)
        return found

    def sync(self) -> None:
        self.stream.synchronize()


def out_of_memory(card: str, wanted: int, free: int) -> BackendError:
    """The error of a plan that does not fit.  wanted, free: bytes"""
    return BackendError(
        "out of GPU memory",
        where="trainer.batch_size",
        why=f"{wanted / 2**20:,.0f} MiB are wanted, {free / 2**20:,.0f} MiB of {card} are free",
        fix="a smaller batch; cnnforge check says what a batch takes",
    )
