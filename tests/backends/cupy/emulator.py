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
from functools import cache, partial
from itertools import count
from pathlib import Path

import ml_dtypes  # noqa: F401 - NumPy knows "bfloat16" by it
import numpy as np

from cnnforge.backends.cupy import signature
from cnnforge.backends.cupy.device import Queued
from tests.backends.cupy.streams import Event, Stream

SHIM = Path(__file__).with_name("emulator.h")
COMPILE = ("g++", "-std=c++17", "-O1", "-ffp-contract=off", "-fno-strict-aliasing", "-w", "-shared", "-fPIC")
ALIGN = 256


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
    whole = "\n".join((SHIM.read_text(), text, *ends))
    target = _folder() / f"{hashlib.sha256(whole.encode()).hexdigest()[:24]}.so"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=_folder()) as work:
            source, made = Path(work) / "kernels.cpp", Path(work) / "kernels.so"
            source.write_text(whole)
            done = subprocess.run([*COMPILE, str(source), "-o", str(made)], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[:4000]
            made.replace(target)
    library = ctypes.CDLL(str(target))
    library.why.restype = ctypes.c_char_p
    return library


@cache
def _library(source: str, dtype: str) -> ctypes.CDLL:
    return compiled(signature.text(source, dtype), tuple(signature.kernels(source)))


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


class Emulator:
    """See ``cnnforge.backends.cupy.device.Device``.

    opaque: give arrays that only the device can read, as on a real one
    """

    name = "emulated"

    def __init__(self, opaque: bool = False, free: int = 1 << 40) -> None:
        self.launched, self._opaque, self._free = 0, opaque, free

    def free(self):
        return self._free

    def zeros(self, nbytes):
        raw = np.zeros(nbytes + ALIGN, np.uint8)
        start = -raw.ctypes.data % ALIGN
        return raw[start : start + nbytes]

    def view(self, buffer, offset, shape, dtype):
        end = offset + int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if not 0 <= offset <= end <= len(buffer):
            raise IndexError(f"{shape} {dtype} at {offset} does not fit {len(buffer)} bytes")
        array = buffer[offset:end].view(dtype).reshape(shape)
        return Opaque(array) if self._opaque else array

    def address(self, array):
        return _open(array).ctypes.data

    def launch(self, source, kernel, grid, block, args):
        call = signature.call(source, kernel, args)
        library = _library(source, call.dtype)
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
            if run(dims, pointers, next(turns) % 2):
                raise RuntimeError(f"{source}.{kernel}: {library.why().decode()}")

        return Queued(step)

    def product(self, a, b, out, turn_a, turn_b):
        return None

    def fill(self, array, byte):
        return Queued(lambda: _open(array).reshape(-1).view(np.uint8).fill(byte))

    def copy(self, source, into):
        return Queued(lambda: np.copyto(_open(into).reshape(-1), _open(source).reshape(-1)))

    def run(self, steps):
        for step in steps:
            step()

    def room(self, shape, dtype):
        return np.zeros(shape, dtype)

    def send(self, host, into):
        assert host.shape == into.shape, (host.shape, into.shape)
        assert host.dtype == into.dtype, (host.dtype, into.dtype)
        _open(into)[...] = host

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
        _open(into)[...] = host

    def get(self, array):
        return _open(array).copy()

    def sync(self):
        pass


class Apart(Emulator):
    """The same, with steps and batches on streams of their own, as a real one has.

    hurried: batches come as early as they may, else as late as they may; steps run when somebody waits for them
    """

    def __init__(self, hurried: bool) -> None:
        super().__init__(opaque=True)
        streams: list[Stream] = []
        self.steps, self.copies = Stream(streams), Stream(streams, hurried)
        self._released: dict[int, Event] = {}
        self._sent: dict[int, Event] = {}

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
        event = Event()
        event.record(stream)
        return event

    def put(self, host, into):
        self.steps.ask(partial(super().put, np.array(host), into))

    def get(self, array):
        self.sync()
        return super().get(array)

    def sync(self):
        self.steps.synchronize()
