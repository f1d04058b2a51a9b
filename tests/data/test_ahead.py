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
from cnnforge.data.ahead import Ahead, InTurn

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


def rooms(n: int = 2) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    return [(np.empty((SIZE, 1, 1, 1), np.float32), np.empty(SIZE, np.int64)) for _ in range(n)]


def ahead(samples: Batches, epoch: int = 0, step: int = 0, total: int = 100, n: int = 2) -> Ahead:
    return Ahead(samples, epoch, step, total, rooms(n))


Taken = list[tuple[list[float], list[int]]]


def taken(batches: Ahead | InTurn, step: int, total: int, nap: float = 0.0) -> Taken:
    """Every batch as it is after it was looked at for a while."""
    found, samples = [], source()
    with batches:
        for i in range(step, step + total):
            number = batches.next()
            x, labels = batches._room if isinstance(batches, InTurn) else batches._rooms[number]  # type: ignore[index]
            n = samples.size(i % samples.steps_per_epoch)
            time.sleep(nap)
            found.append((x[:n].ravel().tolist(), labels[:n].tolist()))
    return found


@given(
    st.integers(0, 3), st.integers(0, 4), st.integers(0, 17), st.integers(0, 2), st.integers(0, 2), st.integers(1, 3)
)
@settings(max_examples=40)
def test_the_same_batches_from_any_place_on_at_any_pace(
    epoch: int, step: int, total: int, making: int, reading: int, n: int
) -> None:
    samples = source(Slow)
    samples.nap = lambda: making * 0.0004
    there = taken(ahead(samples, epoch, step, total, n), step, total, reading * 0.0004)
    assert there == taken(InTurn(source(), epoch, step, total, *rooms(1)), step, total)
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
    with ahead(samples, n=3):
        until = time.monotonic() + 5
        while samples.begun < 3 and time.monotonic() < until:
            time.sleep(0.001)
        time.sleep(0.02)
        assert samples.begun == 3


@pytest.mark.parametrize("number", [0, 1, 7])
def test_leaving_early_waits_for_one_batch_at_most(number: int) -> None:
    samples = source(Slow)
    batches = ahead(samples)
    with batches:
        for _ in range(number):
            batches.next()
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
    batches = ahead(samples)
    with batches:
        for _ in range(3):
            batches.next()
        with pytest.raises(type(error)) as caught:
            batches.next()
    assert caught.value is error
    assert not running()


def test_an_error_in_drawing_an_epoch() -> None:
    class Undrawn(Batches):
        def epoch(self, number: int) -> Any:
            raise ZeroDivisionError

    batches = ahead(source(Undrawn))
    with batches, pytest.raises(ZeroDivisionError):
        batches.next()


def test_an_error_that_nobody_asks_for_is_no_trouble() -> None:
    samples = source(Broken)
    with ahead(samples, step=3):
        pass
    assert not running()


def test_taking_a_batch_allocates_no_array() -> None:
    x = np.zeros((64, 40, 40, 3), np.float32)
    samples = Batches(Split(x, np.zeros(64, np.int64)), Preprocessing.identity((40, 40, 3)), 16, seed=0, shuffle=True)
    batches = Ahead(samples, 0, 0, 100, [(np.empty((16, 40, 40, 3), np.float32), np.empty(16, np.int64))] * 2)
    with batches:
        for _ in range(3):
            batches.next()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            for _ in range(8):
                batches.next()
            peak = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
    assert peak < 32768, "views and an epoch's order; the smallest picture batch has 300 KiB"


@pytest.mark.parametrize("threaded", [False, True])
def test_a_room_is_filled_once_nobody_reads_it(threaded):
    """What is asked for comes before each batch, on the thread that makes it, and of the room that it goes into."""
    told: list[tuple[int, str]] = []

    def vacated(number: int) -> None:
        told.append((number, threading.current_thread().name))

    samples = source(Slow)
    begun: list[int] = []
    samples.nap = lambda: float(begun.append(len(told)) or 0)
    batches = Ahead(samples, 0, 0, 6, rooms(), vacated) if threaded else InTurn(samples, 0, 0, 6, rooms(1)[0], vacated)
    with batches:
        taken_rooms = [batches.next() or 0 for _ in range(6)]
    assert [number for number, _ in told] == taken_rooms
    assert begun == [1, 2, 3, 4, 5, 6]
    assert {name == "cnnforge-batches" for _, name in told} == {threaded}
