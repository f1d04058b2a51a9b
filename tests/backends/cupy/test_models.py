"""Training steps of whole nets on a GPU that is not there, beside the numpy backend."""

import numpy as np
import pytest
from hypothesis import given, settings

from cnnforge.optim.adam import Adam, Adamw
from cnnforge.optim.lamb import Lamb
from cnnforge.optim.muon import Muon
from cnnforge.optim.rmsprop import Rmsprop
from cnnforge.optim.sgd import Sgd
from tests.building import build
from tests.conformance.test_gradients import BLOCKS, one_block
from tests.devices import EMULATED
from tests.strategies import models

SGD = Sgd(type="sgd", momentum=0.9, weight_decay=0.1)
#: Two that between them have most of what a net is made of.
SOME = ("batch_norm", "max pool overlapping")


def left(spec, backend, optimizer, **how):
    """Everything that two training steps leave behind, in float64."""
    built = build(spec, optimizer=optimizer, backend=backend, **how)
    for step in range(2):
        built.run("forward", "loss", "backward", "update", step=step)
    exe = built.exe
    loss = {name: built.bound.outputs[name] for name in ("loss", "hits")}
    return {**loss, **exe.weights.params, **exe.weights.state, **exe.grads, **exe.slots}


def assert_alike(spec, optimizer=SGD, **how):
    expected = left(spec, "numpy", optimizer, **how)
    found = left(spec, EMULATED, optimizer, **how)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        size = max(1.0, float(abs(array).max(initial=0)))
        np.testing.assert_allclose(found[name], array, rtol=1e-9, atol=1e-10 * size, err_msg=name)


@pytest.mark.parametrize("name", [n if n in SOME else pytest.param(n, marks=pytest.mark.slow) for n in BLOCKS])
def test_every_block(name):
    assert_alike(one_block(BLOCKS[name]))


@pytest.mark.parametrize(
    "optimizer",
    [Adam(type="adam"), Adamw(type="adamw"), Rmsprop(type="rmsprop"), Lamb(type="lamb"), Muon(type="muon")],
    ids=lambda optimizer: optimizer.type,
)
def test_every_optimizer(optimizer):
    assert_alike(one_block(BLOCKS["conv"]), optimizer)


def test_fewer_samples_than_planned():
    assert_alike(one_block(BLOCKS["batch_norm"]), batch=2, capacity=200)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(models(smooth=True))
def test_random_models(spec):
    assert_alike(spec)
