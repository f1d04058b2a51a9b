"""Whole trainings on a GPU that is not there: nothing may take a device's array for NumPy's, and none does."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

import cnnforge
from cnnforge.backends.cupy import cuda, failures
from cnnforge.cli.console import PlainConsole
from cnnforge.config import compose, validate
from cnnforge.errors import BackendError
from cnnforge.train.run import resume, run
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
    monkeypatch.setattr(cuda, "open_device", lambda number, together: device)
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


@pytest.mark.parametrize("at", [60, 2])
def test_a_gpu_that_fails_ends_the_run_and_leaves_its_checkpoint(device, at, monkeypatch):
    """At its 60th read, in the second epoch, or before there is anything to go on from."""
    read, count = device.get, iter(range(1, 1000))

    def ill(array):
        if next(count) == at:
            said = "cudaErrorIllegalAddress: an illegal memory access was encountered"
            raise failures.failed("A card (device 0)", RuntimeError(said))
        return read(array)

    words = ("run.name=ill", "trainer.epochs=3", "schedule=constant")
    with monkeypatch.context() as patch:
        patch.setattr(device, "get", ill)
        with pytest.raises(BackendError) as caught:
            go(*words)
    folder = Path("runs/ill")
    error, kept = caught.value, (folder / "checkpoints/last").exists()
    assert kept == (at == 60)
    assert error.exit_code == 2
    assert str(error) == (
        "the GPU stopped in the middle of its work\n  where: A card (device 0)\n"
        "  why:   cudaErrorIllegalAddress: an illegal memory access was encountered\n"
        "  fix:   CNNFORGE_CUDA_GRAPHS=0 compute-sanitizer cnnforge … names the kernel, if one is at fault: "
        "please report it" + ("; cnnforge resume runs/ill goes on from the last checkpoint" if kept else "")
    )
    assert json.loads((folder / "result.json").read_text())["status"] == "failed"
    if kept:
        _, result = resume(folder, (), PlainConsole(io.StringIO()))
        assert result["status"] == "finished"
