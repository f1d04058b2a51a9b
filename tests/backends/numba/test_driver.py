"""The driver and its table: every part of every range exactly once, in order, on any number of threads."""

import subprocess
import sys
import threading
import time
from itertools import pairwise

import numpy as np
import pytest

from cnnforge.backends.numba import team as team_module
from cnnforge.backends.numba.backend import Chain, NumbaBackend
from cnnforge.backends.numba.driver import Call, Run, bound
from cnnforge.backends.numba.language import carray
from cnnforge.backends.numba.signature import Kernel, doubles, longs
from cnnforge.backends.numba.team import Team


@Kernel
def _count(block: int, lo: int, hi: int, thread: int) -> None:
    a = carray(longs(block), (2,))
    seen = carray(longs(a[0]), (a[1],))
    for i in range(lo, hi):
        seen[i] += 1


@Kernel
def _running(block: int, lo: int, hi: int, thread: int) -> None:
    """Each element takes the sum of all before the call: wrong wherever a thread runs ahead."""
    a = carray(longs(block), (4,))
    n = a[2]
    before, after, step = carray(longs(a[0]), (n,)), carray(longs(a[1]), (n,)), carray(doubles(a[3]), (1,))
    total = 0
    for i in range(n):
        total += before[i]
    for i in range(lo, hi):
        after[i] = total % 1000 + int(step[0])


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [1, 2, 5, 64])
def test_every_part_runs_once(n, threads):
    seen = np.zeros(n, np.int64)
    bound(_count, n, threads, seen, n)()
    np.testing.assert_array_equal(seen, 1)


@pytest.mark.parametrize("threads", [1, 2])
def test_all_threads_meet_between_kernels(threads):
    n = 64
    arrays = [np.arange(n), *(np.zeros(n, np.int64) for _ in range(200))]
    Run([bound(_running, n, threads, before, after, n, 3.0) for before, after in pairwise(arrays)])()
    total = arrays[0].sum()
    for array in arrays[1:]:
        np.testing.assert_array_equal(array, total % 1000 + 3)
        total = array.sum()


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("counts", [(1, 64, 1, 1, 64, 64, 1), (64, 0, 1, 64), (1, 1), (0,)])
def test_kernels_of_one_part_are_in_order_too(threads, counts):
    """Sums long enough for a thread that does not wait to read what is not written yet."""
    n = 1 << 14
    arrays = [np.arange(n), *(np.zeros(n, np.int64) for _ in counts)]
    calls = []
    for count, (before, after) in zip(counts, pairwise(arrays), strict=True):
        calls.append(bound(_running, count, threads, before, after, n, 3.0))
    for _ in range(5):
        for array in arrays[1:]:
            array[:] = 0
        Run(calls)()
        for count, (before, after) in zip(counts, pairwise(arrays), strict=True):
            np.testing.assert_array_equal(after, np.where(np.arange(n) < count, before.sum() % 1000 + 3, 0))


def test_who_sleeps_is_woken(monkeypatch):
    monkeypatch.setattr(team_module, "PATIENCE", 10)
    three, seen = Team(3), np.zeros(8, np.int64)
    table = np.array([bound(_count, 8, 3, seen, 8).row()])
    for n in range(1, 6):
        three.walk(table)
        np.testing.assert_array_equal(seen, n)
        until = time.monotonic() + 10
        while three._words[team_module._SLEEPING] < 2 and time.monotonic() < until:
            time.sleep(0.001)
        assert three._words[team_module._SLEEPING] == 2


def test_several_threads_ask_at_once():
    """The counts are only right where rounds do not mix."""
    arrays = [np.zeros(16, np.int64) for _ in range(3)]
    rounds = 300

    def ask(seen):
        run = Run([bound(_count, 16, 2, seen, 16)] * 2)
        for _ in range(rounds):
            run()

    asking = [threading.Thread(target=ask, args=(seen,)) for seen in arrays]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    for seen in arrays:
        np.testing.assert_array_equal(seen, 2 * rounds)


def test_where_the_system_gives_fewer_threads_fewer_do_it_all(monkeypatch):
    start, started = threading.Thread.start, []

    def refuse(thread):
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        few = Team(4)
    assert few.threads == 2
    seen = np.zeros(7, np.int64)
    few.walk(np.array([bound(_count, 7, 4, seen, 7).row()]))
    np.testing.assert_array_equal(seen, 1)


FORK = """
import os
import numpy as np
from cnnforge.backends.numba.driver import bound
from tests.backends.numba.tiny import ADDING
x = np.zeros(8, np.int64)
call = bound(ADDING[1], 8, 2, x, 8)
call()
if (child := os.fork()) == 0:
    call()
    os._exit(int(x.sum()))
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 16
call()
assert x.sum() == 16
"""


def test_a_forked_process_has_threads_of_its_own():
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], check=True, timeout=60)


def test_neighbouring_calls_are_linked_and_host_steps_stay_between():
    backend, seen = NumbaBackend(threads=2), np.zeros(4, np.int64)
    call, log = bound(_count, 4, 2, seen, 4), []
    steps = backend.link([call, Chain([call, call]), lambda: log.append(seen.copy()), call])
    assert [type(step).__name__ for step in steps] == ["Run", "function", "Run"]
    backend.run(steps)
    np.testing.assert_array_equal(log[0], 3)
    np.testing.assert_array_equal(seen, 4)


def test_arrays_that_do_not_lie_in_a_row_are_refused():
    with pytest.raises(AssertionError, match="as they lie"):
        bound(_count, 2, 1, np.zeros((2, 2), np.int64).T, 2)


def test_threads():
    assert NumbaBackend(threads=1).native_threads == 1
    assert NumbaBackend(threads=10_000).native_threads <= 10_000
    assert isinstance(NumbaBackend().kernel("relu")(*_relu()), Call)


def _relu():
    x = np.zeros((2, 3), np.float32)
    return (x,), (x,), ()


@pytest.mark.parametrize(("nbytes", "threads"), [(800_000, 2), (80_000, 1)])
def test_a_run_that_touches_little_stays_on_one_thread(nbytes, threads, monkeypatch):
    monkeypatch.setattr("cnnforge.backends.numba.driver.SPREAD", 300_000)
    seen = np.zeros(nbytes // 8, np.int64)
    run = Run([bound(_count, 2, 2, seen, 2)] * 9)
    assert run._threads == threads
    run()
    assert seen[0] == seen[1] == 9
