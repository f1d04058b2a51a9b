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
from cnnforge.backends.cupy import cuda, failures
from cnnforge.backends.cupy.backend import CupyBackend
from cnnforge.backends.cupy.capabilities import WITH_LIBRARY
from cnnforge.backends.cupy.pictures import DeviceCanvas
from cnnforge.cli.console import PlainConsole
from cnnforge.config import compose, validate
from cnnforge.errors import BackendError
from cnnforge.train import setup, stocks
from cnnforge.train.run import resume, run
from tests.backends.cupy.emulator import Apart, Emulator

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
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # what is fast here says nothing of a card
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


class Dying(PlainConsole):
    """Has its process die after a step, with no time for anything."""

    def __init__(self, last):
        super().__init__(io.StringIO())
        self.last = last

    def step(self, progress, metrics):
        if progress.step == self.last:
            raise ZeroDivisionError


def test_a_run_that_died_within_an_epoch_ends_in_the_same_bits():
    """Losses were read at other steps: the sums of an epoch are the device's, and go on where a checkpoint has them."""
    words = ("trainer.epochs=2", "trainer.batch_size=8", "trainer.checkpoint_every=2", "schedule=constant")
    whole, result = go("run.name=whole", *words, "trainer.log_every=5")
    with pytest.raises(ZeroDivisionError):
        run(spec_of("run.name=part", *words, "trainer.log_every=5"), Dying(5))
    part = Path("runs/part")
    assert Path(part / "checkpoints/last").resolve().name == "step-4"
    _, resumed = resume(part, [], PlainConsole(io.StringIO()))
    for name in ("steps", "train_loss", "train_accuracy", "val_loss", "test_loss"):
        assert resumed[name] == result[name], name
    ours, theirs = trained(part), trained(whole)
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


@pytest.mark.parametrize("hurried", [False, True], ids=["late", "early"])
def test_batches_that_are_copied_beside_the_steps_change_nothing(hurried, monkeypatch):
    """As late or as early as what was asked for allows: who forgets to wait reads another batch, or half of one."""
    words = ("trainer.epochs=2", "trainer.batch_size=8", "trainer.log_every=100", "schedule=constant")
    whole, result = go("run.name=whole", *words)
    monkeypatch.setattr(cuda, "open_device", lambda number, together: Apart(hurried))
    beside, found = go("run.name=beside", *words)
    for name in ("steps", "train_loss", "train_accuracy", "val_loss", "test_loss"):
        assert found[name] == result[name], name
    ours, theirs = trained(beside), trained(whole)
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


@pytest.fixture
def library(device, monkeypatch):
    """Says how many plans the device's library of convolutions has."""
    monkeypatch.setattr("cnnforge.backends.cupy.library.installed", lambda: True)
    monkeypatch.setattr(CupyBackend, "capabilities", WITH_LIBRARY)
    monkeypatch.setattr(tuning, "ROUNDS", (1, 1))
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


def augmentations():
    folder = Path(__file__).parents[3] / "configs/augment"
    return sorted(path.stem for path in folder.glob("*.yaml"))


@pytest.fixture
def on_device(monkeypatch):
    """Whose pictures the host makes."""

    def refused(canvas):
        raise AssertionError("the host makes pictures")

    monkeypatch.setattr(DeviceCanvas, "pixels", refused)


@pytest.mark.parametrize("augment", augmentations())
@pytest.mark.usefixtures("on_device")
def test_pictures_are_the_devices(augment):
    """Of training, validation and test, with a partial last batch each, ahead of time."""
    words = (
        "trainer.epochs=1", f"augment={augment}", "model.input=[10,10,3]", "data.samples=25", "data.test_samples=5",
        "data.validation=0.3", "trainer.batch_size=4",
    )  # fmt: skip
    (_, ours), (_, theirs) = go(*words), go(*words, backend="numpy")
    for name in ("train_loss", "val_loss", "test_loss"):
        assert ours[name] == pytest.approx(theirs[name], rel=1e-3), name


@pytest.mark.usefixtures("on_device")
def test_pictures_that_do_not_stay_are_sent(monkeypatch):
    """With the same weights at the end, where running statistics are measured too."""
    words = ("trainer.epochs=2", "augment=flip_crop", "trainer.swa.start=0.3", "data.samples=40")
    stay, _ = go(*words)
    monkeypatch.setattr(stocks, "SHARE", 0.0)
    console = io.StringIO()
    sent, _ = run(spec_of(*words), PlainConsole(console))
    assert "0 MiB of pictures go to the GPU batch by batch: they take more than 0% of its free memory" in (
        console.getvalue()
    )
    ours, theirs = trained(sent), trained(stay)
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def test_other_precisions_and_arrays_are_the_hosts():
    words = ("trainer.epochs=1", "augment=flip_crop", "trainer.precision=float64")
    (_, ours), (_, theirs) = go(*words), go(*words, backend="numpy")
    assert ours["val_loss"] == pytest.approx(theirs["val_loss"], rel=1e-9)
    x = np.random.default_rng(0).normal(size=(23, 8, 8, 1)).astype(np.float32)
    losses = [
        cnnforge.Model(NET, backend=backend).fit(x, np.arange(23) % 10, batch_size=8, epochs=2)[-1]["train_loss"]
        for backend in ("cupy", "numpy")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_pictures_count_where_memory_is_compared(device, monkeypatch):
    """All that a training takes was asked for, and little more."""
    given, asked, zeros = [], [], device.zeros
    monkeypatch.setattr(device, "zeros", lambda nbytes: given.append(nbytes) or zeros(nbytes))
    monkeypatch.setattr(setup, "require_memory", lambda backend, wanted, batch: asked.append((wanted, sum(given))))
    words = ("trainer.max_steps=3", "augment=distort_mnist", "trainer.batch_size=7")
    for share in (0.25, 0.0):
        monkeypatch.setattr(stocks, "SHARE", share)
        given.clear()
        asked.clear()
        go(*words)
        ((wanted, before),) = asked
        assert 0 <= sum(given) - before - wanted < 1000, "constants of kernels are not counted"


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


def test_averaged_weights_measure_running_statistics_on_the_device():
    words = ("trainer.epochs=2", "trainer.swa={}", "schedule=constant")
    (_, result), (_, expected) = go(*words), go(*words, backend="numpy")
    assert result["val_loss"] == pytest.approx(expected["val_loss"], rel=1e-3)
