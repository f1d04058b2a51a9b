from __future__ import annotations

import numpy as np

from cnnforge.data import load, synthetic
from cnnforge.spec import SyntheticData


def made(samples: int = 100, seed: int = 0, **fields: object) -> np.ndarray:
    spec = SyntheticData(type="synthetic", samples=samples, **fields)
    return synthetic.read(spec, (6, 7, 3), seed).train.x


def test_same_seed_same_samples_whatever_their_number() -> None:
    np.testing.assert_array_equal(made(100), made(700)[:100])
    assert (made(seed=1) != made()).mean() > 0.9


def test_size_is_the_models_input_where_not_given() -> None:
    assert made().shape == (100, 6, 7, 3)
    assert made(size=(4, 1, 1)).shape == (100, 4, 1, 1)
    data = load(SyntheticData(type="synthetic", size=(4, 4, 1)), (8, 8, 3), 0)
    assert data.notes == ("pictures 4x4x1 -> 8x8x3: bilinear, channel repeated 3 times",)
    assert data.source == "made from seed 0"
    assert (len(data.train), len(data.validation), len(data.test)) == (922, 102, 256)


def test_pattern_and_noise_have_the_stated_deviations() -> None:
    pure = made(noise=0.0).astype(float)
    np.testing.assert_array_equal(pure[:10], pure[10:20])
    many = made(1000, noise=0.0, classes=3)
    np.testing.assert_array_equal(many[:-3], many[3:])
    assert abs(pure.std() - synthetic.LEVELS) < 4
    noise = (made(1000, noise=0.5) - made(1000, noise=0.0).astype(float)) / synthetic.LEVELS
    assert abs(noise.std() - 0.5) < 0.01
    assert abs(noise.mean()) < 0.01


def test_classes_come_in_turn_and_test_is_not_train() -> None:
    stored = synthetic.read(SyntheticData(type="synthetic", classes=3), (4, 4, 1), 0)
    assert stored.train.y[:4].tolist() == [0, 1, 2, 0]
    assert stored.test is not None
    assert (stored.test.x != stored.train.x[:256]).mean() > 0.9


def test_known_samples() -> None:
    """Runs are told apart and reproduced by this digest: it must not change between versions."""
    stored = synthetic.read(SyntheticData(type="synthetic", samples=20, test_samples=5), (6, 6, 1), 0)
    assert stored.digest == "99aa29cd5716fd9cfc8112ae9aecfe70442aa74de5618a461947f012db1b7e04"
