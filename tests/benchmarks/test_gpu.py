"""What the GPU's benchmark does, on backends and devices that are here."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import gpu, gpu_checks, nets
from benchmarks.engines import Ours, same_loss
from benchmarks.recipe import recipe, torch_arrays
from cnnforge.tuning import Choice
from tests import devices
from tests.backends.cupy import emulator


def test_a_step_beside_numpys(capsys):
    assert gpu_checks.step_by_step("lenet", 4, "float32", "numba") == []
    said = capsys.readouterr().out
    assert said.startswith("lenet, float32: 10 gradients beside NumPy's, the furthest ")
    assert said.endswith("0 beyond what was allowed\n")


def test_a_gradient_that_is_off_is_named(monkeypatch, capsys):
    get = type(Ours(nets.spec("lenet"), nets.ADAM, 2, "numba", 1).backend).get
    monkeypatch.setattr(
        "cnnforge.backends.numba.backend.NumbaBackend.get", lambda self, array: get(self, array) * np.float32(1.01)
    )
    wrong = gpu_checks.step_by_step("lenet", 4, "float32", "numba")
    assert [line.split(" is ")[0] for line in wrong[:2]] == [
        "lenet, float32: the gradient of conv1.w", "lenet, float32: the gradient of conv1.b",
    ]  # fmt: skip
    assert wrong[-1].startswith("lenet, float32: the loss is ")
    assert f"{len(wrong)} beyond what was allowed" in capsys.readouterr().out


def test_two_trainings(capsys):
    assert gpu_checks.same_bits("float32", "numpy", "lenet", 4) == []
    assert capsys.readouterr().out == "float32: two trainings of ten steps, 0 of 10 tensors differ\n"


def test_tensors_that_differ_are_named(monkeypatch):
    seeds = iter((0, 1))
    initialise = Ours.__init__.__globals__["Weights"].initialise
    monkeypatch.setattr(
        "cnnforge.executable.Weights.initialise", lambda self, plan, seed: initialise(self, plan, next(seeds))
    )
    wrong = gpu_checks.same_bits("float32", "numpy", "lenet", 4)
    assert len(wrong) == 3
    assert wrong[0].endswith(" is not the same in two trainings")


@pytest.mark.slow
def test_interrupted_and_resumed(capsys):
    assert gpu_checks.resumed("float32", "numba", epochs=6) == []
    assert capsys.readouterr().out == "float32: interrupted and resumed, 0 tensors differ\n"


def test_a_command_that_fails_is_told():
    (wrong,) = gpu_checks.resumed("float32", "cuda", epochs=1)
    assert wrong.startswith("resume, float32: a command fails: ")
    assert "trainer.backend" in wrong


def test_a_training_without_its_data_is_left_out(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("CNNFORGE_DATA", str(tmp_path))
    assert gpu_checks.trained("lenet5_mnist", "mnist", 0.99, 0.01, "float32") == []
    assert capsys.readouterr().out == "lenet5_mnist: left out, $CNNFORGE_DATA/mnist is not here\n"


def test_every_check_has_what_it_names():
    assert {line.precision for line in gpu.LINES} <= set(gpu_checks.CLOSE)
    for net, _ in gpu_checks.CHECKED:
        assert nets.spec(net).table


@pytest.mark.parametrize("form", ["eager", "channels_last"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_pytorchs_step_is_ours(form, precision):
    """On the CPU; a graph and its capture need a card."""
    torch_gpu = pytest.importorskip("benchmarks.torch_gpu", reason="PyTorch is not installed")
    spec = nets.spec("lenet")
    ours = Ours(spec, nets.ADAM, 8, "numba", 1)
    plain, arrays = recipe(spec, ours.optimizer), torch_arrays(spec, ours.arrays())
    ours()
    engine = torch_gpu.Step(plain, arrays, ours.data, form, precision, "cpu")
    engine()
    same_loss(form, engine.loss(), ours.loss(), 1e-4 if precision == "float32" else 2e-2)


@pytest.mark.slow
def test_every_way_of_a_convolution_is_tried(monkeypatch, capsys):
    backend = devices.create(devices.WITH_LIBRARY)
    assert gpu_checks.convolutions(backend) == []
    said = capsys.readouterr().out
    tried = int(said.split()[1])
    assert tried >= 3 * 4 * 4
    convolve = emulator.convolve
    monkeypatch.setattr(emulator, "convolve", lambda how, arrays: (convolve(how, arrays), arrays[-1].fill(3)))
    assert len(gpu_checks.convolutions(backend)) == tried


def test_turns_are_timed_by_engine():
    done = []
    times = gpu.in_turn({"a": (lambda: done.append("a"), lambda: None), "b": (lambda: done.append("b"), list)}, 2, 1e-5)
    assert [len(t) for t in times.values()] == [2, 2]
    assert min(times["a"]) > 0
    assert {"a", "b"} == set(done)


@pytest.mark.slow
@pytest.mark.parametrize("precision", gpu_checks.CLOSE)
def test_a_step_in_every_precision_on_a_gpu_that_is_not_there(precision, monkeypatch):
    """Kernels as on a card, and the checks' limits: they have to hold there as well."""
    monkeypatch.setattr("benchmarks.engines.create", lambda name, *rest: devices.create(name))
    monkeypatch.setattr("benchmarks.engines.Choice", lambda backend, threads, **more: Choice("numpy", threads))
    assert gpu_checks.step_by_step("lenet", 4, precision, devices.EMULATED) == []
    assert gpu_checks.same_bits(precision, devices.EMULATED, "lenet", 4) == []
