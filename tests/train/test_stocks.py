"""Which pictures stay on a device."""

import numpy as np
import pytest

from cnnforge.backends import create
from cnnforge.data import Split
from cnnforge.train.stocks import stocked


class Kept:
    def __init__(self, stays):
        self.stays = stays


class Device:
    """Has so much memory free."""

    def __init__(self, free):
        self._free = free

    def free(self):
        return self._free

    def stock(self, x, batch, stays):
        assert batch == 10
        return Kept(stays) if x.dtype == np.uint8 and x.size else None


def split(n, dtype=np.uint8):
    return Split(np.zeros((n, 10, 10, 1), dtype), np.zeros(n))


def stay(free, *splits, taken=0, canvases=None):
    found, note = stocked(Device(free), splits, 10, canvases or (1,) * len(splits), taken, "float32")
    return [stock and stock.stays for stock in found], note


def test_a_quarter_of_what_is_free_may_be_pictures_and_the_first_splits_come_first():
    splits = split(1000), split(300), split(200)
    assert stay(800_000, *splits) == ([True] * 3, "")
    assert stay(600_000, *splits)[0] == [True, True, True]
    assert stay(599_999, *splits)[0] == [True, True, False]
    assert stay(480_000, *splits)[0] == [True, False, True]
    assert stay(399_999, *splits)[0] == [False, True, True]
    assert stay(0, *splits)[0] == [False] * 3


def test_what_the_network_takes_is_left_to_it():
    copies = 3 * 10 * 100
    assert stay(800_000, split(1000), taken=700_000 - copies, canvases=(3,))[0] == [True]
    assert stay(800_000, split(1000), taken=700_001 - copies, canvases=(3,))[0] == [False]


def test_it_is_said_where_they_do_not_stay():
    assert stay(1 << 40, split(1000)) == ([True], "")
    assert stay(70 << 20, split(1 << 18), split(20))[1] == (
        "25 MiB of pictures go to the GPU batch by batch: they take more than 25% of its free memory, or of what the "
        "network leaves"
    )


@pytest.mark.parametrize("free", [0, 1 << 40])
def test_splits_that_the_host_makes_batches_of(free):
    assert stay(free, split(10, np.float32), split(0)) == ([None, None], "")


def test_devices_make_float32():
    assert stocked(Device(1 << 40), [split(5)], 10, (1,), 0, "float64") == ([None], "")


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_cpus_keep_none(backend):
    assert stocked(create(backend), [split(5), split(3)], 10, (1, 1), 0, "float32") == ([None, None], "")
