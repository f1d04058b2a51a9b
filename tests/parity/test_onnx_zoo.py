"""Every network of the zoo as an ONNX file: in onnxruntime, and back here, on small pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnnforge.config import read_model, validate_model
from cnnforge.model import Model
from tests.export.onnx_files import difference, exported, imported, noisy, pictures

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

MODELS = Path(__file__).parents[2] / "configs" / "model"
NAMES = sorted(file.stem for file in MODELS.glob("*.yaml"))
#: What takes a second or more; of each kind of net a small one is left to the fast tests.
LONG = {
    "alexnet", "densenet121", "efficientnet_b0", "fast_cifar", "googlenet", "mobilenet_v1", "resnet18", "resnet34",
    "resnet50", "resnet56", "resnet101", "shufflenet_v1", "squeezenet1_0", "vgg11", "vgg11_bn", "vgg16", "vgg16_bn",
    "vgg19", "vgg19_bn", "mobilenet_v2", "resnet32", "network_in_network", "cifar_resnet9",
}  # fmt: skip


def small(name: str) -> Model:
    """The net for pictures of 64x64 at most, its last layer scaled so that no class is certain."""
    spec = validate_model(read_model(MODELS / f"{name}.yaml"))
    h, w, c = spec.input
    model = noisy(spec.model_copy(update={"input": (min(h, 64), min(w, 64), c)}))
    last = next(row for row in reversed(spec.table) if row.params)
    x = pictures(model, 2)
    while spec.last_activation != "none" and model.predict(x).max() > 0.9:
        for part in last.params:
            model.params[f"{last.name}.{part}"] = model.params[f"{last.name}.{part}"] * 0.3
    return model


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in NAMES])
def test_there_and_back(name, tmp_path):
    model = small(name)
    x = pictures(model, 2)
    expected, content = model.predict(x), exported(model)
    room = 1e-4 * min(1.0, float(np.abs(expected).max()))  # of a thousand classes none may have 1e-2
    assert difference(model, content, x) <= room
    (tmp_path / f"{name}.onnx").write_bytes(content)
    again = imported(tmp_path / f"{name}.onnx")
    assert sum(row.param_count for row in again.spec.table) == sum(row.param_count for row in model.spec.table)
    assert float(np.abs(again.predict(x) - expected).max()) <= room
