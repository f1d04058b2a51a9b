"""Checkpoints: whole or not there, checked on reading, the last few and the best kept."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest

from cnnforge.backends.numpy.backend import NumpyBackend
from cnnforge.errors import CheckpointError
from cnnforge.executable import Executable, Weights
from cnnforge.ir.precision import PRECISIONS
from cnnforge.lower import train_graph
from cnnforge.optim import OPTIMIZERS
from cnnforge.plan import make_plan
from cnnforge.spec import ModelSpec
from cnnforge.train import checkpoint
from cnnforge.train.checkpoint import About, Checkpoints
from cnnforge.train.metrics import Sums
from cnnforge.train.recipe import Progress
from tests.building import build

SPEC = ModelSpec.model_validate(
    {
        "name": "t",
        "input": [4, 4, 2],
        "layers": {
            "c": {"type": "conv", "filters": 3, "kernel": 3},
            "bn": {"type": "batch_norm"},
            "o": {"type": "fc", "units": 3, "activation": "softmax"},
        },
    }
)
ADAM = OPTIMIZERS["adam"](type="adam")


@pytest.fixture
def built():
    made = build(SPEC, batch=4, optimizer=ADAM)
    made.run("forward", "loss", "backward", "update")
    return made


@pytest.fixture
def kept(tmp_path):
    return Checkpoints(tmp_path / "checkpoints", keep=2)


def save(kept, built, step, best=False):
    progress = Progress(epoch=1, step_in_epoch=2, step=step, sums=Sums(1.5, 2.0, 3), best_score=0.5, best_step=1)
    kept.save(progress, built.exe, About(SPEC, "float64", {"some": "rule"}, ("no", "yes")), best)
    return progress


def everything(built):
    weights = built.exe.weights
    return {name: a.copy() for name, a in (weights.params | weights.state | built.exe.slots).items()}


def test_a_checkpoint_brings_everything_back(kept, built):
    progress, before = save(kept, built, 7), everything(built)
    for array in (built.exe.weights.params | built.exe.weights.state | built.exe.slots).values():
        array[...] = -1
    assert kept.load("last", built.exe) == progress
    for name, array in everything(built).items():
        np.testing.assert_array_equal(array, before[name])
    assert {"c.w/mean", "c.w/square"} <= before.keys()


def test_what_lies_on_disk(kept, built):
    save(kept, built, 7, best=True)
    folder = kept.folder / "step-7"
    assert sorted(p.name for p in folder.iterdir()) == [
        "model.json", "model.safetensors", "optimizer.safetensors", "state.json",
    ]  # fmt: skip
    assert str((kept.folder / "last").readlink()) == str((kept.folder / "best").readlink()) == "step-7"
    assert json.loads((folder / "model.json").read_text())["preprocessing"] == {"some": "rule"}
    assert json.loads((folder / "model.json").read_text())["classes"] == ["no", "yes"]


def test_the_last_two_and_the_best_stay(kept, built):
    for step in (1, 2, 3, 4, 5):
        save(kept, built, step, best=step == 2)
    assert sorted(p.name for p in kept.folder.iterdir()) == ["best", "last", "step-2", "step-4", "step-5"]
    assert str((kept.folder / "best").readlink()) == "step-2"


def test_saving_the_same_step_again_replaces_it(kept, built):
    save(kept, built, 3)
    built.exe.weights.params["c.w"][...] = 5
    save(kept, built, 3)
    built.exe.weights.params["c.w"][...] = 0
    kept.load_weights("last", built.exe.weights)
    assert built.exe.weights.params["c.w"].max() == 5


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors"])
def test_one_changed_bit_is_found(kept, built, name):
    save(kept, built, 3)
    path = kept.folder / "step-3" / name
    blob = bytearray(path.read_bytes())
    blob[len(blob) // 2] ^= 4
    path.write_bytes(blob)
    with pytest.raises(CheckpointError) as error:
        kept.load("last", built.exe)
    assert f"{name} is damaged" in str(error.value)
    assert "SHA-256" in str(error.value)
    run = os.path.relpath(kept.folder.parent)
    assert error.value.fix == (
        f"a copy of it; no other checkpoint is there: cnnforge train {run}/config.yaml begins anew"
    )
    save(kept, built, 2)
    save(kept, built, 1)
    with pytest.raises(CheckpointError) as error:
        kept.load("step-3", built.exe)
    assert error.value.fix == f"go on from another: ln -sfn step-2 {run}/checkpoints/last && cnnforge resume {run}"


def test_a_cut_file_is_found(kept, built):
    save(kept, built, 3)
    path = kept.folder / "step-3" / "state.json"
    path.write_text(path.read_text()[:20])
    with pytest.raises(CheckpointError, match=r"cannot read state\.json"):
        kept.load("last", built.exe)


def test_another_model_is_refused_by_name(kept, built):
    save(kept, built, 3)
    smaller = ModelSpec.model_validate(SPEC.model_dump() | {"layers": {"o": SPEC.model_dump()["layers"]["o"]}})
    with pytest.raises(CheckpointError) as error:
        kept.load("last", build(smaller, optimizer=ADAM).exe)
    assert "the model has no bn.beta, bn.gamma" in str(error.value)
    wider = SPEC.model_dump()
    wider["layers"]["c"]["filters"] = 4
    with pytest.raises(CheckpointError) as error:
        kept.load("last", build(ModelSpec.model_validate(wider), optimizer=ADAM).exe)
    assert "c.w is (3, 3, 2, 3) in the file and (3, 3, 2, 4) in the model" in str(error.value)


def test_a_disk_that_takes_no_more_leaves_what_was_there(kept, built, monkeypatch):
    save(kept, built, 3)
    before = everything(built)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(CheckpointError) as error:
        save(kept, built, 4)
    assert "cannot write step-4: No space left on device" in str(error.value)
    assert "earlier checkpoints are untouched" in str(error.value)
    monkeypatch.undo()
    assert sorted(p.name for p in kept.folder.iterdir()) == ["last", "step-3"]
    kept.load("last", built.exe)
    np.testing.assert_array_equal(built.exe.weights.params["c.w"], before["c.w"])


def test_arrays_that_are_not_contiguous_survive(kept, built):
    """safetensors 0.8.0 writes them scrambled, without a word."""
    weights = built.exe.weights
    weights.params["c.w"] = np.asfortranarray(weights.params["c.w"])
    save(kept, built, 1)
    _, tensors = checkpoint.read_model(kept.folder / "last")
    np.testing.assert_array_equal(tensors["c.w"], weights.params["c.w"])


def test_a_loss_scale_comes_back_and_cannot_be_lost(kept):
    can = replace(NumpyBackend.capabilities, precisions=(*PRECISIONS,))
    device = NumpyBackend()
    plan = make_plan(train_graph(SPEC, 4, "float16", 0, ADAM), can)
    exe = Executable(plan, device, Weights(plan, device))
    exe.scaling["loss_scale"][...] = 512.0, 1234.0
    kept.save(Progress(step=3), exe, About(SPEC, "float16", None, ()), best=False)
    again = Executable(plan, device, Weights(plan, device))
    kept.load("last", again)
    np.testing.assert_array_equal(again.scaling["loss_scale"], [512, 1234])

    plain = make_plan(train_graph(SPEC, 4, "float32", 0, ADAM), can)
    with pytest.raises(CheckpointError) as error:
        kept.load("last", Executable(plain, device, Weights(plain, device)))
    assert "the model has no loss_scale" in str(error.value)
