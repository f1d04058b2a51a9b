"""Batches made by a thread are those made in turn, and the thread is no trouble."""

from __future__ import annotations

import threading
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cnnforge.data import Batches, Preprocessing, Split
from cnnforge.data.ahead import DEPTH, Ahead, InTurn

N, SIZE = 23, 5


class Slow(Batches):
    """Sleeps before a batch as long as ``nap`` says, and counts the batches begun."""

    begun = 0
    nap: Callable[[], float] = staticmethod(lambda: 0.0)

    def fill(self, *args: Any) -> int:
        self.begun += 1
        time.sleep(self.nap())
        return super().fill(*args)


def source(kind: type[Batches] = Batches) -> Any:
    x = np.arange(N, dtype=np.float32).reshape(N, 1, 1, 1)
    return kind(Split(x, np.arange(N)), Preprocessing.identity((1, 1, 1)), SIZE, seed=3, shuffle=True)


def like() -> tuple[NDArray[Any], NDArray[Any]]:
    return np.empty((SIZE, 1, 1, 1), np.float32), np.empty(SIZE, np.int64)


def put(host: Any, into: Any) -> None:
    """Slow enough for the thread to spoil what it may no longer write to."""
    time.sleep(0.0002)
    into[...] = host


def ahead(samples: Batches, epoch: int = 0, step: int = 0, total: int = 100) -> Ahead:
    return Ahead(samples, epoch, step, total, like=like(), put=put)


def drawn(batches: Ahead | InTurn, samples: Batches, step: int, total: int, nap: Callable[[], float]) -> list[Any]:
    found = []
    with batches:
        for i in range(step, step + total):
            n = samples.size(i % samples.steps_per_epoch)
            x, labels = (array[:n] for array in like())
            time.sleep(nap())
            batches.next(x, labels)
            found.append((x.ravel().tolist(), labels.tolist()))
    return found


@given(st.integers(0, 3), st.integers(0, 4), st.integers(0, 17), st.integers(0, 2), st.integers(0, 2))
@settings(max_examples=30)
def test_the_same_batches_from_any_place_on_at_any_pace(
    epoch: int, step: int, total: int, making: int, using: int
) -> None:
    samples = source(Slow)
    samples.nap = lambda: making * 0.0004
    here = drawn(InTurn(source(), epoch, step, total), source(), step, total, lambda: 0.0)
    there = drawn(ahead(samples, epoch, step, total), source(), step, total, lambda: using * 0.0004)
    assert here == there
    assert samples.begun == total, "none is made that nobody asks for"


def running() -> bool:
    return any(thread.name == "cnnforge-batches" for thread in threading.enumerate())


def test_the_thread_lives_from_entering_to_leaving() -> None:
    batches = ahead(source())
    assert not running()
    with batches:
        assert running()
    assert not running()


def test_it_makes_no_more_than_there_is_room_for() -> None:
    samples = source(Slow)
    with ahead(samples):
        until = time.monotonic() + 5
        while samples.begun < DEPTH and time.monotonic() < until:
            time.sleep(0.001)
        time.sleep(0.02)
        assert samples.begun == DEPTH


@pytest.mark.parametrize("taken", [0, 1, 7])
def test_leaving_early_waits_for_one_batch_at_most(taken: int) -> None:
    samples = source(Slow)
    x, labels = like()
    batches = ahead(samples)
    with batches:
        for i in range(taken):
            batches.next(*(array[: samples.size(i % 5)] for array in (x, labels)))
        samples.nap = lambda: 0.3
        left = time.monotonic()
    assert time.monotonic() - left < 0.55
    assert not running()


class Broken(Batches):
    def fill(self, epoch: Any, step: int, *arrays: Any) -> int:
        if step == 3:
            raise self.error
        return super().fill(epoch, step, *arrays)

    error: BaseException = OSError("gone")


@pytest.mark.parametrize("error", [OSError("gone"), KeyError("gone"), MemoryError(), KeyboardInterrupt()])
def test_an_error_is_raised_as_itself_where_the_batch_is_asked_for(error: BaseException) -> None:
    samples = source(Broken)
    samples.error = error
    x, labels = like()
    batches = ahead(samples)
    with batches:
        for _ in range(3):
            batches.next(x, labels)
        with pytest.raises(type(error)) as caught:
            batches.next(x, labels)
    assert caught.value is error
    assert not running()


def test_an_error_in_drawing_an_epoch() -> None:
    class Undrawn(Batches):
        def epoch(self, number: int) -> Any:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), (batches := ahead(source(Undrawn))):
        batches.next(*like())


def test_an_error_that_nobody_asks_for_is_no_trouble() -> None:
    samples = source(Broken)
    with ahead(samples, step=3):
        pass
    assert not running()


def test_taking_a_batch_allocates_no_array() -> None:
    x = np.zeros((64, 40, 40, 3), np.float32)
    samples = Batches(Split(x, np.zeros(64, np.int64)), Preprocessing.identity((40, 40, 3)), 16, seed=0, shuffle=True)
    into, labels = np.empty((16, 40, 40, 3), np.float32), np.empty(16, np.int64)
    batches = Ahead(samples, 0, 0, 100, like=(into, labels), put=put)
    with batches:
        for _ in range(3):
            batches.next(into, labels)
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            for _ in range(8):
                batches.next(into, labels)
            peak = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
    assert peak < 32768, "views and an epoch's order; the smallest picture batch has 300 KiB"
