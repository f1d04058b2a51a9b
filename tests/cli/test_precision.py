"""Commands on runs of a GPU's precisions, on a machine without one: they compute in float32."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from cnnforge.cli.main import main
from cnnforge.serve.served import Served

PRECISIONS = ["tf32", "bfloat16", "float16"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    wanted = ["model=lenet1", "trainer.epochs=1", "trainer.backend=numpy", "tracking=none", "data.limit=200"]
    assert main(["train", *wanted, "trainer.report=false", f"run.dir={folder}", "run.name=here"]) == 0
    return folder / "here"


@pytest.fixture(scope="module", params=PRECISIONS)
def runs(request: pytest.FixtureRequest, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``here`` as it was trained, and ``gpu``, the same as a GPU would have left it."""
    folder = tmp_path_factory.mktemp(request.param)
    for name in ("here", "gpu"):
        shutil.copytree(trained, folder / name, symlinks=True)
    for file in (folder / "gpu" / "checkpoints").glob("step-*/model.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"precision": request.param}))
    config = folder / "gpu" / "config.yaml"
    text = config.read_text()
    assert text.count("backend: numpy, precision: float32") == 1
    config.write_text(text.replace("backend: numpy, precision: float32", f"backend: cupy, precision: {request.param}"))
    return folder


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main([*words]) == 0
    return capsys.readouterr().out


@pytest.fixture
def picture(tmp_path: Path) -> str:
    Image.fromarray(np.arange(28 * 28, dtype=np.uint8).reshape(28, 28)).save(tmp_path / "p.png")
    return str(tmp_path / "p.png")


def test_predict_and_evaluate(runs: Path, picture: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command, more in (("predict", [picture, "--json"]), ("evaluate", ["--json"])):
        here, gpu = (said(capsys, command, str(runs / name), *more).replace(name, "") for name in ("here", "gpu"))
        assert here == gpu


def test_exports_are_float32(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(runs / "gpu")
    said(capsys, "export", run, "--to", "safetensors", str(tmp_path / "w.safetensors"))
    assert {a.dtype.name for a in load_file(tmp_path / "w.safetensors").values()} == {"float32"}
    onnx = pytest.importorskip("onnx")
    said(capsys, "export", run, "--to", "onnx", str(tmp_path / "net.onnx"))
    graph = onnx.load(tmp_path / "net.onnx").graph
    assert {t.data_type for t in graph.initializer if t.dims} <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}
    assert "Cast" not in {n.op_type for n in graph.node}


def test_serve_and_report(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = np.zeros((2, 28, 28, 1), np.float32)
    served = [Served.load(runs / name).model for name in ("here", "gpu")]
    np.testing.assert_array_equal(*(model.predict(pictures) for model in served))
    assert served[1].precision == "float32"
    if runs.name.startswith("float16"):
        said(capsys, "report", str(runs / "gpu"))
        assert ", float16" in (runs / "gpu" / "report.html").read_text()
