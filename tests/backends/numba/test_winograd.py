"""Winograd convolution on shapes larger than the shared cases: full tiles, cut ones, several groups and shards."""

import numpy as np
import pytest

from cnnforge.backends.numba.backend import NumbaBackend
from cnnforge.backends.numba.capabilities import INEXACT, ways
from cnnforge.backends.numba.rules.conv import winograd_rows
from cnnforge.shapes import window
from tests import one_node

#: (N, H, W, C), F, padding, flip
SHAPES = {
    "whole tiles": ((2, 8, 8, 16), 16, "valid", False),
    "padded": ((3, 16, 16, 32), 64, 1, False),
    "cut tiles, overlapping vectors, flipped": ((3, 9, 7, 20), 37, (0, 1, 2, 3), True),
    "padding beyond the kernel": ((2, 6, 6, 17), 16, 4, False),
    "one tile smaller than four": ((5, 3, 3, 16), 18, 1, True),
    "fewer tiles than shards": ((1, 4, 4, 48), 16, 1, False),
    "many groups of tiles": ((19, 13, 21, 64), 24, 1, False),
}
OPS = ["conv2d", "conv2d_dx", "conv2d_dw"]
#: Of float32 against float64, in units of the largest result; the module states what was measured.
TOLERANCE = 2e-5


def _winograds(op, ins, outs, attrs):
    found = ways(op, tuple(ins), tuple(np.empty(*out) for out in outs), attrs)
    return [way for way in found if way in INEXACT]


def _node(op, shape, f, padding, flip, dtype="float32"):
    rng = np.random.default_rng(0)
    win = window(shape[1:3], (3, 3), (1, 1), padding, (1, 1))
    x, w = rng.normal(size=shape), rng.normal(size=(3, 3, shape[3], f))
    dy = rng.normal(size=(shape[0], *win.out, f))
    ins, out = {"conv2d": ([x, w], dy), "conv2d_dx": ([dy, w], x), "conv2d_dw": ([x, dy], w)}[op]
    return [a.astype(dtype) for a in ins], [(out.shape, dtype)], {"window": win, "groups": 1, "flip": flip}


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_it_gives_what_numpy_gives_in_float64(shape, op):
    ins, outs, attrs = _node(op, *shape, dtype="float64")
    (expected,) = one_node.run(op, [a.astype("float32").astype("float64") for a in ins], outs, attrs)
    ins, outs, attrs = _node(op, *shape)
    for way in _winograds(op, ins, outs, attrs):
        (found,) = one_node.run(op, ins, outs, attrs, "numba", way=way)
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * abs(expected).max(), err_msg=way)


@pytest.mark.parametrize("op", OPS)
def test_the_number_of_threads_changes_no_bit(op, monkeypatch):
    ins, outs, attrs = _node(op, *SHAPES["many groups of tiles"])
    for way in _winograds(op, ins, outs, attrs):
        found = []
        for threads in (1, 2):
            monkeypatch.setattr(one_node, "_device", lambda name, threads=threads: NumbaBackend(threads))
            found.append(one_node.run(op, ins, outs, attrs, way=way)[0])
        np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("op", OPS)
def test_ways_with_as_many_rows_of_tiles_are_one(op):
    for columns, forward, gradient in ((4, 4, 3), (30, 4, 3), (64, 2, 3), (200, 1, 1)):
        win = window((30, columns), (3, 3), (1, 1), 1, (1, 1))
        x, w = np.empty((8, 30, columns, 16), np.float32), np.empty((3, 3, 16, 16), np.float32)
        ins, out = {"conv2d": ((x, w), x), "conv2d_dx": ((x, w), x), "conv2d_dw": ((x, x), w)}[op]
        found = _winograds(op, ins, [(out.shape, "float32")], {"window": win, "groups": 1, "flip": False})
        assert len(found) == (gradient if op == "conv2d_dw" else forward)
        assert len({winograd_rows(way, columns) for way in found}) == len(found)


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "groups", "c"),
    [(5, 1, 1, 1, 16), (3, 2, 1, 1, 16), (3, 1, 2, 1, 16), (3, 1, 1, 2, 32), (3, 1, 1, 1, 15)],
)
def test_other_convolutions_take_another_way(kernel, stride, dilation, groups, c):
    win = window((16, 16), (kernel, kernel), (stride, stride), 1, (dilation, dilation))
    x, w = np.empty((1, 16, 16, c), np.float32), np.empty((kernel, kernel, c // groups, 16), np.float32)
    y = np.empty((1, *win.out, 16), np.float32)
    attrs = {"window": win, "groups": groups, "flip": False}
    assert INEXACT.isdisjoint(ways("conv2d", (x, w), (y,), attrs))
    assert INEXACT.isdisjoint(ways("conv2d_dx", (y, w), (x,), attrs))
    assert INEXACT.isdisjoint(ways("conv2d_dw", (x, y), (w,), attrs))


def test_maps_of_which_a_tile_wastes_too_much_take_another_way():
    win = window((2, 2), (3, 3), (1, 1), 1, (1, 1))
    x, w = np.empty((1, 2, 2, 16), np.float32), np.empty((3, 3, 16, 16), np.float32)
    assert INEXACT.isdisjoint(ways("conv2d", (x, w), (x,), {"window": win, "groups": 1, "flip": False}))
