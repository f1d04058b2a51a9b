"""Dropout draws what the numpy backend draws, to the bit, whatever the shape of the mask."""

import numpy as np
import pytest

from cnnforge.backends.numba.backend import NumbaBackend
from cnnforge.backends.numba.rules.elementwise import PIECE
from cnnforge.rng import stream
from tests import one_node

#: x, mask
SHAPES = {
    "one": ((1, 1), (1, 1)),
    "small": ((5, 7), (5, 7)),
    "pieces": ((3, PIECE + 37), (3, PIECE + 37)),
    "whole pieces": ((2, 2, PIECE), (2, 2, PIECE)),
    "maps": ((4, 9, 9, 10), (4, 9, 9, 10)),
    "channels": ((3, 40, 41, 10), (3, 1, 1, 10)),
    "many channels": ((2, 9, 9, 130), (2, 1, 1, 130)),
    "samples": ((5, 33, 31, 6), (5, 1, 1, 1)),
    "rows, by the numpy backend": ((3, 4, 5, 6), (3, 4, 1, 1)),
}


def _node(shape, kept, rate, seed=3):
    block = np.zeros(7)
    block[1:3] = 2**40 + 12345, 2**32 - 2  # the sample's number runs over
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return [x, block], [(shape, "float32"), (kept, "bool")], {"rate": rate, "key": stream(seed, "dropout", "drop1")}


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 1 - 2.0**-25])
@pytest.mark.parametrize(("shape", "kept"), SHAPES.values(), ids=SHAPES)
def test_it_draws_what_numpy_draws(shape, kept, rate):
    ins, outs, attrs = _node(shape, kept, rate)
    y, mask = one_node.run("dropout", ins, outs, attrs)
    found, drawn = one_node.run("dropout", ins, outs, attrs, "numba")
    np.testing.assert_array_equal(drawn, mask)
    np.testing.assert_array_equal(found, y)
    over, _ = one_node.run("dropout", ins, [0, outs[1]], attrs, "numba")
    np.testing.assert_array_equal(over, y)
    (dx,) = one_node.run("dropout_dx", [mask, ins[0]], outs[:1], {"rate": rate})
    (found,) = one_node.run("dropout_dx", [mask, ins[0]], outs[:1], {"rate": rate}, "numba")
    np.testing.assert_array_equal(found, dx)


@pytest.mark.parametrize("which", ["pieces", "channels"])
def test_the_number_of_threads_changes_no_bit(which, monkeypatch):
    ins, outs, attrs = _node(*SHAPES[which], 0.3)
    found = []
    for threads in (1, 2):
        monkeypatch.setattr(one_node, "_device", lambda name, threads=threads: NumbaBackend(threads))
        found.append(one_node.run("dropout", ins, outs, attrs))
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_step_is_read_when_it_runs():
    (x, block), _, attrs = _node((4, 33), (4, 33), 0.5)
    backend, y, mask = NumbaBackend(1), np.empty_like(x), np.empty(x.shape, bool)
    room = (np.empty((backend.native_threads, 64), np.uint8),)
    step = backend.kernel("dropout")((x, block), (y, mask), room, **attrs)
    backend.run([step])
    first = mask.copy()
    block[1] += 1
    backend.run([step])
    assert (mask != first).any()
