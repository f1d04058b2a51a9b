from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from cnnforge.data.adapt import adaptation
from cnnforge.data.preprocess import Preprocessing, measure
from cnnforge.errors import CheckpointError, DataError


def measured(x: np.ndarray, normalize: str = "standard", input: tuple[int, int, int] | None = None) -> Preprocessing:
    rule = adaptation(x.shape[1:], input or x.shape[1:], "bilinear")
    return measure(rule, rule.adapt(x), normalize)[0]  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_standard_gives_mean_0_and_deviation_1_per_channel(dtype: type) -> None:
    x: NDArray[Any] = (np.random.default_rng(0).uniform(0, 255, (500, 6, 5, 3)) * [1, 0.5, 0.2]).astype(dtype)
    made = measured(x)
    np.testing.assert_allclose(made.mean, x.mean(axis=(0, 1, 2), dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(made.std, x.astype(np.float64).std(axis=(0, 1, 2)), rtol=1e-9)
    y = made.apply(x)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.mean(axis=(0, 1, 2), dtype=np.float64), 0, atol=1e-6)
    np.testing.assert_allclose(y.std(axis=(0, 1, 2), dtype=np.float64), 1, atol=1e-6)


def test_constant_channel_is_not_divided() -> None:
    x = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3), dtype=np.uint8)
    x[..., 1] = 7
    rule = adaptation((4, 4, 3), (4, 4, 3), "bilinear")
    made, notes = measure(rule, x, "standard")
    assert notes == ("channel 1 is the same everywhere in the training samples: not divided",)
    assert (made.apply(x)[..., 1] == 0).all()


def test_unit() -> None:
    x = np.array([0, 51, 102], np.uint8).reshape(3, 1, 1, 1)
    np.testing.assert_allclose(measured(x, "unit").apply(x).ravel(), [0, 0.2, 0.4], rtol=1e-6)
    rule = adaptation((1, 1, 1), (1, 1, 1), "bilinear")
    floats = np.array([-2, 0, 6], np.float32).reshape(3, 1, 1, 1)
    made, notes = measure(rule, floats, "unit")
    assert notes == ("float pictures scaled from [-2, 6], measured on the training samples, to [0, 1]",)
    assert made.apply(floats).ravel().tolist() == [0, 0.25, 1]
    constant, _ = measure(rule, floats * 0, "unit")
    assert constant.apply(floats * 0).ravel().tolist() == [0, 0, 0]


def test_none_keeps_the_numbers() -> None:
    x = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 2), dtype=np.uint8)
    np.testing.assert_array_equal(measured(x, "none").apply(x), x.astype(np.float32))


def test_identity_passes_float64_on() -> None:
    x = np.random.default_rng(0).normal(size=(3, 4, 5, 2))
    out = np.empty_like(x)
    Preprocessing.identity((4, 5, 2)).normalize_into(x, np.empty(x.shape, np.float32), out)
    np.testing.assert_array_equal(out, x)


@given(arrays(np.uint8, (4, 5, 3, 1)), st.sampled_from(["standard", "unit", "none"]))
def test_json_round_trip_to_the_bit(x: np.ndarray, normalize: str) -> None:
    made = measured(x, normalize, (8, 8, 3))
    again = Preprocessing.from_dict(json.loads(json.dumps(made.to_dict())))
    assert again == made
    np.testing.assert_array_equal(again.apply(x), made.apply(x))


def test_saved_form() -> None:
    x = np.array([0, 255], np.uint8).reshape(2, 1, 1, 1)
    assert measured(x, "standard", (4, 4, 3)).to_dict() == {
        "input": [4, 4, 3],
        "channels": 1,
        "resize": "bilinear",
        "pixels": "uint8",
        "mean": [127.5],
        "std": [127.5],
    }


@pytest.mark.parametrize(
    ("change", "where", "why"),
    [
        ({"mean": "x"}, "mean", "Input should be a valid tuple"),
        ({"resize": "area"}, "resize", "Input should be 'bilinear', 'nearest', 'pad' or 'refuse'"),
        ({"input": [4, 4]}, "input.2", "Field required"),
        ({"module": "os"}, "module", "no such part"),
        ({"mean": [0.0, 0.0]}, "mean, std", "not 1 finite numbers each, one per channel"),
        ({"mean": [float("nan")]}, "mean, std", "not 1 finite numbers each, one per channel"),
        ({"std": [0.0]}, "std, channels", "deviations are above 0, channels are 1 or those of the input"),
    ],
)
def test_damaged_saved_form(change: dict[str, object], where: str, why: str) -> None:
    good = measured(np.array([0, 255], np.uint8).reshape(2, 1, 1, 1), "standard", (4, 4, 3)).to_dict()
    with pytest.raises(CheckpointError) as caught:
        Preprocessing.from_dict({**good, **change})
    assert str(caught.value) == (
        "the saved preprocessing is damaged\n"
        f"  where: {where}\n"
        f"  why:   {why}\n"
        "  fix:   another checkpoint of the run, or cnnforge train RUN/config.yaml"
    )


def test_missing_part_of_saved_form() -> None:
    with pytest.raises(CheckpointError, match="preprocessing is damaged"):
        Preprocessing.from_dict({"input": [4, 4, 3]})


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (np.zeros((4, 4, 3), np.uint8),
         "pictures come as (n, height, width, channels), not (4, 4, 3)\n"
         "  why:   3 axes where 4 belong\n"
         "  fix:   x[None] for a single picture, x[..., None] for pictures without a channel axis"),
        (np.zeros((1, 4, 4, 3), np.int64),
         "pictures of int64 are neither 8-bit nor floats\n"
         "  why:   uint8 from 0 to 255 and floats are what pixels can be\n"
         "  fix:   x.astype('uint8') where the values are 0 to 255"),
        (np.zeros((1, 4, 4, 3), np.uint8),
         "8-bit pictures for a model that was trained on floats\n"
         "  why:   the scale of the training pictures is not known to be 0 to 255\n"
         "  fix:   give floats on the scale of the training pictures, or train on uint8 pictures"),
    ],
)  # fmt: skip
def test_apply_refuses(x: np.ndarray, text: str) -> None:
    made = measured(np.random.default_rng(0).normal(size=(5, 4, 4, 3)).astype(np.float32))
    with pytest.raises(DataError) as caught:
        made.apply(x)
    assert str(caught.value) == text


def test_a_model_of_floats_takes_no_picture_files() -> None:
    made = measured(np.zeros((2, 4, 4, 1), np.float32), "none", (4, 4, 1))
    with pytest.raises(DataError, match="does not take picture files"):
        made.decode(b"")
