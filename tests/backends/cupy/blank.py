"""A GPU without memory: arrays are their shapes. Any plan can be bound on it, and its launches looked at."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod

import ml_dtypes  # noqa: F401 - NumPy knows "bfloat16" by it
import numpy as np

from cnnforge.backends.cupy import signature
from cnnforge.backends.cupy.device import Queued
from cnnforge.backends.cupy.tail import NOTHING

#: What CUDA takes: blocks of a grid along each axis, and threads of a block.
MOST_BLOCKS, MOST_THREADS = (2**31 - 1, 65535, 65535), 1024


@dataclass(frozen=True)
class Blank:
    """An array of nothing, ``at`` bytes into some buffer."""

    buffer: int
    at: int
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def size(self):
        return prod(self.shape)

    @property
    def nbytes(self):
        return self.size * self.dtype.itemsize

    @property
    def ndim(self):
        return len(self.shape)

    def reshape(self, *shape):
        shape = shape[0] if isinstance(shape[0], tuple) else shape
        rest = self.size // -prod(shape)
        made = Blank(self.buffer, self.at, tuple(rest if n == -1 else n for n in shape), self.dtype)
        assert made.size == self.size, f"{self.shape} is not {shape}"
        return made

    def __getitem__(self, part):
        assert isinstance(part, slice), "numbers of a device's array are not to be had"
        (size,) = self.shape
        start, stop, step = part.indices(size)
        assert step == 1
        return Blank(self.buffer, self.at + start * self.dtype.itemsize, (max(0, stop - start),), self.dtype)


@dataclass(frozen=True)
class Memory:
    number: int
    nbytes: int


class BlankDevice:
    """See ``cnnforge.backends.cupy.device.Device``. Steps do nothing but count: ``launched``, by kernel."""

    name = "blank"

    def __init__(self, library: bool = True) -> None:
        """``library``: has it products of its own?"""
        self.library, self.launched, self._buffers = library, Counter(), 0

    def _counting(self, name):
        def step():
            self.launched[name] += 1

        return Queued(step)

    def free(self):
        return 1 << 60

    def zeros(self, nbytes):
        self._buffers += 1
        return Memory(self._buffers, nbytes)

    def view(self, buffer, offset, shape, dtype):
        array = Blank(buffer.number, offset, tuple(shape), np.dtype(dtype))
        if not 0 <= offset <= offset + array.nbytes <= buffer.nbytes:
            raise IndexError(f"{shape} {dtype} at {offset} does not fit {buffer.nbytes} bytes")
        return array

    def address(self, array):
        return array.buffer << 50 | array.at

    def launch(self, source, kernel, grid, block, args, tail=NOTHING):
        call = signature.call(source, kernel, args, tail)
        for blocks, most in zip(grid, MOST_BLOCKS, strict=False):
            assert 1 <= blocks <= most, f"{kernel}: a grid of {grid}"
        assert 1 <= prod(block) <= MOST_THREADS, f"{kernel}: blocks of {block}"
        for dtype, value in call.arguments:
            assert not dtype or np.dtype(dtype).kind == "f" or np.dtype(dtype).type(value) == value, (
                f"{kernel}: {value}"
            )
        return self._counting("+".join((kernel, *(function.name for function in tail.functions))))

    def product(self, a, b, out, turn_a, turn_b, tf32):
        depths = a.shape[0 if turn_a else 1], b.shape[1 if turn_b else 0]
        assert depths[0] == depths[1]
        assert out.shape == (a.shape[1 if turn_a else 0], b.shape[0 if turn_b else 1])
        return self._counting("library") if self.library else None

    def convolution(self, how, plan, arrays, space):
        """It has none."""

    def fill(self, array, byte):
        return self._counting("fill")

    def copy(self, source, into):
        assert source.nbytes == into.nbytes
        return self._counting("copy")

    def run(self, steps):
        for step in steps:
            step()

    def capture(self, steps):
        def run():
            for step in steps:
                step()

        return run

    def room(self, shape, dtype):
        return np.zeros(shape, dtype)

    def send(self, host, into):
        assert (host.shape, host.dtype) == (into.shape, into.dtype)

    def put(self, host, into):
        """Numbers are not kept."""

    def get(self, array):
        return np.zeros(array.shape, array.dtype)

    def sync(self):
        """Nothing runs."""
