"""One file that holds a network: read back by safetensors itself and by init_from."""

from __future__ import annotations

import json

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load

from cnnforge.config import read_model, validate_model
from cnnforge.data import Preprocessing
from cnnforge.executable import Weights
from cnnforge.export.safetensors import to_safetensors
from cnnforge.model import Model
from cnnforge.spec import RunSpec
from cnnforge.train.transfer import transfer
from tests.export.onnx_files import model_of

LAYERS = {
    "conv1": {"type": "conv", "filters": 3, "kernel": 3, "bias": False},
    "norm": {"type": "batch_norm"},
    "output": {"type": "fc", "units": 2, "activation": "softmax"},
}


def run_from(path) -> RunSpec:
    tree = {"model": {"name": "net", "input": [5, 4, 2], "layers": LAYERS}, "data": {"type": "digits"}}
    rest = {"optimizer": {"type": "sgd", "lr": 0.1}, "trainer": {"epochs": 1}}
    return RunSpec.model_validate(tree | rest | {"init_from": {"source": str(path), "strict": True}})


def test_there_and_back(tmp_path):
    model = model_of((5, 4, 2), LAYERS)
    how = Preprocessing.identity((5, 4, 2))
    file = tmp_path / "net.safetensors"
    file.write_bytes(to_safetensors(model.spec, {**model.params, **model.state}, how, ("cat", "dög")))
    with safe_open(file, "numpy") as opened:
        header = opened.metadata()
        for name, array in {**model.params, **model.state}.items():
            np.testing.assert_array_equal(opened.get_tensor(name), array)
    assert header["format"] == "cnnforge"
    assert json.loads(header["classes"]) == ["cat", "dög"]
    assert Preprocessing.from_dict(json.loads(header["preprocessing"])) == how
    assert validate_model(read_model(json.loads(header["spec"]))) == model.spec

    other = Model(model.spec, backend="numpy", seed=5)
    weights: Weights = other._weights
    done = transfer(run_from(file), weights)
    assert done is not None
    assert set(done.taken) == {*model.params, *model.state}
    x = np.random.default_rng(0).standard_normal((3, 5, 4, 2))
    np.testing.assert_array_equal(other.predict(x), model.predict(x))


def test_arrays_that_do_not_lie_in_order():
    """safetensors 0.8.0 scrambles such without a word."""
    model = model_of((5, 4, 2), LAYERS)
    arrays = {**model.params, **model.state}
    turned = {name: np.asfortranarray(array) for name, array in arrays.items()}
    for name, array in load(to_safetensors(model.spec, turned)).items():
        np.testing.assert_array_equal(array, arrays[name])
