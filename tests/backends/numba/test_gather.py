"""Compiled batches of pictures against NumPy's, to the bit, whatever their size."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnforge.backends import create
from cnnforge.backends.numba.gather import CompiledGather
from cnnforge.data import Batches, Preprocessing, Split
from cnnforge.data.adapt import Adaptation
from cnnforge.spec import AugmentSpec

BACKEND = create("numba", threads=1)
KINDS = [{}, {"flip": {}}, {"crop": {"padding": 1}}, {"crop": {"padding": 1, "border": "zero"}, "flip": {"rate": 0.5}}]
#: Kept channels and the input's.
CHANNELS = [(1, 1), (1, 3), (3, 3), (2, 2), (5, 5), (17, 17)]


def pair(x, channels, kinds=KINDS[0], size=4, n_of_constants=0):
    """The same batches made by NumPy and by compiled code."""
    draw = np.random.default_rng(n_of_constants)
    c = x.shape[3]
    mean, std = tuple(draw.uniform(0, 255, c).tolist()), tuple(draw.uniform(1, 90, c).tolist())
    rule = Adaptation((*x.shape[1:3], channels), c, "refuse")
    made = Preprocessing(rule, "uint8", mean, std)
    split, augment = Split(x, np.arange(len(x))), AugmentSpec.model_validate(kinds)
    return [
        Batches(split, made, size, seed=1, shuffle=True, augment=augment, backend=backend)
        for backend in (None, BACKEND)
    ]


@given(
    st.integers(2, 40), st.integers(2, 40), st.sampled_from(CHANNELS), st.integers(1, 9), st.integers(1, 5),
    st.sampled_from(KINDS), st.integers(0, 9),
)  # fmt: skip
def test_to_the_bit(height, width, channels, n, size, kinds, number):
    kept, wanted = channels
    x = np.random.default_rng(number).integers(0, 256, (n, height, width, kept), dtype=np.uint8)
    plain, compiled = pair(x, wanted, kinds, size, number)
    assert isinstance(compiled._compiled, CompiledGather)
    guarded = [np.full((size + 2, height, width, wanted), 7, np.float32) for _ in range(2)]
    labels = np.empty(size, np.int64)
    for step in range(plain.steps_per_epoch):
        for batches, out in zip((plain, compiled), guarded, strict=True):
            batches.fill(batches.epoch(number), step, out[1:-1], labels)
        np.testing.assert_array_equal(*guarded)
        assert (guarded[1][[0, -1]] == 7).all(), "nothing outside the batch is touched"


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 15, 1), (1, 17, 1), (4, 4, 1), (28, 28, 1), (32, 32, 3)])
def test_sizes_at_the_edges_of_vectors(shape):
    x = np.random.default_rng(0).integers(0, 256, (9, *shape), dtype=np.uint8)
    for channels in {shape[2], 3}:
        plain, compiled = pair(x, channels)
        outs = [np.empty((4, *shape[:2], channels), np.float32) for _ in range(2)]
        for batches, out in zip((plain, compiled), outs, strict=True):
            batches.fill(batches.epoch(0), 1, out, np.empty(4, np.int64))
        np.testing.assert_array_equal(*outs)


def test_every_byte_at_every_lane():
    x = (np.arange(256)[:, None] + np.arange(21)).astype(np.uint8).reshape(256, 3, 7, 1)
    for channels in (1, 3):
        plain, compiled = pair(x, channels, size=256)
        outs = [np.empty((256, 3, 7, channels), np.float32) for _ in range(2)]
        for batches, out in zip((plain, compiled), outs, strict=True):
            batches.fill(batches.epoch(0), 0, out, np.empty(256, np.int64))
        np.testing.assert_array_equal(*outs)


def test_what_is_left_to_numpy():
    """Floats, channels repeated otherwise than thrice, and batches of another precision: the same numbers again."""
    draw = np.random.default_rng(0)
    floats, grey = (
        draw.normal(size=(6, 4, 4, 1)).astype(np.float32),
        draw.integers(0, 256, (6, 4, 4, 1), dtype=np.uint8),
    )
    for x, channels in ((floats, 1), (grey, 2)):
        assert pair(x, channels)[1]._compiled is None
    plain, compiled = pair(grey, 3)
    outs = [np.empty((4, 4, 4, 3)) for _ in range(2)]
    for batches, out in zip((plain, compiled), outs, strict=True):
        batches.fill(batches.epoch(0), 0, out, np.empty(4, np.int64))
    np.testing.assert_array_equal(*outs)


def test_arrays_that_would_be_overrun_are_refused():
    _, compiled = pair(np.zeros((4, 4, 4, 1), np.uint8), 3)
    gather, rows = compiled._compiled, np.zeros(2, np.int64)
    for out in (
        np.empty((1, 4, 4, 3), np.float32),
        np.empty((2, 4, 4, 3)),
        np.empty((2, 4, 4, 6), np.float32)[..., ::2],
    ):
        with pytest.raises(AssertionError):
            gather(rows, None, out)


def test_python_goes_on_meanwhile():
    """The lock is free while pictures are made: another thread counts on."""
    x = np.zeros((2, 1000, 1000, 3), np.uint8)
    _, compiled = pair(x, 3, size=2)
    gather, rows, out = compiled._compiled, np.zeros(40, np.int64), np.empty((40, 1000, 1000, 3), np.float32)
    gather(rows, None, out)
    done, counted = threading.Event(), []

    def work():
        gather(rows, None, out)
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    while not done.is_set():
        counted.append(1)
    thread.join()
    assert len(counted) > 100
