"""What PyTorch's own exporter writes, read here: the outputs agree with the torch module's."""

from __future__ import annotations

import io

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
pytest.importorskip("onnx")

from tests.export.onnx_files import imported  # noqa: E402
from tests.parity import torchvision_nets as nets  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

NETS = {
    "squeezenet1_1": nets.SqueezeNet,
    "resnet18": lambda: nets.ResNet(nets.Basic, (2, 2, 2, 2), 1),
    "mobilenet_v2": nets.mobilenet_v2,
    "efficientnet_b0": nets.efficientnet_b0,
    "densenet121": nets.densenet121,
    "googlenet": nets.GoogLeNet,
    "vgg11_bn": lambda: nets.vgg11_bn(32, 2),
}


def plain() -> torch.nn.Module:
    """Layers that the large nets do not have."""
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 5, padding=2, padding_mode="zeros"), torch.nn.GroupNorm(4, 8), torch.nn.GELU(),
        torch.nn.MaxPool2d(3, 2, 1, ceil_mode=True), torch.nn.Conv2d(8, 8, 3, groups=2, dilation=2),
        torch.nn.Hardswish(), torch.nn.ZeroPad2d((1, 0, 2, 1)), torch.nn.Conv2d(8, 6, 3, bias=False),
        torch.nn.PReLU(6), torch.nn.ConvTranspose2d(6, 4, 3, 2, 1, 1),
        torch.nn.Mish(), torch.nn.AvgPool2d(3, 2, 1), torch.nn.InstanceNorm2d(4, affine=True), torch.nn.Hardsigmoid(),
        torch.nn.Flatten(), torch.nn.LazyLinear(10), torch.nn.SELU(), torch.nn.Linear(10, 4), torch.nn.Softmax(1),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["plain", *(pytest.param(n, marks=pytest.mark.slow) for n in NETS)])
def test_an_export_of_pytorch(name, tmp_path):
    torch.manual_seed(0)
    module = plain() if name == "plain" else NETS[name]()
    x = torch.randn(2, 3, *((24, 20) if name == "plain" else (64, 64)))
    with torch.no_grad():
        module.train()(x)  # statistics of batches, and sizes that are known when they are first seen
    module.eval()
    written = io.BytesIO()
    torch.onnx.export(module, x, written, dynamo=False, dynamic_axes={"x": {0: "n"}}, input_names=["x"])
    (tmp_path / "net.onnx").write_bytes(written.getvalue())
    model = imported(tmp_path / "net.onnx")
    with torch.no_grad():
        theirs = module(x).numpy()
    ours = model.predict(x.numpy().transpose(0, 2, 3, 1))
    np.testing.assert_allclose(ours.reshape(theirs.shape), theirs, rtol=1e-4, atol=1e-4 * max(1, abs(theirs).max()))
