"""Losses: labels, stability, and what the numbers mean. Values against formulas are in tests/conformance."""

import math

import numpy as np
import pytest

from cnnforge import Model, check
from cnnforge.errors import ShapeError
from cnnforge.losses import LOSSES, default_loss
from cnnforge.lower import train_graph
from cnnforge.spec import ModelSpec
from tests import one_node


def run(name, z, labels, dtype="float64"):
    """(loss per sample, hits per sample, gradient)."""
    z = np.asarray(z, dtype)
    labels = np.asarray(labels, "int64" if name == "softmax_cross_entropy" else dtype)
    per_sample = [((len(z),), dtype)] * 2
    loss, hits = one_node.run(name, [z, labels], per_sample, {})
    (dz,) = one_node.run(f"{name}_dz", [z, labels], [(z.shape, dtype)], {})
    return loss, hits, dz


def loss(name):
    return LOSSES[name](type=name)


def test_labels_of_class_numbers_have_no_class_axis():
    assert loss("softmax_cross_entropy").labels((10,)) == ((), "int64")
    assert loss("softmax_cross_entropy").labels((4, 5, 10)) == ((4, 5), "int64")


@pytest.mark.parametrize("name", ["sigmoid_cross_entropy", "mse"])
def test_other_labels_are_shaped_like_the_output(name):
    for shape in ((1,), (3,), (4, 5, 2)):
        assert loss(name).labels(shape) == (shape, "")


def test_softmax_over_one_unit_is_refused():
    with pytest.raises(ShapeError) as caught:
        loss("softmax_cross_entropy").labels((1,))
    assert caught.value.what == "softmax over one unit is always 1"


def test_only_classifiers_score_hits():
    assert [name for name in LOSSES if loss(name).scores_hits()] == ["softmax_cross_entropy", "sigmoid_cross_entropy"]
    _, hits, _ = run("mse", [[1.0], [2.0]], [[1.0], [2.0]])
    assert not hits.any()


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_the_default_loss_computes_the_last_activation_itself(activation):
    assert default_loss(activation).fuses == activation


@pytest.mark.parametrize("dtype", ["float32", "float64"])
class TestStability:
    def test_huge_scores(self, dtype):
        z = [[1e4, -1e4, 0], [-1e4, 1e4, 1e4]]
        values, _, dz = run("softmax_cross_entropy", z, [0, 0], dtype)
        np.testing.assert_allclose(values, [0, 2e4 + math.log(2)], rtol=1e-6)
        np.testing.assert_allclose(dz, [[0, 0, 0], [-1, 0.5, 0.5]])

    def test_huge_yes_or_no(self, dtype):
        values, hits, dz = run("sigmoid_cross_entropy", [[1e4], [-1e4], [1e4], [-1e4]], [[1], [0], [0], [1]], dtype)
        np.testing.assert_array_equal(values, [0, 0, 1e4, 1e4])
        np.testing.assert_array_equal(hits, [1, 1, 0, 0])
        np.testing.assert_array_equal(dz, [[0], [0], [1], [-1]])

    def test_a_small_loss_keeps_its_digits(self, dtype):
        """log(1 + e^-20) is 2e-9, which 1 - probability would round to 0 in float32."""
        values, _, _ = run("sigmoid_cross_entropy", [[20.0]], [[1]], dtype)
        np.testing.assert_allclose(values, math.log1p(math.exp(-20)), rtol=1e-6)

    def test_adding_to_all_scores_changes_nothing(self, dtype):
        z = np.array([[1.0, 2.0, 4.0]])
        for a, b in zip(
            run("softmax_cross_entropy", z, [1], dtype), run("softmax_cross_entropy", z + 64, [1], dtype), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=1e-5)


def test_equal_scores_for_k_classes_cost_log_k():
    values, _, _ = run("softmax_cross_entropy", np.zeros((1, 10)), [3])
    np.testing.assert_allclose(values, math.log(10))
    values, _, _ = run("sigmoid_cross_entropy", np.zeros((1, 1)), [[1]])
    np.testing.assert_allclose(values, math.log(2))


@pytest.mark.parametrize("name", LOSSES)
def test_a_picture_of_outputs_counts_as_much_as_one_output(name):
    """The mean over positions: a map of one value has the loss of the value, and the gradient is shared out."""
    z, label = np.array([0.5, -1.0, 2.0]), 2 if name == "softmax_cross_entropy" else np.array([0.0, 1.0, 1.0])
    one = run(name, z[None], np.array([label]))
    many = run(name, np.tile(z, (1, 4, 5, 1)), np.tile(label, (1, 4, 5) + (1,) * np.ndim(label)))
    np.testing.assert_allclose(many[0], one[0])
    np.testing.assert_allclose(many[1], one[1])
    np.testing.assert_allclose(many[2], np.broadcast_to(one[2] / 20, many[2].shape))


def test_hits_are_the_share_of_right_answers():
    z = np.zeros((1, 2, 2, 3))
    z[0, ..., 1] = 1
    _, hits, _ = run("softmax_cross_entropy", z, [[[1, 1], [1, 0]]])
    np.testing.assert_array_equal(hits, [0.75])
    _, hits, _ = run("sigmoid_cross_entropy", [[1.0, -1.0, 0.0, 1.0]], [[1, 1, 0, 0]])
    np.testing.assert_array_equal(hits, [0.5])  # a score of 0 says no


TREE = {"name": "m", "input": [2, 2, 1], "layers": {"out": {"type": "fc", "units": 3, "activation": "softmax"}}}


class TestOptions:
    """What label_smoothing, class_weights and pos_weight make of a loss."""

    def model(self, **options):
        options = {"type": "softmax_cross_entropy"} | options
        return ModelSpec.model_validate(TREE | {"loss": options})

    def ops(self, spec):
        return [n.op for n in train_graph(spec, 2, "float32", 0).nodes if n.phase == "loss"]

    def test_without_any_the_plain_kernels_run(self):
        assert self.ops(self.model(label_smoothing=0)) == ["softmax_cross_entropy"]
        assert self.ops(self.model(label_smoothing=0.1)) == ["class_targets", "soft_cross_entropy"]

    def test_balanced_weights_are_inverse_to_the_counts(self):
        """As scikit-learn's: n / (classes * count)."""
        loss = LOSSES["softmax_cross_entropy"](type="softmax_cross_entropy", class_weights="balanced")
        assert loss.classes_to_count((3,)) == 3
        measured = loss.measured([1, 4, 0])
        assert measured.class_weights == pytest.approx((5 / 3, 5 / 12, 0))
        assert measured.about() == "class weights 1.67, 0.417, 0"
        assert measured.classes_to_count((3,)) == 0

    def test_balanced_weights_are_measured_from_the_labels_given(self):
        x, y = np.random.default_rng(0).normal(size=(6, 2, 2, 1)), np.array([0, 0, 0, 1, 1, 2])
        stated = Model(self.model(class_weights=[6 / 9, 6 / 6, 6 / 3]), backend="numpy", precision="float64")
        measured = Model(self.model(class_weights="balanced"), backend="numpy", precision="float64")
        (one, gradients), (other, others) = stated.loss_and_grads(x, y), measured.loss_and_grads(x, y)
        assert one == pytest.approx(other)
        np.testing.assert_allclose(gradients["out.w"], others["out.w"])
        (epoch,), (again,) = (net.fit(x, y, optimizer={"type": "sgd", "lr": 1e-9}) for net in (stated, measured))
        assert epoch["train_loss"] == pytest.approx(again["train_loss"]) == pytest.approx(one)

    def test_the_extra_labels_are_in_the_memory_of_check(self):
        """One number per sample and class."""
        pixels = {"out": {"type": "conv", "filters": 3, "kernel": 1, "activation": "softmax"}}
        tree = TREE | {"input": [32, 32, 1], "layers": pixels}
        plain, smoothed = (
            check(tree | {"loss": {"type": "softmax_cross_entropy", "label_smoothing": s}}).memory for s in (0, 0.1)
        )
        assert smoothed["activations"] - plain["activations"] == pytest.approx(64 * 32 * 32 * 3 * 4, rel=0.01)
