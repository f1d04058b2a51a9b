"""``cnnforge export`` and ``cnnforge import`` as a user runs them, on a run that was trained."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import cnnforge
from cnnforge.cli.main import main
from cnnforge.config import read_run, validate
from cnnforge.data import load

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of LeNet-1 on the digits that come along."""
    runs = tmp_path_factory.mktemp("trained") / "runs"
    wanted = ["model=lenet1", "trainer.epochs=1", "trainer.backend=numpy", "tracking=none", "data.limit=200"]
    assert main(["train", *wanted, f"run.dir={runs}", "run.name=small", "--json"]) == 0
    return runs / "small"


def test_onnx_there_and_back(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert main(["export", "small", "--dir", str(run.parent), "--to", "onnx", "out/net.onnx"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"out/net\.onnx: [\d.]+ KiB", said[0])
    assert re.fullmatch(r"largest difference to onnxruntime: \S+ on 64 random inputs", said[1])
    assert re.fullmatch(r"largest difference to onnxruntime: \S+ on 64 pictures of the run's data", said[2])
    assert len(said) == 3

    assert main(["import", "out/net.onnx", "--out", "mine", "--name", "again"]) == 0
    out = capsys.readouterr().out
    assert "mine/model/again.yaml: 6 layers\nmine/weights/again/: 3,246 parameters\n" in out
    assert "train it on:   cnnforge train --config-dir mine model=again init_from=mine/weights/again" in out
    assert Path("mine/model/again.yaml").read_text() == (
        "# Imported from net.onnx.\nname: again\ninput: [28, 28, 1]\nlayers:\n"
        + "".join(f"  {line}\n" for line in AGAIN)
    )
    assert main(["check", "--config-dir", "mine", "model=again", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["params"] == 3246
    spec = validate(read_run(run / "config.yaml"))
    data = load(spec.data, spec.model.input, spec.seed)
    own, other = cnnforge.Model.load(run), cnnforge.Model.load(tmp_path / "mine/weights/again")
    x = data.preprocessing.normalize(data.test.x[:20])
    np.testing.assert_allclose(other.predict(x), own.predict(x), atol=1e-5)
    assert other.preprocessing == own.preprocessing
    assert other.classes == own.classes

    # A saved model is exported as a run is, and a net that was imported starts another training.
    assert main(["export", "mine/weights/again", "--to", "onnx", "again.onnx", "--layout", "nhwc", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["path"], told["notes"], list(told["differences"])) == ("again.onnx", [], ["64 random inputs"])
    train = ["train", "--config-dir", "mine", "model=again", "init_from=mine/weights/again", "trainer.epochs=1"]
    assert main([*train, "trainer.backend=numpy", "tracking=none", "data.limit=200"]) == 0
    assert "init_from: 6 of 6 tensors" in capsys.readouterr().out


#: The network is small enough to be written as a person would.
AGAIN = (
    "conv1: {type: conv, filters: 4, kernel: 5, activation: tanh}",
    "pool1: {type: pool, kernel: 2, mode: average}",
    "conv2: {type: conv, filters: 12, kernel: 5, activation: tanh}",
    "pool2: {type: pool, kernel: 2, mode: average}",
    "output: {type: fc, units: 10, activation: softmax}",
)


def test_safetensors(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run), "--to", "safetensors", str(tmp_path / "net.safetensors")]) == 0
    assert f"{tmp_path}/net.safetensors: 1" in capsys.readouterr().out


def test_raw_pixels(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run), "--to", "onnx", str(tmp_path / "net.onnx"), "--raw", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told["differences"]) == ["64 random inputs", "64 pictures of the run's data"]
    assert max(told["differences"].values()) < 1e-5
    capsys.readouterr()
    assert main(["import", str(tmp_path / "net.onnx"), "--out", str(tmp_path / "mine"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["difference"] < 1e-4, "compared on pixels, which the file takes"


def test_what_is_there_is_not_overwritten(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(run), "--to", "onnx", "net.onnx"]) == 0
    assert main(["import", "net.onnx", "--out", "mine"]) == 0
    capsys.readouterr()
    assert main(["import", "net.onnx", "--out", "mine"]) == 2
    assert capsys.readouterr().err == (
        "mine/model/net.yaml is there already\n  where: --out\n  why:   nothing is overwritten\n  fix:   --name net2\n"
    )
    assert main(["import", "net.onnx", "--out", "mine", "--name", "2 nets"]) == 2
    assert capsys.readouterr().err == (
        "'2 nets' cannot be a name\n  where: --name\n  why:   letters, digits, _ and -, no digit first\n"
        "  fix:   --name nets\n"
    )


def test_a_place_that_cannot_be_written(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["export", str(run), "--to", "safetensors", str(tmp_path / "file" / "net")]) == 2
    assert capsys.readouterr().err.startswith(f"cannot write {tmp_path}/file/net\n")


def test_numbers_that_differ_are_not_written(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnnforge.export.verify.difference", lambda *_: float("nan"))
    assert main(["export", str(run), "--to", "onnx", str(tmp_path / "net.onnx")]) == 3
    assert "net.onnx: onnxruntime gives other numbers" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
