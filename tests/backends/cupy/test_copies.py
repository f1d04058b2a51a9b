"""Batches are copied while steps run, on a CuPy whose streams keep no order that was not asked for."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from cnnforge.backends.cupy.cuda import CudaDevice
from tests.backends.cupy import test_cuda_calls as calls
from tests.backends.cupy.streams import Event, Stream


class Pointer(calls.Pointer):
    def __add__(self, more):
        return Pointer(self.block, self.offset + more)

    def memset_async(self, byte, nbytes, stream):
        stream.ask(lambda: self.block.__setitem__(slice(self.offset, self.offset + nbytes), byte))

    def copy_from_device_async(self, source, nbytes, stream):
        def copy():
            self.block[self.offset : self.offset + nbytes] = source.block[source.offset : source.offset + nbytes]

        stream.ask(copy)


class Array(calls.Array):
    def __init__(self, shape, dtype, memptr=None):
        super().__init__(shape, dtype, memptr)
        self.data = memptr or Pointer(self.data.block)

    def set(self, host, stream):
        assert (host.shape, host.dtype) == (self.shape, self.dtype)
        stream.ask(lambda: self._seen().__setitem__(..., host))  # read when the copy is made

    def get(self, stream):
        stream.synchronize()
        return self._seen().copy()


class Cupy(calls.Cupy):
    """``hurried``: is the second stream in a hurry?"""

    def __init__(self, hurried):
        super().__init__()
        self.ndarray = Array
        self.events, streams = [], []

        def event(disable_timing, block=False):
            assert disable_timing, "timing makes events slow"
            self.events.append(Event())
            return self.events[-1]

        class Both(Stream):
            def __init__(self, non_blocking):
                assert non_blocking
                super().__init__(streams, hurried and len(streams) == 1)

            __enter__ = __exit__ = lambda self, *error: None

        self.cuda.Event, self.cuda.Stream = event, Both


@pytest.fixture(params=[False, True], ids=["late", "early"])
def cupy(request, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupyx", SimpleNamespace(empty_pinned=np.empty))
    monkeypatch.setattr(CudaDevice, "_cublas", None)
    return Cupy(request.param)


@pytest.fixture
def device(cupy):
    return CudaDevice(cupy)


def numbers(device, n=4):
    return device.view(device.zeros(8 * n), 0, (n,), "float64")


BATCHES = 7


@pytest.mark.parametrize("apart", [True, False])
def test_every_step_reads_its_own_batch(device, apart):
    """Two inputs and two rooms in turn. A step reads twice: as late as a first layer's weight gradient does."""
    inputs, rooms = [numbers(device) for _ in range(2)], [device.room((4,), "float64") for _ in range(2)]
    seen = [[numbers(device) for _ in range(2)] for _ in range(BATCHES)]
    for i in range(BATCHES):
        into, room = inputs[i % 2], rooms[i % 2]
        device.sent(room)
        room[...] = i + 1
        device.send(room, into)
        for out in seen[i]:
            device.run([device.copy(into, out)])
            if apart:
                device.release(into)
    for i in range(BATCHES):
        for out in seen[i]:
            assert device.get(out).tolist() == [i + 1] * 4


def test_a_copy_comes_while_the_step_before_runs(device, cupy):
    """What it has to wait for is over, so it does not wait for what runs: only an early one shows it."""
    inputs, rooms = [numbers(device) for _ in range(2)], [device.room((4,), "float64") for _ in range(2)]
    out = numbers(device)
    for into, room in zip(inputs, rooms, strict=True):
        device.send(room, into)
        device.run([device.copy(into, out)])
        device.release(into)
    device.sync()
    running = []
    device.run([lambda: device.stream.ask(lambda: running.append(inputs[0]._seen().tolist()))])
    rooms[0][...] = 9
    device.send(rooms[0], inputs[0])
    assert not running
    device.sent(rooms[0])
    assert not running, "it was waited for, and not the step"
    assert device.get(out).tolist() == [0] * 4
    assert running == [[9] * 4]


def test_memory_that_was_somebody_elses_forgets_what_read_it(device):
    """An event of an array that is gone says nothing of a new one at the same place."""
    old = numbers(device)
    device.send(device.room((4,), "float64"), old)
    device.release(old)
    device.sync()
    assert device._released
    block = old.data.block

    class Again(Array):
        def __init__(self, shape, dtype, memptr=None):
            super().__init__(shape, dtype, memptr or Pointer(block))

    device._cupy.ndarray = Again
    new, room = numbers(device), device.room((4,), "float64")
    assert device.address(new) == device.address(old)
    assert not device._released
    room[...] = 5
    device.send(room, new)
    assert device.get(new).tolist() == [5] * 4, "not zeros that were written behind it"


def test_events_are_used_again(device, cupy):
    into, room = numbers(device), device.room((4,), "float64")
    counts = []
    for _ in range(5):
        device.sent(room)
        device.send(room, into)
        for _ in range(2):
            device.release(into)
        counts.append(len(cupy.events))
    assert counts[1:] == counts[1:2] * 4
