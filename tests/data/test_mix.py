"""Mixed pictures and labels against what mixup and cutmix say, and draws against what they promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import beta, kstest

from cnnforge.backends import create
from cnnforge.data import Batches, Preprocessing, Split
from cnnforge.data.mix import Mixing, partners, shares
from cnnforge.executable import Executable, Weights
from cnnforge.lower import train_graph
from cnnforge.plan import make_plan
from cnnforge.spec import AugmentSpec, ModelSpec, mixing_mistakes

SIZE = (12, 9)


def mixing(**kinds: Any) -> Mixing:
    return Mixing(AugmentSpec.model_validate(kinds), SIZE, 3)


def pictures(n: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, *SIZE, 2)).astype(np.float32)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_partners_are_each_others_and_the_last_of_an_odd_batch_has_none(n: int) -> None:
    other = partners(n)
    np.testing.assert_array_equal(other[other], np.arange(n))
    assert list(np.flatnonzero(other == np.arange(n))) == ([n - 1] if n % 2 else [])


def test_mixup_lays_two_pictures_over_each_other() -> None:
    made, x = mixing(mixup={"alpha": 1.0}), pictures(7)
    drawn, out = made.draws(7, 2), x.copy()
    share = made.apply(out, drawn)
    other = x[partners(7)]
    s = share[:, None, None, None]
    np.testing.assert_allclose(out, s * x + (1 - s) * other, atol=1e-6)
    np.testing.assert_array_equal(share[0:6:2], share[1:6:2])
    assert share[6] == 1
    assert len(set(share.tolist())) == 4


def test_cutmix_swaps_a_rectangle_and_shares_labels_by_its_area() -> None:
    made, x = mixing(cutmix={"rate": 1.0}), pictures(200)
    out = x.copy()
    share = made.apply(out, made.draws(200, 0))
    other = x[partners(200)]
    moved = (out == other).all(axis=3)
    np.testing.assert_array_equal(out[~moved], x[~moved])
    np.testing.assert_allclose(moved.mean(axis=(1, 2)), 1 - share, atol=1e-6)
    for picture in moved:  # one rectangle
        rows, columns = picture.any(axis=1), picture.any(axis=0)
        np.testing.assert_array_equal(picture, rows[:, None] & columns)
        assert all(
            np.flatnonzero(line).size <= 1 + np.ptp(np.flatnonzero(line)) for line in (rows, columns) if line.any()
        )
    assert (moved[0::2] == moved[1::2]).all()


def test_shares_follow_the_beta_distribution_and_rates_hold() -> None:
    drawn = mixing(mixup={"alpha": 0.4, "rate": 0.5}).draws(20_000, 1)[:, 0]
    shares = drawn[drawn < 1]
    assert len(shares) / len(drawn) == pytest.approx(0.5, abs=0.02)
    assert kstest(shares, beta(0.4, 0.4).cdf).pvalue > 1e-3
    both = mixing(mixup={}, cutmix={"rate": 0.25}).draws(20_000, 1)
    assert (both[:, 3] > both[:, 1]).mean() == pytest.approx(0.25, abs=0.02)


def test_draws_follow_from_seed_epoch_and_sample_alone() -> None:
    made = mixing(mixup={}, cutmix={})
    np.testing.assert_array_equal(made.draws(9, 4)[:5], made.draws(5, 4))
    assert (made.draws(9, 4) != made.draws(9, 5)).any()


def batches(y: np.ndarray, **kinds: Any) -> Batches:
    augment = AugmentSpec.model_validate(kinds)
    made = Preprocessing.identity((*SIZE, 2))
    return Batches(Split(pictures(len(y)), y), made, 4, seed=3, shuffle=True, augment=augment)


def filled(made: Batches, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x = np.empty((4, *SIZE, 2), np.float32)
    made.fill(made.epoch(5), 1, x, labels)
    return x, labels


def test_a_batch_of_classes_is_filled_with_both_labels_and_the_share_of_the_first() -> None:
    y = np.arange(10, dtype=np.int64)
    made = batches(y, mixup={"alpha": 1.0})
    x, labels = filled(made, np.empty((4, 3), np.float32))
    rows, one = made.rows(5, 1), pictures(10)
    np.testing.assert_array_equal(labels[:, 0], rows)
    np.testing.assert_array_equal(labels[:, 1], rows[[1, 0, 3, 2]])
    share = labels[:, 2][:, None, None, None]
    np.testing.assert_allclose(x, share * one[rows] + (1 - share) * one[rows[[1, 0, 3, 2]]], atol=1e-6)
    assert 0 < labels[0, 2] < 1


@pytest.mark.parametrize("shape", [(), (1,), (3,)])
def test_numbers_are_mixed_as_the_pictures_are(shape: tuple[int, ...]) -> None:
    """Yes and no, and targets of a regression; three of them are not two classes and a share."""
    y = np.random.default_rng(1).normal(size=(10, *shape)).astype(np.float32)
    made = batches(y, mixup={"alpha": 1.0})
    _, classes = filled(batches(np.arange(10, dtype=np.int64), mixup={"alpha": 1.0}), np.empty((4, 3), np.float32))
    _, found = filled(made, np.empty((4, *(shape or (1,))), np.float32))
    rows = made.rows(5, 1)
    share = classes[:, 2].reshape(-1, *(1,) * len(shape))
    expected = share * y[rows] + (1 - share) * y[rows[[1, 0, 3, 2]]]
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-5)


LAYERS = {"flat": {"type": "flatten"}, "out": {"type": "fc", "units": 3, "activation": "softmax"}}


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"class_weights": [1.0, 2.0, 0.5]}])
def test_the_loss_of_mixed_labels_is_the_mix_of_their_losses(options: dict[str, Any]) -> None:
    """With weights each label's counts by its share, in the sum and in what that is divided by."""
    tree = {"name": "m", "input": [2, 2, 1], "layers": LAYERS, "loss": {"type": "softmax_cross_entropy"} | options}
    spec, rng = ModelSpec.model_validate(tree), np.random.default_rng(0)
    x, a, b = rng.normal(size=(4, 2, 2, 1)), np.array([0, 1, 2, 2]), np.array([1, 1, 0, 2])
    share = np.array([0.25, 0.5, 0.75, 0.9])
    device = create("numpy")
    graph = train_graph(spec, 4, "float64", 0, mixed=True)
    plan = make_plan(graph, device.capabilities)
    weights = Weights(plan, device)
    weights.initialise(plan, 0)
    bound = Executable(plan, device, weights).bound(4)
    bound.x[...], bound.labels[...] = x, np.column_stack([a, b, share])
    bound.run("forward", "loss")
    z = x.reshape(4, -1) @ weights.params["out.w"] + weights.params["out.b"]
    p = np.log(np.exp(z) / np.exp(z).sum(axis=1, keepdims=True))
    w, s = np.array(options.get("class_weights", [1.0] * 3)), options.get("label_smoothing", 0.0)

    def one(label: np.ndarray) -> np.ndarray:
        right = p[np.arange(4), label] * w[label]
        return -((1 - s) * right + s / 3 * (p * w).sum(axis=1))

    whole = (share * w[a] + (1 - share) * w[b]).mean()
    np.testing.assert_allclose(bound.outputs["loss"], (share * one(a) + (1 - share) * one(b)) / whole)
    best = np.where(share >= 0.5, a, b)
    np.testing.assert_array_equal(bound.outputs["hits"], z.argmax(axis=1) == best)


def test_what_cannot_be_mixed_is_said_before_any_data_is_read() -> None:
    tree = {
        "name": "m",
        "input": [4, 4, 1],
        "layers": {"c": {"type": "conv", "filters": 3, "kernel": 1, "activation": "softmax"}},
    }
    (error,) = mixing_mistakes(ModelSpec.model_validate(tree), AugmentSpec.model_validate({"cutmix": {}}))
    assert str(error.what) == "augment: labels of shape (4, 4) do not follow pictures that are mixed"
    assert error.path == ("augment", "cutmix")
    assert mixing_mistakes(ModelSpec.model_validate(tree), AugmentSpec()) == []
    (error,) = AugmentSpec.model_validate({"mixup": {"rate": 1.5}}).mistakes(4, 4)
    assert error.what == "augment: mixup.rate of 1.5"


def test_both_of_a_pair_share_as_the_first_was_drawn_and_a_last_one_alone_is_its_own() -> None:
    drawn = np.zeros((5, 5), np.float32)
    drawn[:, 0] = (0.25, 0.5, 0.75, 0.5, 0.5)
    assert shares(drawn).tolist() == [0.25, 0.25, 0.75, 0.75, 1]
    assert shares(drawn).dtype == np.float32
