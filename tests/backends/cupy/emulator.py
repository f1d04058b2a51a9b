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
from functools import cache
from itertools import count
from pathlib import Path

import numpy as np

from cnnforge.backends.cupy import signature
from cnnforge.backends.cupy.device import Queued
from tests.backends.cupy.convolved import convolve

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
    plans: how many its library has for every convolution; 0: it has no library
    """

    name = "emulated"

    def __init__(self, opaque: bool = False, free: int = 1 << 40, plans: int = 0) -> None:
        self.launched, self._opaque, self._free, self._plans = 0, opaque, free, plans
        self.convolved = []

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

        return Queued(step)

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
