"""A running average of the weights: what it is, and who takes it."""

import io

import numpy as np
import pytest

import cnnforge
from cnnforge.cli.console import PlainConsole
from cnnforge.config import compose, validate
from cnnforge.optim import OPTIMIZERS
from cnnforge.spec import ModelSpec
from cnnforge.train.averages import Averages
from cnnforge.train.run import run
from tests.building import build

SPEC = ModelSpec.model_validate(
    {
        "name": "t",
        "input": [6, 6, 2],
        "layers": {
            "c": {"type": "conv", "filters": 5, "kernel": 3, "activation": "relu"},
            "n": {"type": "batch_norm"},
            "f": {"type": "conv", "filters": 2, "kernel": 1, "trainable": False},
            "o": {"type": "fc", "units": 3, "activation": "softmax"},
        },
    }
)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_it_follows_the_weights(backend):
    sgd = OPTIMIZERS["sgd"](type="sgd", lr=0.5, groups=({"match": "o.*", "lr": 0.1},))
    made = build(SPEC, batch=8, optimizer=sgd, dtype="float32", backend=backend, average=0.7)
    averages = Averages(made.exe)
    averages.begin()
    wanted = {name: np.array(array, np.float64) for name, array in made.exe.weights.params.items()}
    for step in range(5):
        made.exe.set_step(step=step + 1, draw=step, first=0, lr=0.5, inv_n=1 / 8, scalars=(0.0, 0.0))
        made.bound.run("forward", "loss", "backward", "update")
        for name, array in made.exe.weights.params.items():
            wanted[name] = 0.7 * wanted[name] + 0.3 * array
    averages.refresh()
    for name, array in averages.weights.params.items():
        np.testing.assert_allclose(array, wanted[name], rtol=1e-5, atol=1e-6, err_msg=name)
    assert averages.weights.state is made.exe.weights.state


def test_validation_test_and_the_saved_model_take_it(tmp_path):
    words = ["model=lenet5", "data=synthetic", "data.samples=200", "tracking=none", "trainer.epochs=2",
             "trainer.batch_size=32", f"run.dir={tmp_path}"]  # fmt: skip
    console = PlainConsole(io.StringIO())
    plain, one = run(validate(compose(words)), console)
    averaged, two = run(validate(compose([*words, "trainer.ema={decay: 0.99}"])), console)
    assert one["train_loss"] == two["train_loss"], "what is trained is the same"
    assert one["val_loss"] != two["val_loss"]
    first, second = (cnnforge.Model.load(folder) for folder in (plain, averaged))
    assert not np.array_equal(first.params["conv1.w"], second.params["conv1.w"])
    saved = cnnforge.Model.load(averaged / "model")
    np.testing.assert_array_equal(saved.params["conv1.w"], second.params["conv1.w"])
