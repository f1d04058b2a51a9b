from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnnforge.data import Dataset, load
from cnnforge.errors import DataError
from cnnforge.spec import NpzData, SyntheticData


@pytest.fixture(autouse=True)
def numbered(empty_places: Path) -> None:
    """``n.npz``: 60 single pixels, sample i of value and label i."""
    np.savez("n.npz", x=np.arange(60, dtype=np.uint8).reshape(60, 1, 1), y=np.arange(60))


def of(seed: int = 0, **fields: object) -> Dataset:
    spec = NpzData(type="npz", path="n.npz", classes=60, **fields)
    return load(spec, (1, 1, 1), seed)


shares = st.floats(0, 0.45)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(shares, shares, st.integers(0, 9))
def test_splits_are_disjoint_and_complete(validation: float, test: float, seed: int) -> None:
    data = of(seed, validation=validation, test=test)
    parts = [split.y.tolist() for split in (data.train, data.validation, data.test)]
    assert sorted(chain(*parts)) == list(range(60))
    for split in (data.train, data.validation, data.test):
        np.testing.assert_array_equal(split.x.ravel(), split.y)
        assert split.x.shape[1:] == (1, 1, 1)
        assert split.x.dtype == np.uint8
        assert split.y.dtype == np.int64
    again = of(seed, validation=validation, test=test)
    assert parts == [split.y.tolist() for split in (again.train, again.validation, again.test)]
    assert again.preprocessing == data.preprocessing


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.integers(1, 80), shares)
def test_limit_takes_the_first_training_samples_and_nothing_else(limit: int, validation: float) -> None:
    whole, part = of(validation=validation), of(validation=validation, limit=limit)
    assert part.train.y.tolist() == whole.train.y.tolist()[:limit]
    np.testing.assert_array_equal(part.test.y, whole.test.y)
    np.testing.assert_array_equal(part.validation.y, whole.validation.y)
    note = f"the first {limit} of {len(whole.train)} training samples (data.limit)"
    assert (note in part.notes) == (limit < len(whole.train))


def test_limit_on_a_file_sorted_by_class_keeps_every_class() -> None:
    np.savez("n.npz", x=np.zeros((600, 1, 1), np.uint8), y=np.repeat(np.arange(3), 200))
    assert np.bincount(of(limit=60).train.y).min() > 10


def test_the_test_split_does_not_depend_on_validation() -> None:
    np.testing.assert_array_equal(of(validation=0.0).test.y, of(validation=0.4).test.y)
    assert of(seed=1).test.y.tolist() != of(seed=0).test.y.tolist()


def test_known_split() -> None:
    """Which samples are held out is part of a run's result: it must not change between versions."""
    assert of().test.y.tolist() == KNOWN


KNOWN = [28, 34, 58, 19, 52, 57, 55, 24, 32, 6, 16, 15]


@pytest.mark.parametrize("normalize", ["standard", "unit", "none"])
def test_constants_are_measured_on_training_samples_only(normalize: str) -> None:
    data = of(limit=7, normalize=normalize)
    pixels = data.train.y.astype(np.float64)
    expected = {"standard": (pixels.mean(), pixels.std()), "unit": (0.0, 255.0), "none": (0.0, 1.0)}[normalize]
    np.testing.assert_allclose((data.preprocessing.mean[0], data.preprocessing.std[0]), expected, rtol=1e-12)
    raw = data.test.y.astype(np.uint8).reshape(-1, 1, 1, 1)
    np.testing.assert_array_equal(data.preprocessing.apply(raw), data.preprocessing.normalize(data.test.x))


def test_float_unit_is_measured_on_training_samples_only() -> None:
    np.savez("n.npz", x=np.arange(60.0).reshape(60, 1, 1), y=np.arange(60))
    data = of(normalize="unit", resize="refuse")
    low, high = data.train.y.min(), data.train.y.max()
    assert data.preprocessing.mean == (float(low),)
    assert data.preprocessing.std == (float(high - low),)
    assert data.notes == (f"float pictures scaled from [{low}, {high}], measured on the training samples, to [0, 1]",)


def test_shares_that_round_to_nothing_are_said() -> None:
    np.savez("n.npz", x=np.zeros((4, 1, 1), np.uint8), y=np.arange(4))
    data = of(validation=0.1, test=0.1)
    assert (len(data.train), len(data.validation), len(data.test)) == (4, 0, 0)
    assert data.validation.x.shape == (0, 1, 1, 1)
    assert data.notes == (
        "no test samples: 0.1 of 4 rounds to 0",
        "no validation samples: 0.1 of 4 rounds to 0",
        "channel 0 is the same everywhere in the training samples: not divided",
    )


@pytest.mark.parametrize(
    ("n", "validation", "why", "fix"),
    [
        (0, 0.1, "0 samples - 0 for the test - 0 for validation = 0", "more samples"),
        (2, 0.9, "2 samples - 0 for the test - 2 for validation = 0", "smaller shares: data.validation, data.test"),
    ],
)
def test_no_training_samples(n: int, validation: float, why: str, fix: str) -> None:
    np.savez("n.npz", x=np.zeros((n, 1, 1), np.uint8), y=np.arange(n))
    with pytest.raises(DataError) as caught:
        of(validation=validation)
    assert str(caught.value) == f"npz: no training samples\n  where: n.npz\n  why:   {why}\n  fix:   {fix}"


def test_pictures_that_cannot_be_adapted() -> None:
    with pytest.raises(DataError, match="pictures have 2 channels and the model takes 3"):
        load(SyntheticData(type="synthetic", size=(8, 8, 2)), (8, 8, 3), 0)


@pytest.mark.parametrize(
    ("shape", "dtype", "wanted"),
    [((), "int64", None), ((1,), "", None), ((60,), "", "targets (N, 60)"), ((3,), "int64", "class numbers (N, 3)")],
)
def test_class_numbers_against_a_loss(shape: tuple[int, ...], dtype: str, wanted: str | None) -> None:
    data = of()
    if wanted is None:
        data.check_labels(shape, dtype)
        return
    with pytest.raises(DataError) as caught:
        data.check_labels(shape, dtype)
    assert str(caught.value) == (
        "npz: the labels do not fit the model's output\n"
        "  where: n.npz\n"
        f"  why:   the loss takes {wanted}, the labels are class numbers (N,)\n"
        "  fix:   labels of that shape, or a last layer and loss for the labels there are"
    )


def test_targets_against_a_loss() -> None:
    np.savez("n.npz", x=np.zeros((20, 2, 2)), y=np.ones((20, 3)))
    data = load(NpzData(type="npz", path="n.npz"), (2, 2, 1), 0)
    data.check_labels((3,), "")
    with pytest.raises(DataError, match="the labels do not fit"):
        data.check_labels((), "int64")
    with pytest.raises(DataError, match="the labels do not fit"):
        data.check_labels((1, 3), "")
