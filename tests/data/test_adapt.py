from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cnnforge.data.adapt import Adaptation, adaptation
from cnnforge.errors import DataError


@pytest.mark.parametrize(
    ("shape", "input", "resize", "note"),
    [
        ((32, 32, 3), (32, 32, 3), "bilinear", ""),
        ((8, 8, 1), (32, 32, 3), "bilinear", "pictures 8x8x1 -> 32x32x3: bilinear, channel repeated 3 times"),
        ((28, 28, 1), (28, 28, 3), "refuse", "pictures 28x28x1 -> 28x28x3: channel repeated 3 times"),
        ((20, 28, 1), (30, 28, 1), "nearest",
         "pictures 20x28x1 -> 30x28x1: nearest, aspect changed (height x 1.5, width x 1)"),
        ((28, 28, 1), (32, 33, 1), "pad",
         "pictures 28x28x1 -> 32x33x1: zeros around (top 2, bottom 2, left 2, right 3)"),
        ((32, 32, 3), (16, 16, 1), "bilinear",
         "pictures 32x32x3 -> 16x16x1: grey by 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), bilinear"),
        ((4, 4, 7), (4, 4, 7), "bilinear", ""),
    ],
)  # fmt: skip
def test_what_is_done_is_said(shape, input, resize, note) -> None:  # type: ignore[no-untyped-def]
    rule = adaptation(shape, input, resize)
    assert rule.note(shape) == note
    kept = rule.adapt(np.zeros((2, *shape), np.uint8))
    assert kept.shape == (2, *input[:2], rule.channels)
    assert rule.channels == (input[2] if shape[2] == input[2] else 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_luma_is_bt601(dtype: type) -> None:
    x: NDArray[Any] = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3)).astype(dtype)
    grey = adaptation((4, 4, 3), (4, 4, 1), "refuse").adapt(x)
    exact = 0.299 * x[..., 0] + 0.587 * x[..., 1] + 0.114 * x[..., 2]
    assert grey.dtype == dtype
    np.testing.assert_allclose(grey[..., 0], exact, atol=0.5 + 1e-6 if dtype is np.uint8 else 1e-4)
    white = np.full((1, 4, 4, 3), 255, np.uint8)
    assert (adaptation((4, 4, 3), (4, 4, 1), "refuse").adapt(white) == 255).all()


def test_rows_pick_samples() -> None:
    x = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 1), dtype=np.uint8)
    rule = adaptation((8, 8, 1), (32, 32, 1), "bilinear")
    rows = np.random.default_rng(1).permutation(300)[:150]
    np.testing.assert_array_equal(rule.adapt(x, rows), rule.adapt(x)[rows])


def test_other_pictures_later_are_adapted_to_the_same_channels() -> None:
    """A colour picture for a model trained on grey ones becomes grey first; a grey one for a colour model, colour."""
    grey = Adaptation((4, 4, 3), channels=1, resize="bilinear")
    assert grey.adapt(np.ones((1, 4, 4, 3), np.uint8)).shape == (1, 4, 4, 1)
    colour = Adaptation((4, 4, 3), channels=3, resize="bilinear")
    assert colour.adapt(np.ones((1, 9, 2, 1), np.uint8)).shape == (1, 4, 4, 3)


@pytest.mark.parametrize(
    ("shape", "input", "resize", "text"),
    [
        ((8, 8, 1), (32, 32, 3), "refuse",
         "pictures are 8x8 and the model's input is 32x32\n"
         "  where: data.resize: refuse\n"
         "  why:   (8, 8) is not (32, 32)\n"
         "  fix:   model.input: [8, 8, 3], or data.resize: bilinear"),
        ((28, 40, 1), (32, 32, 3), "pad",
         "pictures of 28x40 do not fit into 32x32\n"
         "  where: data.resize: pad\n"
         "  why:   40 > 32\n"
         "  fix:   model.input: [28, 40, 3], or data.resize: bilinear"),
        ((40, 28, 1), (32, 32, 3), "pad",
         "pictures of 40x28 do not fit into 32x32\n"
         "  where: data.resize: pad\n"
         "  why:   40 > 32\n"
         "  fix:   model.input: [40, 28, 3], or data.resize: bilinear"),
        ((8, 8, 4), (8, 8, 3), "bilinear",
         "pictures have 4 channels and the model takes 3\n"
         "  where: pictures 8x8x4\n"
         "  why:   one channel can be repeated and three become one by luma; there is no rule for 4 channels to 3\n"
         "  fix:   model.input: [8, 8, 4], or convert the pictures to 1 or 3 channels beforehand"),
        ((3, 32, 32), (32, 32, 3), "bilinear",
         "pictures have 32 channels and the model takes 3\n"
         "  where: pictures 3x32x32\n"
         "  why:   one channel can be repeated and three become one by luma; there is no rule for 32 channels to 3\n"
         "  fix:   data.layout: channels_first, if the file holds (N, C, H, W); else model.input: [3, 32, 32]"),
        ((8, 8, 2), (8, 8, 1), "bilinear",
         "pictures have 2 channels and the model takes 1\n"
         "  where: pictures 8x8x2\n"
         "  why:   one channel can be repeated and three become one by luma; there is no rule for 2 channels to 1\n"
         "  fix:   model.input: [8, 8, 2], or convert the pictures to 1 or 3 channels beforehand"),
    ],
)  # fmt: skip
def test_refusals(shape, input, resize, text: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError) as caught:
        adaptation(shape, input, resize)
    assert str(caught.value) == text


def test_no_pixels() -> None:
    with pytest.raises(DataError) as caught:
        adaptation((0, 5, 1), (8, 8, 1), "bilinear")
    assert str(caught.value) == "pictures of 0x5x1 have no pixels\n  why:   a size is 0\n  fix:   check the source"


def test_refusal_of_a_later_picture() -> None:
    rule = adaptation((8, 8, 3), (8, 8, 3), "bilinear")
    with pytest.raises(DataError, match="pictures have 4 channels and the model takes 3"):
        rule.adapt(np.zeros((1, 8, 8, 4), np.uint8))
