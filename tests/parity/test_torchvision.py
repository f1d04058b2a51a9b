"""State_dicts in torchvision's names, taken over by the zoo's nets: the outputs agree with the torch module's."""

import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from cnnforge.model import Model
from cnnforge.spec import RunSpec
from cnnforge.train.transfer import transfer

torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")

from tests.parity import torchvision_nets as nets  # noqa: E402

#: Hidden units where the published net has 4,096: the order of layers and of the flattened picture is what counts.
UNITS = 32
TWINS = {
    "resnet18": (lambda: nets.ResNet(nets.Basic, (2, 2, 2, 2), 1), 64),
    "resnet50": (lambda: nets.ResNet(nets.Bottleneck, (3, 4, 6, 3), 4), 64),
    "mobilenet_v2": (nets.mobilenet_v2, 64),
    "efficientnet_b0": (nets.efficientnet_b0, 64),
    "squeezenet1_1": (nets.SqueezeNet, 64),
    "densenet121": (nets.densenet121, 64),
    "googlenet": (nets.GoogLeNet, 64),
    "vgg11_bn": (lambda: nets.vgg11_bn(UNITS, 2), 64),
    "alexnet": (lambda: nets.alexnet(UNITS, 3), 128),
}


def twin(name):
    """(our net, torch's) with random statistics and scales, so that no norm is the identity."""
    make, side = TWINS[name]
    torch.manual_seed(0)
    theirs = make().eval()
    with torch.no_grad():
        for module in theirs.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.1)
    text = re.sub("input: .*", f"input: [{side}, {side}, 3]", Path(f"configs/model/{name}.yaml").read_text())
    spec = text.replace("units: 4096", f"units: {UNITS}")
    return Model(spec, backend="numpy"), theirs, side


def taken(model, path, **fields):
    fields = {"source": str(path), "map": "torchvision", "strict": True} | fields
    return transfer(RunSpec(model=model.spec, init_from=fields), model._weights)


def saved(path, state):
    save_file({name: np.ascontiguousarray(t.numpy()) for name, t in state.items()}, path)
    return path


@pytest.mark.parametrize("name", TWINS)
def test_the_outputs_are_those_of_the_torch_module(name, tmp_path):
    model, theirs, side = twin(name)
    report = taken(model, saved(tmp_path / "net.safetensors", theirs.state_dict()))
    assert len(report.taken) == len(model.params) + len(model.state)
    x = np.random.default_rng(0).standard_normal((2, side, side, 3)).astype(np.float32)
    with torch.no_grad():
        logits = theirs(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    ours = np.log(model.predict(x))
    ours, logits = (values - values.mean(1, keepdims=True) for values in (ours, logits))
    # fresh nets say nearly the same of every class: the scale of what they do say is the measure
    assert np.abs(ours - logits).max() < 2e-3 * logits.std()


def test_densenets_published_names_are_older(tmp_path):
    model, theirs, _ = twin("densenet121")
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", k): v for k, v in theirs.state_dict().items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    report = taken(model, saved(tmp_path / "net.safetensors", old))
    assert len(report.taken) == len(model.params) + len(model.state)
