"""Whole trainings in a GPU's precisions, on one that is not there."""

import io
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import cnnforge
from cnnforge.backends.cupy import cuda
from cnnforge.cli.console import PlainConsole
from cnnforge.config import compose, validate
from cnnforge.train.run import resume, run
from tests.backends.cupy.emulator import Emulator
from tests.backends.cupy.test_training import NET, SAMPLES

WORDS = ["trainer.batch_size=16", "trainer.epochs=2", "optimizer=adam", "schedule=constant", "trainer.stats_every=2"]


@pytest.fixture(autouse=True)
def _device(tmp_path, monkeypatch):
    monkeypatch.setattr(cuda, "open_device", lambda number, together: Emulator(opaque=True))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def go(name, precision, *more, backend="cupy"):
    words = [*SAMPLES, *WORDS, f"run.name={name}", f"trainer.precision={precision}", f"trainer.backend={backend}"]
    words += ["model=lenet1", *more]
    spec = validate(compose(words)).model_copy(update={"model": cnnforge.Model(NET).spec})
    return run(spec, PlainConsole(io.StringIO()))


def trained(folder: Path):
    model = cnnforge.Model.load(folder / "checkpoints/last", backend="numpy")
    return {**model.params, **model.state}


def scale_of(folder: Path):
    return load_file(folder / "checkpoints/last/optimizer.safetensors")["loss_scale"]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_run_comes_close_to_one_in_float32(precision):
    (folder, result), (other, expected) = go("half", precision), go("full", "float32", backend="numpy")
    assert (result["status"], result["steps"]) == ("finished", expected["steps"])
    for name in ("train_loss", "val_loss", "test_loss"):
        assert result[name] == pytest.approx(expected[name], rel=0.03)
    ours, theirs = trained(folder), trained(other)
    for name in ours:
        assert ours[name].dtype == "float32"
        np.testing.assert_allclose(ours[name], theirs[name], rtol=0.05, atol=0.02, err_msg=name)
    assert any((ours[name] != theirs[name]).any() for name in ours)


def test_a_continued_run_ends_in_the_same_bits_its_loss_scale_too():
    whole, _ = go("whole", "float16")
    part, _ = go("part", "float16", "trainer.epochs=1")
    scale, since = scale_of(part)
    assert scale == 2.0**16 / 16 / 2, "one update was left out"
    assert 0 < since < 4
    folder, _ = resume(part, ["trainer.epochs=2"], PlainConsole(io.StringIO()), changed=True)
    ours, theirs = trained(folder), trained(whole)
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    np.testing.assert_array_equal(scale_of(folder), scale_of(whole))
    assert scale_of(folder).tolist() == [scale, since + 4]


def test_updates_are_left_out_until_gradients_are_finite(monkeypatch):
    """The loss scale begins so high that the first gradients are infinite in float16."""
    monkeypatch.setattr("cnnforge.executable.FIRST_SCALE", 2.0**26)
    folder, _ = go("high", "float16", "trainer.max_steps=2")
    first = cnnforge.Model(NET)
    for name, array in trained(folder).items():
        np.testing.assert_array_equal(array, {**first.params, **first.state}[name], err_msg=name)
    assert scale_of(folder).tolist() == [2.0**20, 0]
    folder, result = go("longer", "float16", "trainer.epochs=8")
    assert result["status"] == "finished"
    scale, since = scale_of(folder)
    assert 2.0**4 < scale < 2.0**20
    assert since > 0
    assert any((array != {**first.params, **first.state}[name]).any() for name, array in trained(folder).items())
