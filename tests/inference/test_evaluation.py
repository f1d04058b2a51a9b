"""Numbers of an evaluation against hand-made ones, and against scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

import cnnforge
from cnnforge.data import Preprocessing
from cnnforge.errors import DataError
from cnnforge.inference.evaluation import evaluate_split, evaluation_of, network_input
from cnnforge.model import INFERENCE_BATCH
from cnnforge.spec import ModelSpec


def spec(units, activation="softmax", **more):
    layers = {"output": {"type": "fc", "units": units} | ({"activation": activation} if activation else {})}
    return ModelSpec.model_validate({"name": "net", "input": [2, 2, 1], "layers": layers, **more})


def of(model, answers, labels, names=()):
    answers = np.array(answers, np.float32)
    return evaluation_of(model, answers, np.array(labels), np.full(len(answers), 0.5), names)


def test_three_classes_by_hand():
    found = of(spec(3), [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.0, 0.9, 0.1]], [0, 1, 1, 0], "abc")
    assert found.task == "classes"
    assert found.confusion.dtype == np.int64
    assert found.confusion.tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert (found.accuracy, found.loss) == (0.5, 0.5)
    assert [(s.name, s.precision, s.recall, s.f1, s.support) for s in found.per_class] == [
        ("a", 0.5, 0.5, 0.5, 2), ("b", 0.5, 0.5, 0.5, 2), ("c", 0.0, 0.0, 0.0, 0),
    ]  # fmt: skip
    assert found.mistakes(9).tolist() == [3, 2], "the surest comes first"
    assert found.mistakes(1).tolist() == [3]


def test_one_unit_is_two_classes():
    found = of(spec(1, "sigmoid"), [[0.9], [0.5], [0.4], [0.2]], [1, 1, 1, 0], ("no", "yes"))
    assert found.probabilities[:, 1].tolist() == pytest.approx([0.9, 0.5, 0.4, 0.2])
    assert found.predicted.tolist() == [1, 0, 0, 0], "exactly one half is no yes"
    assert found.confusion.tolist() == [[1, 0], [2, 1]]
    assert found.per_class[1].name == "yes"
    assert found.mistakes(9).tolist() == [2, 1]


def test_several_units_are_tags():
    found = of(spec(2, "sigmoid"), [[0.9, 0.1], [0.8, 0.7], [0.2, 0.6]], [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    assert (found.task, found.confusion) == ("tags", None)
    assert found.accuracy == pytest.approx(4 / 6)
    assert [(s.precision, s.recall, s.support) for s in found.per_class] == [(0.5, 0.5, 2), (1.0, 1.0, 2)]
    assert sorted(found.mistakes(9).tolist()) == [1, 2]


def test_numbers_have_errors_and_no_classes():
    found = of(spec(2, None), [[1.0, 5.0], [3.0, 5.0]], [[0.0, 5.0], [4.0, 5.0]], ())
    assert (found.task, found.accuracy, found.confusion, found.per_class) == ("numbers", None, None, ())
    first, second = found.errors
    assert (first.bias, first.mean_absolute, first.root_mean_square, first.r2) == (0.0, 1.0, 1.0, 0.75)
    assert (second.root_mean_square, second.r2) == (0.0, pytest.approx(float("nan"), nan_ok=True))
    assert found.mistakes(9).tolist() == [0, 1]


@given(st.integers(2, 6), st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=60))
def test_it_agrees_with_scikit_learn(k, pairs):
    labels, said = (np.array(column) % k for column in zip(*pairs, strict=True))
    found = of(spec(k), np.eye(k)[said], labels)
    classes = list(range(k))
    assert found.confusion.tolist() == metrics.confusion_matrix(labels, said, labels=classes).tolist()
    assert found.accuracy == pytest.approx(metrics.accuracy_score(labels, said))
    theirs = metrics.precision_recall_fscore_support(labels, said, labels=classes, zero_division=0)
    for ours, column in zip(("precision", "recall", "f1", "support"), theirs, strict=True):
        assert [getattr(score, ours) for score in found.per_class] == pytest.approx(list(column))
    assert set(found.mistakes(99).tolist()) == set(np.flatnonzero(labels != said).tolist())


@pytest.mark.parametrize(("units", "activation"), [(3, "softmax"), (1, "sigmoid"), (2, "sigmoid"), (2, None)])
def test_a_model_is_asked_piece_by_piece(units, activation):
    """However its pictures come, the numbers are the same; the loss is the one that training's own evaluation sums."""
    rng = np.random.default_rng(0)
    n = INFERENCE_BATCH + 7
    model = cnnforge.Model(spec(units, activation), backend="numpy", precision="float64")
    x = rng.normal(size=(n, 2, 2, 1))
    y = {"softmax": rng.integers(0, 3, n), "sigmoid": rng.integers(0, 2, (n, units)), None: rng.normal(size=(n, units))}
    found = evaluate_split(model, x, y[activation])
    for other in (lambda low, high: x[low:high], [x[:100], x[100:]]):
        again = evaluate_split(model, other, y[activation])
        assert (again.loss, again.accuracy) == (found.loss, found.accuracy)
        np.testing.assert_array_equal(again.probabilities, found.probabilities)
    expected, _ = model.loss_and_grads(x, y[activation])
    assert found.loss == pytest.approx(expected)
    answers = found.probabilities[:, -1:] if (units, activation) == (1, "sigmoid") else found.probabilities
    np.testing.assert_array_equal(answers, model.predict(x))


def test_nets_that_answer_at_every_place():
    layers = {"conv1": {"type": "conv", "filters": 2, "kernel": 1, "activation": "softmax"}}
    model = cnnforge.Model({"name": "map", "input": [2, 2, 1], "layers": layers}, backend="numpy")
    x, y = np.random.default_rng(0).normal(size=(3, 2, 2, 1)), np.zeros((3, 2, 2), np.int64)
    found = evaluate_split(model, x, y)
    assert (found.places, len(found.labels), len(found.losses)) == (4, 12, 3)
    assert found.confusion.sum() == 12
    assert found.accuracy == (model.predict(x)[..., 0] >= 0.5).mean()


def test_names_are_those_of_the_model():
    model = cnnforge.Model(spec(2), backend="numpy")
    x, y = np.zeros((1, 2, 2, 1)), np.zeros(1, np.int64)
    assert evaluate_split(model, x, y).names == ("0", "1")
    model.classes = ("cat", "dog")
    assert evaluate_split(model, x, y).names == ("cat", "dog")
    assert evaluate_split(model, x, y, names=("a", "b")).names == ("a", "b")


def test_a_splits_pictures_become_network_input():
    how = Preprocessing.identity((2, 2, 1))
    kept = np.arange(12, dtype=np.float32).reshape(3, 2, 2, 1)
    np.testing.assert_array_equal(network_input(how, kept)(1, 3), kept[1:3])


def test_no_samples_are_an_error():
    model = cnnforge.Model(spec(2), backend="numpy")
    with pytest.raises(DataError, match="no samples"):
        evaluate_split(model, np.empty((0, 2, 2, 1)), np.empty(0, np.int64))


@pytest.mark.parametrize("labels", [2, 4])
def test_a_label_belongs_to_each_picture(labels):
    model = cnnforge.Model(spec(2), backend="numpy")
    with pytest.raises(DataError, match="labels"):
        evaluate_split(model, np.zeros((3, 2, 2, 1)), np.zeros(labels, np.int64))


def test_labels_that_do_not_fit_are_an_error():
    model = cnnforge.Model(spec(2), backend="numpy")
    with pytest.raises(DataError, match="labels are not class numbers"):
        evaluate_split(model, np.zeros((2, 2, 2, 1)), np.array([0, 2]))
