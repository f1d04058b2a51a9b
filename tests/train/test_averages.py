"""Averages of the weights: what they are, and who takes them."""

import io

import numpy as np
import pytest
from pydantic import ValidationError

import cnnforge
from cnnforge.cli.console import PlainConsole
from cnnforge.config import compose, validate
from cnnforge.optim import OPTIMIZERS
from cnnforge.spec import ModelSpec, TrainerSpec
from cnnforge.spec.run import Swa
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
    made = build(SPEC, batch=8, optimizer=sgd, dtype="float32", backend=backend, average=True)
    averages = Averages(made.exe)
    averages.begin()
    wanted = {name: np.array(array, np.float64) for name, array in made.exe.weights.params.items()}
    for step in range(5):
        made.exe.set_step(step=step + 1, draw=step, first=0, lr=0.5, inv_n=1 / 8, scalars=(0.0, 0.0), keep=0.7)
        made.bound.run("forward", "loss", "backward", "update")
        for name, array in made.exe.weights.params.items():
            wanted[name] = 0.7 * wanted[name] + 0.3 * array
    averages.refresh()
    for name, array in averages.weights.params.items():
        np.testing.assert_allclose(array, wanted[name], rtol=1e-5, atol=1e-6, err_msg=name)
    assert averages.weights.state is made.exe.weights.state


class Noise:
    """Training batches: a ``data.ahead.Source``."""

    steps_per_epoch = 3

    def size(self, step):
        return 8 - step % 2

    def shard(self, step):
        return range(self.size(step))

    def epoch(self, number):
        return number

    def rows(self, number, step):
        return np.arange(self.size(step))

    def fill(self, epoch, step, x, labels):
        n, rng = self.size(step), np.random.default_rng([epoch, step])
        x[:n] = rng.normal(size=x[:n].shape) + step
        labels[:n] = rng.integers(0, 3, n)
        return n


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_the_mean_of_the_last_part_has_statistics_of_its_own(backend):
    sgd = OPTIMIZERS["sgd"](type="sgd", lr=0.5)
    made = build(SPEC, batch=8, optimizer=sgd, dtype="float32", backend=backend, average=True)
    averages, swa, seen = Averages(made.exe, Noise()), Swa(start=0.4), []
    averages.begin()
    for step in range(5):
        keep = swa.keep(step + 1, 5)
        made.exe.set_step(step=step + 1, draw=step, first=0, lr=0.5, inv_n=1 / 8, scalars=(0.0, 0.0), keep=keep)
        made.bound.run("forward", "loss", "backward", "update")
        seen.append({name: np.array(array, np.float64) for name, array in made.exe.weights.params.items()})
        averages.refresh()
        if step < 3:  # it has begun with the third update, as a mean of one
            for name, array in averages.weights.state.items():
                np.testing.assert_array_equal(array, made.exe.weights.state[name])
    for name, array in averages.weights.params.items():
        np.testing.assert_allclose(array, np.mean([w[name] for w in seen[2:]], axis=0), rtol=1e-5, atol=1e-6)

    means, variances, samples = [], [], [8, 7, 8]
    w, b = (averages.weights.params[f"c.{name}"] for name in "wb")
    for step, n in enumerate(samples):
        x = np.random.default_rng([0, step]).normal(size=(n, 6, 6, 2)) + step
        c = np.einsum("nhwcij,ijcf->nhwf", np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2)), w) + b
        flat = np.maximum(c, 0).reshape(-1, 5)
        means.append(flat.mean(axis=0))
        variances.append(flat.var(axis=0, ddof=1))
    for name, batches in (("n.mean", means), ("n.var", variances)):
        expected = np.average(batches, axis=0, weights=samples)
        np.testing.assert_allclose(averages.weights.state[name], expected, rtol=1e-4)


def test_one_average_at_a_time():
    with pytest.raises(ValidationError, match="there is one average of the weights: ema or swa"):
        TrainerSpec(ema={}, swa={})


@pytest.mark.parametrize("average", ["trainer.ema={decay: 0.99}", "trainer.swa={start: 0.25}"])
@pytest.mark.parametrize("model", ["lenet5", "small_mnist"])
def test_validation_test_and_the_saved_model_take_it(tmp_path, model, average):
    words = [f"model={model}", "trainer.backend=numpy", "data=synthetic", "data.samples=200", "tracking=none",
             "trainer.epochs=2", "trainer.batch_size=32", f"run.dir={tmp_path}"]  # fmt: skip
    console = PlainConsole(io.StringIO())
    plain, one = run(validate(compose(words)), console)
    averaged, two = run(validate(compose([*words, average])), console)
    assert one["train_loss"] == two["train_loss"], "what is trained is the same"
    assert one["val_loss"] != two["val_loss"]
    first, second = (cnnforge.Model.load(folder) for folder in (plain, averaged))
    weight = next(name for name in first.params if name.endswith(".w"))
    assert not np.array_equal(first.params[weight], second.params[weight])
    saved = cnnforge.Model.load(averaged / "model")
    np.testing.assert_array_equal(saved.params[weight], second.params[weight])
