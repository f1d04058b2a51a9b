"""What the service takes a model for; what it answers is tried over HTTP in test_service.py."""

import pytest

from cnnforge.data import Preprocessing
from cnnforge.inference.predict import task
from cnnforge.model import Model
from cnnforge.serve.served import KINDS, Served


@pytest.mark.parametrize(
    ("output", "loss", "kind", "classes"),
    [
        ({"units": 3, "activation": "softmax"}, None, "softmax", ("a", "b", "c")),
        ({"units": 3, "activation": "softmax"}, "mse", "values", ()),
        ({"units": 3, "activation": "sigmoid"}, None, "sigmoid", ("a", "b", "c")),
        ({"units": 1, "activation": "sigmoid"}, None, "sigmoid", ("no", "yes")),
        ({"units": 3}, None, "values", ()),
    ],
)
def test_it_answers_as_predict_does(output, loss, kind, classes, tmp_path):
    spec = {"name": "m", "input": [4, 4, 1], "layers": {"output": {"type": "fc", **output}}}
    model = Model(spec | ({"loss": {"type": loss}} if loss else {}), backend="numpy")
    model.preprocessing = Preprocessing.identity((4, 4, 1))
    model.classes = classes
    model.save(tmp_path / "m")
    served = Served.load(tmp_path / "m")
    assert (served.kind, served.classes) == (kind, classes)
    assert KINDS[task(model)] == kind
