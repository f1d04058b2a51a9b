from __future__ import annotations

from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from cnnforge.data.resample import bilinear, bilinear_weights, nearest, pad

sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))


def naive_bilinear(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """One picture (h, w, c), growing only: four neighbours, edges repeated."""
    h, w, c = x.shape
    y = np.zeros((height, width, c))
    for i in range(height):
        for j in range(width):
            r, s = (i + 0.5) * h / height - 0.5, (j + 0.5) * w / width - 0.5
            top, left = floor(r), floor(s)
            for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
                share = (1 - abs(r - row)) * (1 - abs(s - column))
                y[i, j] += share * x[min(max(row, 0), h - 1), min(max(column, 0), w - 1)]
    return y


@given(sizes, sizes, st.sampled_from([1, 3]), st.integers(0, 99))
def test_growing_is_textbook_bilinear(size: tuple[int, int], more: tuple[int, int], channels: int, seed: int) -> None:
    out = size[0] + more[0], size[1] + more[1]
    x = np.random.default_rng(seed).normal(size=(2, *size, channels))
    y = bilinear(size, out)(x)
    for i in range(2):
        np.testing.assert_allclose(y[i], naive_bilinear(x[i], *out), atol=2e-6)


@given(sizes, st.tuples(st.integers(1, 20), st.integers(1, 20)), st.integers(0, 99))
def test_agrees_with_pillow_both_ways(size: tuple[int, int], out: tuple[int, int], seed: int) -> None:
    x = np.random.default_rng(seed).uniform(0, 255, size).astype(np.float32)
    theirs = np.asarray(Image.fromarray(x).resize((out[1], out[0]), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(bilinear(size, out)(x[None, ..., None])[0, ..., 0], theirs, atol=1e-3)


@given(st.integers(1, 40), st.integers(1, 40))
def test_weights_sum_to_one_and_are_exact(size: int, out: int) -> None:
    weights = bilinear_weights(size, out)
    assert (weights.sum(axis=1) == 1.0).all()
    assert (weights >= 0).all()
    assert (weights * 2**22 == np.round(weights * 2**22)).all()


@given(arrays(np.uint8, (3, 7, 5, 1)), sizes)
def test_eight_bit_does_not_depend_on_summing_order(x: np.ndarray, out: tuple[int, int]) -> None:
    """Exact arithmetic: mirrored pictures, summed the other way round, give mirrored results to the bit."""
    resize = bilinear((7, 5), out)
    np.testing.assert_array_equal(resize(x[:, ::-1, ::-1]), resize(x)[:, ::-1, ::-1])
    np.testing.assert_array_equal(resize(x[1:2]), resize(x)[1:2])


def test_halves_round_up() -> None:
    x = np.array([[0, 1]], np.uint8)[None, ..., None]
    assert bilinear((1, 2), (1, 1))(x)[0, 0, 0, 0] == 1
    assert bilinear((1, 2), (1, 4))(np.array([[0, 255]], np.uint8)[None, ..., None])[0, 0, :, 0].tolist() == [
        0,
        64,
        191,
        255,
    ]


@given(sizes, sizes, st.integers(0, 99))
def test_nearest_takes_the_pixel_under_the_centre(size: tuple[int, int], out: tuple[int, int], seed: int) -> None:
    x = np.random.default_rng(seed).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    y = nearest(size, out)(x)
    for i in range(out[0]):
        for j in range(out[1]):
            row, column = floor((i + 0.5) * size[0] / out[0]), floor((j + 0.5) * size[1] / out[1])
            np.testing.assert_array_equal(y[:, i, j], x[:, row, column])


@pytest.mark.parametrize(("size", "out", "top", "left"), [((2, 3), (5, 4), 1, 0), ((4, 4), (4, 8), 0, 2)])
def test_pad_centres_with_zeros(size: tuple[int, int], out: tuple[int, int], top: int, left: int) -> None:
    x = np.random.default_rng(0).integers(1, 256, (2, *size, 1), dtype=np.uint8)
    y = pad(size, out)(x)
    assert y.shape == (2, *out, 1)
    np.testing.assert_array_equal(y[:, top : top + size[0], left : left + size[1]], x)
    assert y.sum() == x.sum(dtype=int)
