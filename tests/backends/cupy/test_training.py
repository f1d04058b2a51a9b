"""Whole trainings on a GPU that is not there: nothing may take a device's array for NumPy's, and none does."""

import io
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml

import cnnforge
from cnnforge import tuning
from cnnforge.backends.cupy import cuda
from cnnforge.backends.cupy.backend import CupyBackend
from cnnforge.backends.cupy.capabilities import WITH_LIBRARY
from cnnforge.cli.console import PlainConsole
from cnnforge.config import compose, validate
from cnnforge.errors import BackendError
from cnnforge.train.ranks import Alone
from cnnforge.train.run import resume, run
from cnnforge.train.setup import backend_of
from tests.backends.cupy.emulator import Emulator

NET = {
    "name": "net", "input": [8, 8, 1],
    "layers": {
        "conv": {"type": "conv", "filters": 4, "kernel": 3, "bias": False},
        "norm": {"type": "batch_norm"},
        "act": {"type": "activation", "function": "relu"},
        "pool": {"type": "pool", "kernel": 2},
        "conv2": {"type": "conv", "filters": 6, "kernel": 2, "activation": "relu"},
        "drop": {"type": "dropout", "rate": 0.2},
        "output": {"type": "fc", "units": 10, "activation": "softmax"},
    },
}  # fmt: skip
SAMPLES = ["data=synthetic", "data.samples=60", "data.test_samples=12", "data.classes=10", "tracking=none"]


@pytest.fixture(autouse=True)
def device(tmp_path, monkeypatch):
    """The GPU that ``trainer.backend=cupy`` gets; its memory can be made small."""
    device = Emulator(opaque=True)
    monkeypatch.setattr(cuda, "open_device", lambda: device)
    monkeypatch.chdir(tmp_path)
    Path("configs/model").mkdir(parents=True)
    Path("configs/model/net.yaml").write_text(yaml.safe_dump(NET, sort_keys=False))
    return device


def spec_of(*overrides, backend="cupy"):
    words = ["model=net", *SAMPLES, "trainer.batch_size=16", f"trainer.backend={backend}", *overrides]
    return validate(compose(words, config_dir=Path("configs")))


def go(*overrides, backend="cupy"):
    return run(spec_of(*overrides, backend=backend), PlainConsole(io.StringIO()))


def trained(folder):
    model = cnnforge.Model.load(folder / "checkpoints/last", backend="numpy")
    return {**model.params, **model.state}


def test_a_run_comes_to_the_same_as_on_the_cpu(device):
    words = ("trainer.epochs=2", "optimizer=adam", "trainer.stats_every=2")
    (folder, result), (other, expected) = go(*words), go(*words, backend="numpy")
    assert device.launched > 100
    assert (result["status"], result["steps"]) == ("finished", expected["steps"])
    for name in ("train_loss", "val_loss", "test_loss"):
        assert result[name] == pytest.approx(expected[name], rel=1e-4)
    ours, theirs = trained(folder), trained(other)
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-3, atol=2e-4, err_msg=name)


def test_a_run_that_is_continued_ends_in_the_same_bits():
    whole, _ = go("run.name=whole", "trainer.epochs=2", "schedule=constant")
    part, _ = go("run.name=part", "trainer.epochs=1", "schedule=constant")
    folder, _ = resume(part, ["trainer.epochs=2"], PlainConsole(io.StringIO()), changed=True)
    ours, theirs = trained(folder), trained(whole)
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


@pytest.fixture
def library(device, monkeypatch):
    """Says how many plans the device's library of convolutions has."""
    monkeypatch.setattr("cnnforge.backends.cupy.library.installed", lambda: True)
    monkeypatch.setattr(CupyBackend, "capabilities", WITH_LIBRARY)
    monkeypatch.setattr(tuning, "ROUNDS", (1, 1))
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    return partial(setattr, device, "_plans")


def test_a_run_with_a_library_of_convolutions(device, library):
    library(2)
    words = ("trainer.epochs=1", "optimizer=adam")
    (folder, result), (other, expected) = go(*words), go(*words, backend="numpy")
    assert result["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-4)
    assert {plan for _, plan in device.convolved} == {0, 1}
    ours, theirs = trained(folder), trained(other)
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-3, atol=2e-4, err_msg=name)
    kept = set(json.loads((folder / "plan.json").read_text())["ways"].values())
    assert kept <= {"cudnn", "cudnn 2", "own"}, "what the device does not have is not chosen"


def test_a_library_that_is_installed_and_does_not_work_is_said(device, library, capsys):
    library(0)
    said = io.StringIO()
    run(spec_of("trainer.epochs=1", "trainer.autotune=false"), PlainConsole(said))
    assert not device.convolved
    calls = "kernel calls by cnnforge's own kernels: this device does not have the ways that were planned"
    assert calls in said.getvalue()


def test_a_model_by_itself():
    models = [cnnforge.Model(NET, backend=backend) for backend in ("cupy", "numpy")]
    x = np.random.default_rng(0).normal(size=(7, 8, 8, 1)).astype(np.float32)
    ours, theirs = (model.predict(x) for model in models)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    (loss, grads), (expected, gradients) = (model.loss_and_grads(x, np.arange(7)) for model in models)
    assert loss == pytest.approx(expected, rel=1e-5)
    for name in gradients:
        np.testing.assert_allclose(grads[name], gradients[name], rtol=1e-3, atol=1e-5, err_msg=name)


def test_what_does_not_fit_is_said_before_training(device):
    device.free = lambda: 1 << 20
    with pytest.raises(BackendError) as caught:
        go("trainer.epochs=1", "trainer.batch_size=54", "model.layers.conv.filters=512")
    error = caught.value
    assert (error.what, error.where) == ("the network does not fit the GPU's memory", "trainer.batch_size")
    assert error.why.startswith("with 54 samples it takes ")
    assert error.why.endswith(" MiB, 1 MiB are free")
    assert error.fix == "a smaller trainer.batch_size, with trainer.accumulate for the same steps"


def test_several_processes_are_refused():
    ranks = Alone()
    ranks.size = 2
    with pytest.raises(BackendError) as caught:
        backend_of(spec_of(), ranks)
    assert str(caught.value) == (
        "several processes cannot train together on GPUs yet\n  where: trainer.backend\n"
        "  why:   2 processes were started, and their gradients are added up on the host only\n"
        "  fix:   one process, or trainer.backend=auto"
    )
