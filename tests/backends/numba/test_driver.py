"""The driver and its table: every part of every range exactly once, in order, on any number of threads."""

from itertools import pairwise

import numpy as np
import pytest
from numba import carray

from cnnforge.backends.numba.backend import Chain, NumbaBackend
from cnnforge.backends.numba.driver import Call, Run, bound
from cnnforge.backends.numba.signature import Kernel, doubles, longs


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
