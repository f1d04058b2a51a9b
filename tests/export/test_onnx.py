"""ONNX files give what the model gives, in onnxruntime and back here, op by op and at every corner of an attribute."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from cnnforge.blocks.activation import Function
from cnnforge.data import Preprocessing
from cnnforge.data.adapt import Adaptation
from cnnforge.errors import BackendError, CheckpointError, ConfigError
from cnnforge.export import verify
from cnnforge.export.onnx import NEWEST_OPSET, OLDEST_OPSET, Source, to_onnx
from cnnforge.ir.vjp import RULES as GRADIENTS
from cnnforge.spec import ModelSpec
from tests.export.onnx_files import difference, exported, imported, model_of, noisy, pictures
from tests.strategies import models

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

TOLERANCE = 1e-4
HEAD = {"output": {"type": "fc", "units": 5, "activation": "softmax"}}
BODY = {"stem": {"type": "conv", "filters": 4, "kernel": 3, "padding": 1}}


def conv(**fields):
    return {"type": "conv", "filters": 4, "kernel": 3, **fields}


def pool(**fields):
    return {"type": "pool", "kernel": 3, **fields}


def deconv(**fields):
    return {"type": "conv_transpose", "filters": 4, "kernel": 3, **fields}


#: One layer each, behind a convolution that makes four channels of a 9x7 picture.
CORNERS = {
    "conv, asymmetric padding": conv(padding=[2, 0, 1, 3]),
    "conv, same with stride": conv(padding="same", stride=2),
    "conv, same with an even kernel and stride": conv(padding="same", kernel=[2, 4], stride=[2, 3]),
    "conv, dilation": conv(dilation=[2, 3]),
    "conv, same with dilation": conv(dilation=2, padding="same", kernel=[3, 2]),
    "conv, groups": conv(groups=2),
    "conv, depthwise": {"type": "conv", "groups": "depthwise", "kernel": 3},
    "conv, depthwise with two filters each": conv(groups="depthwise", filters=8),
    "conv, flip": conv(flip=True, kernel=[3, 2]),
    "conv, no bias": conv(bias=False),
    "max pool, ceil": pool(stride=2, ceil_mode=True),
    "max pool, ceil with padding": pool(kernel=[2, 3], stride=[3, 2], padding=1, ceil_mode=True),
    "max pool, ceil, a window dropped": pool(kernel=2, stride=3, padding=[1, 1, 1, 1], ceil_mode=True),
    "max pool, asymmetric": pool(stride=2, padding=[1, 0, 0, 2]),
    "max pool, same": pool(stride=2, padding="same"),
    "average pool": {"type": "pool", "kernel": 3, "stride": 2, "mode": "average"},
    "average pool, padding that counts": pool(mode="average", padding=1, stride=2, count_include_pad=True),
    "average pool, padding that does not": pool(mode="average", padding=[1, 0, 2, 1], stride=2),
    "average pool, ceil": pool(mode="average", stride=2, kernel=[2, 3], ceil_mode=True),
    "average pool, ceil, padding that counts": pool(
        mode="average", stride=[3, 2], kernel=3, padding=[1, 1, 0, 1], ceil_mode=True, count_include_pad=True
    ),
    "average pool, ceil, a window dropped": pool(
        mode="average", stride=3, kernel=2, padding=1, ceil_mode=True, count_include_pad=True
    ),
    "transposed, stride and output padding": deconv(stride=2, padding=1, output_padding=1),
    "transposed, same": deconv(stride=[2, 3], padding="same", kernel=[2, 4]),
    "transposed, same, stride above kernel": deconv(stride=3, padding="same", kernel=2),
    "transposed, asymmetric": deconv(stride=2, padding=[1, 0, 2, 1]),
    "transposed, groups, dilation, flip": deconv(groups=2, dilation=2, flip=True, kernel=[3, 2]),
    "lrn": {"type": "lrn", "size": 3, "alpha": 0.5, "beta": 0.6, "k": 2.0},
    "lrn wider than the channels": {"type": "lrn", "size": 9, "alpha": 0.5},
    "group_norm": {"type": "group_norm", "groups": 2, "epsilon": 0.01},
    "layer_norm": {"type": "layer_norm", "activation": "relu"},
    "batch_norm": {"type": "batch_norm", "epsilon": 0.01, "activation": "hard_swish"},
    "channel_shuffle": {"type": "channel_shuffle", "groups": 2},
    "scale": {"type": "scale", "factor": 0.125, "activation": "relu"},
    "softmax over channels": {"type": "activation", "function": "softmax"},
    "prelu": {"type": "activation", "function": "prelu"},
    "global max pool": {"type": "global_pool", "mode": "max"},
    "gelu by tanh": {"type": "activation", "function": "gelu", "approximate": "tanh"},
    "leaky_relu": {"type": "activation", "function": "leaky_relu", "alpha": 0.3},
    "elu": {"type": "activation", "function": "elu", "alpha": 1.5},
    "dropout": {"type": "dropout"},
    "residual, pad": {
        "type": "residual", "shortcut": "pad", "activation": "relu",
        "layers": {"a": conv(stride=2, padding=1, filters=6), "b": {"type": "batch_norm"}},
    },
    "residual, projection": {
        "type": "residual", "activation": "relu",
        "layers": {"a": conv(stride=2, padding=1, filters=6), "b": {"type": "batch_norm"}},
    },
    "squeeze and excite": {
        "type": "branches", "merge": "multiply",
        "branches": {"x": {}, "gate": {"p": {"type": "global_pool"}, "c": conv(kernel=1, activation="sigmoid")}},
    },
}  # fmt: skip
CORNERS |= {f"ends with {f}": conv(activation=f) for f in Function.__args__ if f != "softmax"}


@pytest.mark.parametrize("case", CORNERS)
def test_a_layer_there_and_back(case, tmp_path):
    model = model_of((9, 7, 2), {**BODY, "layer": CORNERS[case], **HEAD})
    x = pictures(model)
    content = exported(model)
    assert difference(model, content, x) <= TOLERANCE
    (tmp_path / "net.onnx").write_bytes(content)
    again = imported(tmp_path / "net.onnx")
    np.testing.assert_allclose(again.predict(x), model.predict(x), atol=TOLERANCE)


@pytest.mark.parametrize("size", [2, 4])
def test_an_even_lrn_is_written_though_onnx_has_none(size, tmp_path):
    """It cannot come back: there is no layer for a power of what the network computes."""
    model = model_of((5, 4, 2), {**BODY, "layer": {"type": "lrn", "size": size, "alpha": 2.0}, **HEAD})
    content = exported(model)
    assert difference(model, content, pictures(model)) <= TOLERANCE
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot become a layer"):
        imported(tmp_path / "net.onnx")


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(models())
def test_any_model_there_and_back(tmp_path_factory, spec):
    there_and_back(tmp_path_factory.mktemp("onnx"), spec)


@pytest.mark.slow
@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(models())
def test_many_models_there_and_back(tmp_path_factory, spec):
    there_and_back(tmp_path_factory.mktemp("onnx"), spec)


def there_and_back(folder, spec) -> None:
    model = noisy(spec)
    x = pictures(model)
    expected = model.predict(x)
    room = TOLERANCE * max(1.0, float(abs(expected).max()))
    content = exported(model)
    assert difference(model, content, x) <= room
    (folder / "net.onnx").write_bytes(content)
    if any(row.type == "lrn" and row.block.size % 2 == 0 for row in spec.table):
        return
    np.testing.assert_allclose(imported(folder / "net.onnx").predict(x), expected, atol=room)


def net():
    layers = {"conv1": conv(activation="gelu"), "norm": {"type": "group_norm", "groups": 2}, "pool": pool(stride=2)}
    return model_of((9, 8, 3), {**layers, **HEAD})


@pytest.mark.parametrize("opset", range(OLDEST_OPSET, NEWEST_OPSET + 1))
def test_every_opset(opset):
    model = net()
    content = exported(model, opset=opset)
    assert difference(model, content, pictures(model)) <= TOLERANCE
    assert [(s.domain, s.version) for s in onnx.load_model_from_string(content).opset_import] == [("", opset)]


@pytest.mark.parametrize("opset", [OLDEST_OPSET - 1, NEWEST_OPSET + 1])
def test_another_opset_is_refused(opset):
    with pytest.raises(ConfigError) as caught:
        exported(net(), opset=opset)
    assert str(caught.value) == (
        f"opset {opset} is not one that cnnforge writes\n  where: --opset\n"
        "  why:   17 to 22 are tested; LayerNormalization is in none before 17\n"
        "  fix:   --opset 17, which the most runtimes read"
    )


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("head", [HEAD, {}], ids=["fc", "a picture comes out"])
def test_both_layouts_and_any_batch(layout, head, tmp_path):
    model = model_of((6, 5, 3), {"conv1": conv(activation="relu"), **head})
    content = exported(model, layout=layout)
    for n in (1, 2, 7):
        assert difference(model, content, pictures(model, n), layout) <= TOLERANCE
    given = onnx.load_model_from_string(content).graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in given] == (["N", 3, 6, 5] if layout == "nchw" else ["N", 6, 5, 3])
    (tmp_path / "net.onnx").write_bytes(content)
    x = pictures(model)
    np.testing.assert_allclose(imported(tmp_path / "net.onnx").predict(x), model.predict(x), atol=TOLERANCE)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize(("pixels", "channels"), [("uint8", 3), ("uint8", 1), ("float32", 3)])
def test_raw_pixels(layout, pixels, channels, tmp_path):
    """The file normalises as training did; a grey picture of three channels is one channel still."""
    model = net()
    mean, std = (100.0, 120.0, 140.0)[:channels], (50.0, 60.0, 70.0)[:channels]
    model.preprocessing = Preprocessing(Adaptation((9, 8, 3), channels, "refuse"), pixels, mean, std)
    content = exported(model, layout=layout, raw=True)
    raw = np.random.default_rng(0).integers(0, 256, (4, 9, 8, channels)).astype(pixels)
    given = raw if layout == "nhwc" else raw.transpose(0, 3, 1, 2).copy()
    expected = model.predict(model.preprocessing.normalize(raw))
    assert verify.difference(content, given, expected) <= TOLERANCE
    (tmp_path / "net.onnx").write_bytes(content)
    again = imported(tmp_path / "net.onnx").predict(raw.astype(np.float32))
    np.testing.assert_allclose(again, expected, atol=TOLERANCE)


def test_raw_needs_to_know_how():
    with pytest.raises(ConfigError) as caught:
        exported(net(), raw=True)
    assert str(caught.value) == (
        "nothing is known of raw pictures\n  where: --raw\n"
        "  why:   the model carries no preprocessing: it was not trained by a run\n"
        "  fix:   leave --raw out; the file then takes network input"
    )


def test_what_the_file_says_of_itself():
    model = net()
    model.preprocessing, model.classes = Preprocessing.identity((9, 8, 3)), ("a", "b", "c", "d", "é")
    file = onnx.load_model_from_string(exported(model))
    about = {p.key: p.value for p in file.metadata_props}
    assert about["cnnforge.model"] == "net"
    assert json.loads(about["cnnforge.classes"]) == ["a", "b", "c", "d", "é"]
    assert Preprocessing.from_dict(json.loads(about["cnnforge.preprocessing"])) == model.preprocessing
    assert (file.graph.name, file.producer_name) == ("net", "cnnforge")
    assert [v.name for v in (*file.graph.input, *file.graph.output)] == ["input", "output"]
    assert {"conv1.w", "conv1.b", "norm.gamma"} <= {t.name for t in file.graph.initializer}


def test_biases_and_folded_nodes():
    """A convolution has its bias as an input; a batch_norm is one node, which runtimes fold themselves."""
    model = model_of((9, 8, 3), {"conv1": conv(), "norm": {"type": "batch_norm", "activation": "relu"}, **HEAD})
    ops = [n.op_type for n in onnx.load_model_from_string(exported(model)).graph.node]
    assert ops == ["Conv", "BatchNormalization", "Relu", "Transpose", "Flatten", "Gemm", "Softmax"]


def test_the_loss_says_what_the_prediction_is():
    """A net that ends with numbers and is trained by cross entropy predicts probabilities, in the file as well."""
    tree = {"name": "net", "input": [6, 5, 2], "loss": "softmax_cross_entropy",
            "layers": {"output": {"type": "fc", "units": 4}}}  # fmt: skip
    model = noisy(ModelSpec.model_validate(tree))
    x = pictures(model)
    assert difference(model, exported(model), x) <= TOLERANCE
    np.testing.assert_allclose(model.predict(x).sum(axis=1), 1, atol=1e-6)


def test_every_op_of_inference_has_a_rule():
    """What has a gradient can be part of a network: it has a form in ONNX, or is a loss's or training's own, or a lower
    precision's: files are float32.
    """
    from cnnforge.export.onnx_ops import RULES

    training = {"batch_norm", "dropout", "slice_channels", "cast"}
    losses = {op for op in GRADIENTS if "cross_entropy" in op or op == "mse"}
    assert set(GRADIENTS) - training - losses - set(RULES) == set()


def test_an_op_of_a_package_is_refused(monkeypatch):
    """Taking relu away makes an op of it that nobody here knows."""
    from cnnforge.export.onnx_ops import RULES

    monkeypatch.delitem(RULES, "relu")
    model = model_of((5, 4, 2), {"conv1": conv(activation="relu"), **HEAD})
    with pytest.raises(ConfigError) as caught:
        exported(model)
    assert str(caught.value) == (
        "relu has no form in ONNX\n  where: model.layers.conv1\n"
        "  why:   it is the op of an installed package, and this version writes cnnforge's own alone\n"
        "  fix:   --to safetensors"
    )


def test_a_package_that_is_missing_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(BackendError) as caught:
        to_onnx(Source(net().spec, {}))
    assert str(caught.value) == (
        "ONNX files need the package onnx\n  where: cnnforge.export.onnx\n  why:   it is not installed here\n"
        "  fix:   pip install 'cnnforge[onnx]'"
    )
