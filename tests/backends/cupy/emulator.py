"""A GPU that is not there: the kernels' own CUDA source, compiled by g++ and run on NumPy memory.

Every other run of a launch has its blocks and threads go backwards: a step that is run twice and gives the same depends
neither on the order of threads nor on what one of them reads before another has written it.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import tempfile
import weakref
from collections.abc import Callable
from functools import cache, partial
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Lock, Thread

import ml_dtypes  # noqa: F401 - NumPy knows "bfloat16" by it
import numpy as np

from cnnforge.backends.cupy import signature
from cnnforge.backends.cupy.device import Queued
from cnnforge.backends.cupy.nccl import Nccl
from cnnforge.backends.cupy.tail import NOTHING, Function
from cnnforge.backends.together import SINGLE, Together
from tests.backends.cupy import streams
from tests.backends.cupy.convolved import convolve

SHIM = Path(__file__).with_name("emulator.h")
NCCL = Path(__file__).with_name("nccl.cpp")
COMPILE = ("g++", "-std=c++17", "-O1", "-ffp-contract=off", "-fno-strict-aliasing", "-w", "-shared", "-fPIC")
ALIGN = 256
#: What stands for a GPU's threads belongs to the library: ranks that are threads take turns.
_ONE_AT_A_TIME = Lock()


def _folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"cnnforge-emulator-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def compiled(text: str, names: tuple[str, ...]) -> ctypes.CDLL:
    """A library of the launches ``launch_NAME`` of the kernels of ``text``."""
    ends = (
        f'extern "C" int launch_{name}(const unsigned* dims, void** args, int reversed) '
        f"{{ return emulated::launch({name}, dims, args, reversed); }}"
        for name in names
    )
    library = ctypes.CDLL(str(_built("\n".join((SHIM.read_text(), text, *ends)))))
    library.why.restype = ctypes.c_char_p
    return library


@cache
def fake_nccl() -> Path:
    """A library with NCCL's functions, for processes of one machine and memory of the host."""
    return _built(NCCL.read_text())


def _built(whole: str) -> Path:
    """The shared library of a C++ text, once for this machine."""
    target = _folder() / f"{hashlib.sha256(whole.encode()).hexdigest()[:24]}.so"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=_folder()) as work:
            source, made = Path(work) / "kernels.cpp", Path(work) / "kernels.so"
            source.write_text(whole)
            done = subprocess.run([*COMPILE, str(source), "-o", str(made)], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[:4000]
            made.replace(target)
    return target


@cache
def _library(source: str, dtype: str, functions: tuple[Function, ...]) -> ctypes.CDLL:
    return compiled(signature.text(source, dtype, functions), tuple(signature.kernels(source)))


class Opaque:
    """An array as op files may see it: nothing but ``get`` reads what is in it."""

    def __init__(self, inside: np.ndarray) -> None:
        self.inside = inside
        self.shape, self.dtype, self.size, self.nbytes = inside.shape, inside.dtype, inside.size, inside.nbytes
        self.ndim = inside.ndim

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, part):
        assert isinstance(part, slice), "numbers of a device's array are not to be had"
        return Opaque(self.inside[part])

    def reshape(self, *shape):
        return Opaque(self.inside.reshape(*shape))


def _open(array):
    return array.inside if isinstance(array, Opaque) else array


class Stream:
    """Does what it is asked for in order, on a thread that ends with it."""

    def __init__(self) -> None:
        self._asked: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._failed: list[BaseException] = []
        Thread(target=_work, args=(self._asked, self._failed), daemon=True).start()
        weakref.finalize(self, self._asked.put, None)

    def ask(self, work: Callable[[], None]) -> None:
        self._asked.put(work)

    def wait(self) -> None:
        """Until all of it is done. Raises what went wrong."""
        done = Event()
        self._asked.put(done.set)
        done.wait()
        if self._failed:
            raise self._failed[0]


def _work(asked: SimpleQueue[Callable[[], None] | None], failed: list[BaseException]) -> None:
    while (work := asked.get()) is not None:
        try:
            work()
        except BaseException as error:
            failed.append(error)


class Emulator:
    """See ``cnnforge.backends.cupy.device.Device``.

    opaque: give arrays that only the device can read, as on a real one
    together: the processes that train with this one; with several, what is asked for is done by a thread of its own, as
              a stream does it: whoever waits for another process must not keep that one waiting
    plans: how many its library has for every convolution; 0: it has no library
    """

    name = "emulated"

    def __init__(self, opaque: bool = False, free: int = 1 << 40, together: Together = SINGLE, plans: int = 0) -> None:
        self.launched, self._opaque, self._free, self._plans = 0, opaque, free, plans
        self.convolved = []
        self._together = together
        self._stream: Stream | None = Stream() if together.size > 1 else None

    def _ask(self, work: Callable[[], None]) -> None:
        """In the stream's order."""
        if self._stream is None:
            work()
        else:
            self._stream.ask(work)

    def free(self):
        return self._free

    def zeros(self, nbytes):
        raw = np.zeros(nbytes + ALIGN, np.uint8)
        start = -raw.ctypes.data % ALIGN
        return raw[start : start + nbytes]

    def view(self, buffer, offset, shape, dtype):
        buffer = _open(buffer).reshape(-1)
        end = offset + int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if not 0 <= offset <= end <= len(buffer):
            raise IndexError(f"{shape} {dtype} at {offset} does not fit {len(buffer)} bytes")
        array = buffer[offset:end].view(dtype).reshape(shape)
        return Opaque(array) if self._opaque else array

    def address(self, array):
        return _open(array).ctypes.data

    def launch(self, source, kernel, grid, block, args, tail=NOTHING):
        call = signature.call(source, kernel, args, tail)
        library = _library(source, call.dtype, tail.functions)
        run = getattr(library, f"launch_{kernel}")
        dims = (ctypes.c_uint * 6)(*(*grid, 1, 1)[:3], *(*block, 1, 1)[:3])
        kept = []
        for dtype, value in call.arguments:
            if dtype:
                kept.append(np.array([value], dtype))
            else:
                value = _open(value)
                assert value.flags.c_contiguous, f"{kernel} is given an array with holes"
                kept.append(np.array([value.ctypes.data], np.uint64))
        pointers = (ctypes.c_void_p * len(kept))(*(a.ctypes.data for a in kept))

        turns = count()

        def step():
            assert kept
            assert args
            self.launched += 1
            with _ONE_AT_A_TIME:
                if run(dims, pointers, next(turns) % 2):
                    raise RuntimeError(f"{source}.{kernel}: {library.why().decode()}")

        return Queued(lambda: self._ask(step))

    def product(self, a, b, out, turn_a, turn_b, tf32):
        return None

    def convolution(self, how, plan, arrays, space):
        """Whatever the plan: by ``tests.backends.cupy.convolved``, which soils the workspace."""
        if plan >= self._plans:
            return None
        self.convolved.append((how, plan))
        memory, room = [_open(array) for array in arrays], _open(space)

        def step():
            room.fill(0xFF)
            convolve(how, memory)

        return Queued(lambda: self._ask(step))

    def fill(self, array, byte):
        return Queued(lambda: self._ask(lambda: _open(array).reshape(-1).view(np.uint8).fill(byte)))

    def copy(self, source, into):
        return Queued(lambda: self._ask(lambda: np.copyto(_open(into).reshape(-1), _open(source).reshape(-1))))

    def run(self, steps):
        for step in steps:
            step()

    def room(self, shape, dtype):
        return np.zeros(shape, dtype)

    def send(self, host, into):
        assert host.shape == into.shape, (host.shape, into.shape)
        assert host.dtype == into.dtype, (host.dtype, into.dtype)
        now = host if self._stream is None else host.copy()  # nobody waits here until it has left
        self._ask(lambda: np.copyto(_open(into), now))

    def release(self, array):
        pass

    def sent(self, host):
        pass

    def capture(self, steps):
        def run():
            for step in steps:
                step()

        return run

    def put(self, host, into):
        now = np.array(host)
        self._ask(lambda: np.copyto(_open(into), now, casting="unsafe"))

    def get(self, array):
        self.sync()
        return _open(array).copy()

    def sync(self):
        if self._stream is not None:
            self._together.wait(self._stream.wait)

    def join(self):
        self._nccl = Nccl(str(fake_nccl()), self._together, 0)

    def sum(self, array):
        self._ask(lambda: self._nccl.sum(self.address(array), array.size, str(array.dtype)))

    def gather(self, rows):
        self._ask(lambda: self._nccl.gather(self.address(rows), rows.nbytes // self._together.size))

    def align(self, arrays):
        self._ask(lambda: self._nccl.align([(self.address(array), array.nbytes) for array in arrays]))


class Apart(Emulator):
    """The same, with steps and batches on streams of their own, as a real one has.

    hurried: batches come as early as they may, else as late as they may; steps run when somebody waits for them
    """

    def __init__(self, hurried: bool) -> None:
        super().__init__(opaque=True)
        several = streams.Streams()
        self.steps, self.copies = streams.Stream(several), streams.Stream(several, hurried)
        self._released: dict[int, streams.Event] = {}
        self._sent: dict[int, streams.Event] = {}

    def run(self, steps):
        for step in steps:
            self.steps.ask(step)

    def send(self, host, into):
        free = self._released.pop(self.address(into), None) or self._event(self.steps)
        self.copies.wait_event(free)
        self.copies.ask(partial(super().send, host, into))
        sent = self._sent[host.ctypes.data] = self._event(self.copies)
        self.steps.wait_event(sent)

    def release(self, array):
        self._released[self.address(array)] = self._event(self.steps)

    def sent(self, host):
        if host.ctypes.data in self._sent:
            self._sent[host.ctypes.data].synchronize()

    def _event(self, stream):
        event = streams.Event()
        event.record(stream)
        return event

    def put(self, host, into):
        self.steps.ask(partial(super().put, np.array(host), into))

    def get(self, array):
        self.sync()
        return super().get(array)

    def sync(self):
        self.steps.synchronize()
