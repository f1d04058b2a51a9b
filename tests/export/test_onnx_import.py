"""ONNX files that others wrote, as they write them: what becomes of them, and what is refused and how."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from cnnforge.errors import BackendError, CheckpointError
from cnnforge.export import verify
from cnnforge.export.onnx_import import from_onnx
from tests.export.onnx_files import exported, file_of, imported, model_of

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

node = helper.make_node
RNG = np.random.default_rng(0)


def noise(*shape) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32) * 0.5


def ints(*values) -> np.ndarray:
    return np.array(values, np.int64)


def constant(name: str, value) -> object:
    return node("Constant", [], [name], name=f"/{name}", value=numpy_helper.from_array(np.asarray(value)))


def agree(file, channels_last: bool = False, n: int = 3):
    """onnxruntime's output for the file is what the imported model predicts. Returns the model."""
    model = imported(file)
    x = np.random.default_rng(1).standard_normal((n, *model.spec.input), dtype=np.float32)
    theirs = verify.run(file.read_bytes(), x if channels_last else x.transpose(0, 3, 1, 2).copy())
    ours = model.predict(x)
    if theirs.ndim == 4 and not channels_last:
        ours = ours.transpose(0, 3, 1, 2)
    np.testing.assert_allclose(ours.reshape(theirs.shape), theirs, atol=1e-5)
    return model


def blocks(model) -> dict[str, str]:
    return {row.name: row.type for row in model.spec.table}


def test_a_residual_net_as_pytorch_exports_it(tmp_path):
    """Names like paths, constants as nodes, a shape computed to flatten by, weights turned round."""
    bn = [f"bn1.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
    nodes = [
        node("Conv", ["x", "conv1.weight"], ["/conv1/Conv_output_0"], name="/conv1/Conv", kernel_shape=[3, 3],
             strides=[2, 2], pads=[1, 1, 1, 1], dilations=[1, 1], group=1),
        node("BatchNormalization", ["/conv1/Conv_output_0", *bn], ["n"], name="/bn1/BatchNormalization", epsilon=1e-3),
        node("Relu", ["n"], ["r"], name="/relu/Relu"),
        node("MaxPool", ["r"], ["p"], name="/maxpool/MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
        node("Conv", ["p", "onnx::Conv_21", "onnx::Conv_22"], ["c"], name="/layer1/layer1.0/conv1/Conv",
             kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["cr"], name="/layer1/layer1.0/relu/Relu"),
        node("Conv", ["cr", "onnx::Conv_24", "onnx::Conv_25"], ["d"], name="/layer1/layer1.0/conv2/Conv",
             kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Add", ["d", "p"], ["s"], name="/layer1/layer1.0/Add"),
        node("Relu", ["s"], ["sr"], name="/layer1/layer1.0/relu_1/Relu"),
        node("Shape", ["sr"], ["shape"], name="/Shape"),
        constant("zero", ints(0)[0]),
        node("Gather", ["shape", "zero"], ["n0"], name="/Gather", axis=0),
        constant("axis", ints(0)),
        node("Unsqueeze", ["n0", "axis"], ["n1"], name="/Unsqueeze"),
        constant("rest", ints(-1)),
        node("Concat", ["n1", "rest"], ["target"], name="/Concat", axis=0),
        node("Reshape", ["sr", "target"], ["flat"], name="/Reshape"),
        node("Gemm", ["flat", "fc.weight", "fc.bias"], ["y"], name="/fc/Gemm", transB=1),
    ]  # fmt: skip
    weights = {
        "conv1.weight": noise(4, 3, 3, 3), "bn1.weight": noise(4), "bn1.bias": noise(4), "bn1.running_mean": noise(4),
        "bn1.running_var": noise(4) ** 2 + 0.5, "onnx::Conv_21": noise(4, 4, 3, 3), "onnx::Conv_22": noise(4),
        "onnx::Conv_24": noise(4, 4, 3, 3), "onnx::Conv_25": noise(4), "fc.weight": noise(5, 4 * 3 * 4),
        "fc.bias": noise(5),
    }  # fmt: skip
    file = file_of(nodes, weights, ["batch", 3, 13, 15], tmp_path / "net.onnx")
    model = agree(file)
    assert blocks(model) == {
        "conv1": "conv", "bn1": "batch_norm", "maxpool": "pool", "layer1_0_conv1": "conv", "layer1_0_conv2": "conv",
        "layer1_0": "merge", "flatten": "flatten", "fc": "fc",
    }  # fmt: skip
    assert from_onnx(file).layers["layer1_0"] == {
        "type": "merge", "mode": "add", "inputs": ["layer1_0_conv2", "maxpool"], "activation": "relu"
    }  # fmt: skip
    assert from_onnx(file).layers["bn1"] == {"type": "batch_norm", "epsilon": 0.001, "activation": "relu"}


def test_a_net_with_channels_last_as_tensorflow_exports_it(tmp_path):
    """One Transpose at the start; biases added behind, padding by a Pad, a mean over height and width, a MatMul."""
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        node("Pad", ["t", "pads"], ["padded"]),
        node("Conv", ["padded", "conv/kernel"], ["c"], name="conv/Conv2D", strides=[2, 2], auto_pad="VALID"),
        node("Add", ["c", "bias"], ["cb"], name="conv/BiasAdd"),
        node("Clip", ["cb", "low", "high"], ["r"]),
        node("Transpose", ["r"], ["back"], perm=[0, 2, 3, 1]),
        node("ReduceMean", ["back"], ["m"], axes=[1, 2], keepdims=0),
        node("MatMul", ["m", "dense/kernel"], ["d"], name="dense/MatMul"),
        node("Add", ["d", "dense/bias"], ["db"], name="dense/BiasAdd"),
        node("Softmax", ["db"], ["y"]),
    ]
    weights = {
        "pads": ints(0, 0, 0, 1, 0, 0, 1, 0), "conv/kernel": noise(6, 3, 3, 3), "bias": noise(1, 6, 1, 1),
        "low": np.float32(0), "high": np.float32(6), "dense/kernel": noise(6, 4), "dense/bias": noise(4),
    }  # fmt: skip
    file = file_of(nodes, weights, ["N", 8, 8, 3], tmp_path / "net.onnx")
    model = agree(file, channels_last=True)
    assert dict(from_onnx(file).layers) == {
        "conv": {
            "type": "conv",
            "filters": 6,
            "kernel": 3,
            "stride": 2,
            "padding": [0, 1, 1, 0],
            "activation": "relu6",
        },
        "pool1": {"type": "global_pool"},
        "dense": {"type": "fc", "units": 4, "activation": "softmax"},
    }
    assert model.spec.output == (4,)


X = ["N", 4, 6, 5]
#: Nodes from x to y on a picture of four channels, the constants they read, and the layers that come of them.
PATTERNS = {
    "silu": ([node("Sigmoid", ["x"], ["s"]), node("Mul", ["s", "x"], ["y"])], {}, ["activation silu"]),
    "gelu through Erf": (
        [node("Div", ["x", "root"], ["d"]), node("Erf", ["d"], ["e"]), node("Add", ["e", "one"], ["a"]),
         node("Mul", ["x", "a"], ["m"]), node("Mul", ["m", "half"], ["y"])],
        {"root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)}, ["activation gelu"],
    ),
    "hard_swish in four": (
        [node("Add", ["x", "three"], ["a"]), node("Clip", ["a", "zero", "six"], ["c"]),
         node("Div", ["c", "six"], ["d"]), node("Mul", ["x", "d"], ["y"])],
        {"zero": np.float32(0), "three": np.float32(3), "six": np.float32(6)}, ["activation hard_swish"],
    ),
    "mish, which there is not": (
        [node("Softplus", ["x"], ["s"]), node("Tanh", ["s"], ["t"]), node("Mul", ["x", "t"], ["y"])], {},
        ["activation softplus", "activation tanh", "merge multiply"],
    ),
    "hard_sigmoid of another slope": (
        [node("HardSigmoid", ["x"], ["y"], alpha=0.2, beta=0.5)], {}, ["scale 1.2 hard_sigmoid"],
    ),
    "half of a relu": (
        [node("Relu", ["x"], ["r"]), node("Mul", ["r", "half"], ["y"])], {"half": np.float32(0.5)},
        ["activation relu", "scale 0.5"],
    ),
    "a prelu of one slope": ([node("PRelu", ["x", "a"], ["y"])], {"a": np.float32([0.3])}, ["activation leaky_relu"]),
    "a scale and a shift of each channel": (
        [node("Mul", ["x", "f"], ["m"]), node("Sub", ["m", "s"], ["y"])],
        {"f": noise(4, 1, 1), "s": noise(1, 4, 1, 1)}, ["conv depthwise"],
    ),
    "a difference": (
        [node("Relu", ["x"], ["r"]), node("Sub", ["x", "r"], ["d"]), node("Conv", ["d", "w"], ["y"])],
        {"w": noise(2, 4, 1, 1)}, ["activation relu", "scale -1.0", "merge add", "conv"],
    ),
    "squeeze and excite by linear layers": (
        [node("GlobalAveragePool", ["x"], ["g"]), node("Flatten", ["g"], ["f"]),
         node("Gemm", ["f", "w1", "b1"], ["h"]), node("Relu", ["h"], ["r"]), node("MatMul", ["r", "w2"], ["o"]),
         node("Sigmoid", ["o"], ["s"]), node("Reshape", ["s", "shape"], ["gate"]), node("Mul", ["x", "gate"], ["y"])],
        {"w1": noise(4, 2), "b1": noise(2), "w2": noise(2, 4), "shape": ints(-1, 4, 1, 1)},
        ["global_pool", "conv relu", "conv sigmoid", "merge multiply"],
    ),
    "shuffled channels": (
        [node("Reshape", ["x", "a"], ["r"]), node("Transpose", ["r"], ["t"], perm=[0, 2, 1, 3, 4]),
         node("Reshape", ["t", "b"], ["y"])],
        {"a": ints(0, 2, 2, 6, 5), "b": ints(0, 4, 6, 5)}, ["channel_shuffle"],
    ),
    "group norm as PyTorch writes it": (
        [node("Reshape", ["x", "g"], ["r"]), node("InstanceNormalization", ["r", "ones", "zeros"], ["i"], epsilon=1e-5),
         node("Reshape", ["i", "s"], ["c"]), node("Mul", ["c", "gamma"], ["m"]), node("Add", ["m", "beta"], ["y"])],
        {"g": ints(0, 2, -1), "ones": np.ones(2, np.float32), "zeros": np.zeros(2, np.float32), "s": ints(0, 4, 6, 5),
         "gamma": noise(4, 1, 1), "beta": noise(4, 1, 1)}, ["group_norm"],
    ),
    "instance norm": (
        [node("InstanceNormalization", ["x", "s", "b"], ["y"], epsilon=1e-3)], {"s": noise(4), "b": noise(4)},
        ["group_norm"],
    ),
    "a linear layer on channels last": (
        [node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]), node("LayerNormalization", ["t", "s", "b"], ["n"]),
         node("MatMul", ["n", "w"], ["m"]), node("Add", ["m", "c"], ["a"]),
         node("Transpose", ["a"], ["y"], perm=[0, 3, 1, 2])],
        {"s": noise(4), "b": noise(4), "w": noise(4, 3), "c": noise(3)}, ["layer_norm", "conv"],
    ),
    "a norm of a vector that was a picture": (
        [node("Flatten", ["x"], ["f"]), node("BatchNormalization", ["f", "s", "b", "m", "v"], ["n"]),
         node("Gemm", ["n", "w"], ["y"])],
        {"s": noise(120), "b": noise(120), "m": noise(120), "v": noise(120) ** 2 + 1, "w": noise(120, 3)},
        ["flatten", "batch_norm", "fc"],
    ),
    "zeros around a max pool behind a relu": (
        [node("Relu", ["x"], ["r"]), node("Pad", ["r", "p"], ["q"]),
         node("MaxPool", ["q"], ["y"], kernel_shape=[3, 3], strides=[2, 2])],
        {"p": ints(0, 0, 1, 1, 0, 0, 1, 1)}, ["activation relu", "pool"],
    ),
    "an average pool that counts a Pad": (
        [node("Pad", ["x", "p"], ["q"]), node("AveragePool", ["q"], ["y"], kernel_shape=[2, 2], strides=[2, 2])],
        {"p": ints(0, 0, 1, 0, 0, 0, 1, 1)}, ["pool average"],
    ),
    "same padding at the start": (
        [node("Conv", ["x", "w"], ["y"], auto_pad="SAME_LOWER", strides=[2, 2])], {"w": noise(3, 4, 2, 4)}, ["conv"],
    ),
    "a transposed convolution of a stated size": (
        [node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2], output_shape=[12, 11])],
        {"w": noise(4, 3, 3, 3)}, ["conv_transpose"],
    ),
    "every other position, more channels": (
        [node("Slice", ["x", "from", "to", "axes", "steps"], ["s"]), node("Pad", ["s", "p"], ["y"])],
        {"from": ints(0, 0), "to": ints(99, 99), "axes": ints(2, 3), "steps": ints(2, 2),
         "p": ints(0, 0, 0, 0, 0, 3, 0, 0)}, ["shortcut_pad"],
    ),
    "dropout, cast, identity": (
        [node("Dropout", ["x", "rate"], ["d"]), node("Identity", ["d"], ["i"]), node("Cast", ["i"], ["c"], to=1),
         node("Relu", ["c"], ["y"])],
        {"rate": np.float32(0.25)}, ["dropout", "activation relu"],
    ),
    "weights computed from weights": (
        [node("Transpose", ["k"], ["t"], perm=[3, 2, 0, 1]), node("Mul", ["t", "f"], ["w"]),
         node("Conv", ["x", "w"], ["y"])],
        {"k": noise(3, 3, 4, 2), "f": noise(2, 1, 1, 1)}, ["conv"],
    ),
    "a sum of three": (
        [node("Relu", ["x"], ["a"]), node("Tanh", ["x"], ["b"]), node("Sum", ["a", "b", "x"], ["y"])], {},
        ["activation relu", "activation tanh", "merge add"],
    ),
}  # fmt: skip


def outlined(layers) -> list[str]:
    keys = ("function", "mode", "factor", "groups")
    shown = []
    for fields in layers.values():
        found = next((fields[key] for key in keys if isinstance(fields.get(key), str | float)), "")
        shown.append(" ".join(str(v) for v in (fields["type"], found, fields.get("activation", "")) if v != ""))
    return shown


@pytest.mark.parametrize("case", PATTERNS)
def test_a_pattern(case, tmp_path):
    nodes, weights, layers = PATTERNS[case]
    file = file_of(nodes, weights, X, tmp_path / "net.onnx")
    agree(file)
    assert outlined(from_onnx(file).layers) == layers


def test_old_opsets_say_it_in_attributes(tmp_path):
    nodes = [
        node("Pad", ["x"], ["p"], pads=[0, 0, 1, 1, 0, 0, 1, 1]),
        node("Conv", ["p", "w"], ["c"]),
        node("Clip", ["c"], ["r"], min=0.0, max=6.0),
        node("Dropout", ["r"], ["d"], ratio=0.3),
        node("ReduceMean", ["d"], ["m"], axes=[2, 3]),
        node("Squeeze", ["m"], ["s"], axes=[2, 3]),
        node("Softmax", ["s"], ["y"]),
    ]
    file = file_of(nodes, {"w": noise(3, 4, 3, 3)}, X, tmp_path / "net.onnx", opset=9)
    agree(file)
    assert from_onnx(file).layers["dropout1"] == {"type": "dropout", "rate": 0.3}


def test_a_file_for_one_picture_at_a_time(tmp_path):
    nodes = [node("Reshape", ["x", "s"], ["f"]), node("Gemm", ["f", "w"], ["y"])]
    file = file_of(nodes, {"s": ints(1, -1), "w": noise(120, 3)}, [1, 4, 6, 5], tmp_path / "net.onnx")
    agree(file, n=1)
    assert from_onnx(file).batch == 1


def test_open_sizes_and_several_outputs(tmp_path):
    nodes = [node("Conv", ["x", "w"], ["y"]), node("Relu", ["y"], ["z"])]
    file = file_of(nodes, {"w": noise(3, 4, 3, 3)}, ["N", 4, "H", "W"], tmp_path / "net.onnx", outputs=("y", "z"))
    with pytest.raises(CheckpointError, match="it has 2 outputs: y, z"):
        from_onnx(file)
    with pytest.raises(CheckpointError) as caught:
        from_onnx(file, output="z")
    assert str(caught.value) == (
        f"net.onnx leaves the size of its pictures open\n  where: {file} (x)\n"
        "  why:   every shape here is known beforehand\n  fix:   --size HEIGHT WIDTH"
    )
    found = from_onnx(file, size=(7, 9), output="z")
    assert (found.input, outlined(found.layers)) == ((7, 9, 4), ["conv relu"])


REFUSED = {
    "an unknown op": (
        [node("Resize", ["x", "", "s"], ["r"], name="up"), node("Einsum", ["r"], ["y"], equation="nchw->nhwc")],
        {"s": np.float32([1, 1, 2, 2])},
        "up (Resize) cannot become a layer", "there is no layer for a Resize node; nor of Einsum",
        "export the part of the network before it with --output, or replace it in what it was exported from",
    ),
    "weights that are computed": (
        [node("Conv", ["x", "x"], ["y"], name="c")], {}, "c (Conv) cannot become a layer",
        "its W is computed from the input", "weights that the file holds",
    ),
    "training mode": (
        [node("BatchNormalization", ["x", *"abcd"], ["y", "m", "v"], name="bn", training_mode=1)],
        {key: np.ones(4, np.float32) for key in "abcd"}, "bn (BatchNormalization) cannot become a layer",
        "it is in training mode", "export in evaluation mode: model.eval()",
    ),
    "a part cut out": (
        [node("Slice", ["x", "a", "b", "c"], ["y"], name="cut")], {"a": ints(1), "b": ints(3), "c": ints(2)},
        "cut (Slice) cannot become a layer", "it cuts a part out",
        "whole pictures, whole channels; every n-th row and column at most",
    ),
    "zeros before a max pool": (
        [node("Pad", ["x", "p"], ["q"]), node("MaxPool", ["q"], ["y"], name="mp", kernel_shape=[2, 2])],
        {"p": ints(0, 0, 1, 1, 0, 0, 1, 1)}, "mp (MaxPool) cannot become a layer",
        "the Pad before it puts 0 around values that may be smaller", "padding of the pool's own",
    ),
    "samples in one": (
        [node("Reshape", ["x", "s"], ["y"], name="rs")], {"s": ints(1, -1)}, "rs (Reshape) cannot become a layer",
        "it takes samples apart: [1000003, 4, 6, 5] becomes [1, 120000360]", "a Reshape that keeps axis 0",
    ),
    "a function that there is not": (
        [node("Exp", ["x"], ["y"], name="e")], {}, "e (Exp) cannot become a layer",
        "Exp is, with what is around it, no activation function that cnnforge has",
        "one of relu, relu6, leaky_relu, elu, selu, gelu, silu, hard_swish, softplus, sigmoid, hard_sigmoid, tanh, "
        "softmax, prelu, or a sum or product of layers",
    ),
    "a picture in another order at the end": (
        [node("Flatten", ["x"], ["y"], name="f")], {}, "y (output) cannot become a layer",
        "it ends with axes in another order than here", "an output before the last Reshape",
    ),
    "a dilated pool": (
        [node("MaxPool", ["x"], ["y"], name="mp", kernel_shape=[2, 2], dilations=[2, 2])], {},
        "mp (MaxPool) cannot become a layer", "its window is dilated", "dilations of 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case, tmp_path):
    nodes, weights, what, why, fix = REFUSED[case]
    file = file_of(nodes, weights, X, tmp_path / "net.onnx")
    with pytest.raises(CheckpointError) as caught:
        imported(file)
    assert str(caught.value) == f"{what}\n  where: {file}\n  why:   {why}\n  fix:   {fix}"


def test_a_loop_is_refused(tmp_path):
    body = helper.make_graph([node("Identity", ["x"], ["b"])], "b", [], [helper.make_tensor_value_info("b", 1, [])])
    nodes = [node("If", ["c"], ["y"], name="maybe", then_branch=body, else_branch=body)]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, X)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])],
        [numpy_helper.from_array(np.array(True), "c")],
    )  # fmt: skip
    file = tmp_path / "net.onnx"
    file.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    with pytest.raises(CheckpointError, match=r"net\.onnx cannot become a network: maybe is a If"):
        from_onnx(file)


def test_files_that_are_none(tmp_path):
    missing, empty, broken = tmp_path / "no.onnx", tmp_path / "empty.onnx", tmp_path / "broken.onnx"
    empty.write_bytes(b"")
    broken.write_bytes(exported(model_of((4, 4, 1), {"output": {"type": "fc", "units": 2}}))[:-40])
    with pytest.raises(CheckpointError, match="No such file"):
        from_onnx(missing)
    for file in (empty, broken):
        with pytest.raises(CheckpointError) as caught:
            from_onnx(file)
        assert caught.value.what == f"{file.name} is not a whole ONNX file"
        assert caught.value.fix == "the file as its exporter wrote it"


def test_a_file_that_is_too_large(tmp_path):
    file = tmp_path / "large.onnx"
    with file.open("wb") as sparse:
        sparse.truncate(3 << 30)
    with pytest.raises(CheckpointError) as caught:
        from_onnx(file)
    assert str(caught.value) == (
        f"large.onnx is too large\n  where: {file}\n"
        "  why:   3.0 GiB; an ONNX file in one piece has at most 2\n"
        "  fix:   a smaller network, or weights of float16"
    )


def test_weights_elsewhere_are_not_followed(tmp_path):
    file = file_of([node("Conv", ["x", "w"], ["y"])], {"w": noise(3, 4, 3, 3)}, X, tmp_path / "net.onnx")
    onnx.save_model(onnx.load(file), file, save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(CheckpointError) as caught:
        from_onnx(file)
    assert caught.value.what == "net.onnx keeps its weights in other files"
    assert caught.value.why == "w and 0 more are external data, which is not followed"


@pytest.mark.parametrize("op", ["Expand", "ConstantOfShape", "Range"])
def test_a_small_file_cannot_ask_for_much_memory(op, tmp_path):
    shape = ints(1 << 20, 1 << 20)
    nodes = {
        "Expand": [node("Expand", ["one", "shape"], ["w"])],
        "ConstantOfShape": [node("ConstantOfShape", ["shape"], ["w"])],
        "Range": [node("Range", ["zero", "much", "step"], ["w"])],
    }[op]
    weights = {"one": np.ones(1, np.float32), "shape": shape, "zero": ints(0)[0], "much": ints(1 << 60)[0],
               "step": ints(1)[0]}  # fmt: skip
    file = file_of([*nodes, node("Add", ["x", "w"], ["y"])], weights, X, tmp_path / "net.onnx")
    with pytest.raises(CheckpointError, match="cannot become a layer") as caught:
        from_onnx(file)
    assert caught.value.why == "it makes a constant of more than a gigabyte"


def test_many_nodes_in_a_row_are_no_recursion(tmp_path):
    names = ["x", *(f"v{i}" for i in range(3000)), "y"]
    nodes = [node("Exp", [a], [b]) for a, b in itertools.pairwise(names)]
    with pytest.raises(CheckpointError, match="element-wise nodes follow each other"):
        from_onnx(file_of(nodes, {}, X, tmp_path / "net.onnx"))


def test_damaged_files_end_in_errors_of_ours(tmp_path):
    """Bytes changed at random: a network all the same, or a refusal; never another exception."""
    layers = {"conv1": {"type": "conv", "filters": 4, "kernel": 3, "padding": 1, "activation": "gelu"},
              "norm": {"type": "group_norm", "groups": 2}, "pool": {"type": "pool", "kernel": 2},
              "output": {"type": "fc", "units": 3, "activation": "softmax"}}  # fmt: skip
    content = exported(model_of((6, 6, 2), layers))
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        for at in rng.integers(0, len(content), 4):
            damaged[at] = rng.integers(0, 256)
        (tmp_path / "net.onnx").write_bytes(damaged)
        try:
            from_onnx(tmp_path / "net.onnx")
        except CheckpointError:
            refused += 1
    assert 0 < refused < 300


def test_what_a_file_says_of_itself_may_be_anything(tmp_path):
    nodes = [node("Relu", ["x"], ["y"])]
    for said in ("[", "7", "{}"):
        file = file_of(nodes, {}, X, tmp_path / "net.onnx", about={"cnnforge.classes": said})
        with pytest.raises(CheckpointError) as caught:
            imported(file)
        assert str(caught.value) == (
            "what the file says under cnnforge.classes is damaged\n  where: metadata_props, cnnforge.classes\n"
            "  why:   it is no JSON list\n  fix:   export the run anew"
        )


def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(BackendError, match="ONNX files need the package onnx"):
        from_onnx(tmp_path / "net.onnx")
