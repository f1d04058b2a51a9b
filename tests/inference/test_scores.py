"""Evaluations as people and programs read them."""

import json

import numpy as np

from cnnforge.inference.evaluation import evaluate_split
from cnnforge.inference.scores import class_rows, mistake_rows, text, to_json
from cnnforge.model import Model


class Told(Model):
    """A model that says what it is told to."""

    def __init__(self, units, activation, said, classes=()):
        last = {"type": "fc", "units": units, "activation": activation}
        super().__init__({"name": "told", "input": [2, 2, 1], "layers": {"out": last}}, "numpy")
        self.said, self.classes = np.asarray(said, np.float32), classes

    def score(self, x, labels, loss=None):
        return self.said, np.full(len(x), 0.25, np.float32)


def found(units, activation, said, y, classes=()):
    model = Told(units, activation, said, classes)
    return evaluate_split(model, np.zeros((len(y), 2, 2, 1), np.float32), np.asarray(y))


def of_three():
    said = [[0.9, 0.1, 0], [0.1, 0.8, 0.1], [0.7, 0.3, 0], [0, 0.05, 0.95], [0.05, 0, 0.95]]
    return found(3, "softmax", said, [0, 1, 1, 2, 0], ("cat", "dog", "class"))


def test_the_text_of_a_classifier():
    files = np.array(["a.png", "b.png", "c.png", "d.png", "e.png"], object)
    assert text(of_three(), 5, files).splitlines() == [
        "loss      0.25",
        "accuracy  60.00%, 3 of 5",
        "",
        "class  samples  precision  recall     f1",
        "cat          2      50.0%   50.0%  50.0%",
        "dog          2     100.0%   50.0%  66.7%",
        "class        1      50.0%  100.0%  66.7%",
        "mean         5      66.7%   66.7%  61.1%",
        "",
        "confusion (rows: the truth, columns: the answer)",
        "       cat  dog  class",
        "cat      1    .      1",
        "dog      1    1      .",
        "class    .    .      1",
        "",
        "the mistakes that it was surest of:",
        "sample  file   truth  answer  probability",
        "4       e.png  cat    class         95.0%",
        "2       c.png  dog    cat           70.0%",
    ]


def test_no_mistakes():
    best = found(2, "softmax", [[1, 0]], [0])
    assert text(best, 3).endswith("\n\nno mistakes")
    assert to_json(best, 3)["mistakes"] == []


def test_of_many_classes_the_pairs():
    k = 30
    said = np.eye(k)[[*range(k), 4, 4, 7]]
    many = found(k, "softmax", said, [*range(k), 3, 3, 2])
    assert text(many).splitlines()[-4:] == [
        "confused most", "truth  answer  times", "3      4           2", "2      7           1",
    ]  # fmt: skip
    assert text(found(k, "softmax", np.eye(k), range(k))).splitlines()[-1] == "nothing confused"


def test_json_is_plain():
    said = json.loads(json.dumps(to_json(of_three(), 1)))
    assert (said["samples"], said["loss"], said["accuracy"]) == (5, 0.25, 0.6)
    assert said["classes"][1] == {"class": "dog", "samples": 2, "precision": 1.0, "recall": 0.5, "f1": 2 / 3}
    assert said["confusion"] == [[1, 0, 1], [1, 1, 0], [0, 0, 1]]
    (mistake,) = said["mistakes"]
    assert mistake == {"sample": 4, "truth": "cat", "answer": "class", "probability": float(np.float32(0.95))}
    assert "mistakes" not in to_json(of_three(), 0)


def test_csv():
    assert list(class_rows(of_three()))[:2] == [
        ["class", "samples", "precision", "recall", "f1"], ["cat", "2", "0.5", "0.5", "0.5"],
    ]  # fmt: skip
    assert list(mistake_rows(of_three(), 1, exact=True)) == [
        ["sample", "truth", "answer", "probability"], ["4", "cat", "class", "0.949999988"],
    ]  # fmt: skip


def test_yes_or_no():
    one = found(1, "sigmoid", [[0.9], [0.2], [0.8]], [1, 0, 0], ("other", "cat"))
    said = text(one, 1)
    assert "other        2     100.0%   50.0%  66.7%" in said
    assert said.splitlines()[-1] == "2       other  cat           80.0%"


def test_tags():
    tags = found(2, "sigmoid", [[0.9, 0.8], [0.2, 0.1]], [[1, 0], [0, 0]], ("red", "round"))
    said = text(tags, 5)
    assert said.splitlines()[1] == "accuracy  75.00%"
    assert "confusion" not in said
    assert said.splitlines()[-1] == "0       red    red round        80.0%"
    assert to_json(tags, 1)["mistakes"][0]["truth"] == ["red"]


def test_numbers():
    numbers = found(2, "none", [[1, 2], [3, 4]], [[1.0, 2.5], [1.0, 2.5]])
    said = text(numbers, 1)
    assert said.splitlines() == [
        "loss      0.25",
        "",
        "output  bias  mean absolute error  root mean square   r2",
        "0          1                    1             1.414  nan",
        "1        0.5                    1             1.118  nan",
        "",
        "the answers that are furthest off:",
        "sample  truth  answer",
        "1       1 2.5  3 4",
    ]
    assert to_json(numbers, 0)["outputs"][0] == {"output": "0", "bias": 1.0, "mae": 1.0, "rmse": 2**0.5, "r2": None}
    assert next(iter(class_rows(numbers))) == ["output", "bias", "mae", "rmse", "r2"]
