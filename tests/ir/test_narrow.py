"""Where a graph's numbers are cast, and what stays as it is."""

from __future__ import annotations

from typing import get_args

import pytest

from cnnforge.ir.graph import DTYPE_BYTES, Graph
from cnnforge.ir.narrow import narrowed
from cnnforge.ir.precision import PRECISIONS
from cnnforge.ir.verify import verify
from cnnforge.lower import eval_graph, train_graph
from cnnforge.optim import OPTIMIZERS
from cnnforge.spec import ModelSpec, TrainerSpec
from tests.conformance.halves import CASTS, FLOAT32, WIDE

HALVES = ("bfloat16", "float16")
LAYERS = {
    "conv": {"type": "conv", "filters": 4, "kernel": 3, "padding": "same"},
    "norm": {"type": "batch_norm", "activation": "relu"},
    "up": {"type": "conv_transpose", "filters": 4, "kernel": 2, "stride": 2},
    "bend": {"type": "activation", "function": "prelu"},
    "group": {"type": "group_norm", "groups": 2},
    "lrn": {"type": "lrn"},
    "drop": {"type": "dropout"},
    "pool": {"type": "pool", "kernel": 2},
    "fc": {"type": "fc", "units": 6, "activation": "relu"},
    "ln": {"type": "layer_norm"},
    "out": {"type": "fc", "units": 3, "activation": "softmax"},
}
SGD = OPTIMIZERS["sgd"](type="sgd", momentum=0.9)


def spec(layers=LAYERS, **more) -> ModelSpec:
    return ModelSpec.model_validate({"name": "t", "input": [6, 6, 2], "layers": layers} | more)


def training(precision: str, model: ModelSpec | None = None, **more) -> Graph:
    return train_graph(model or spec(), 3, precision, 0, SGD, **more)


def test_every_precision_of_the_yaml_is_in_the_table():
    assert set(PRECISIONS) == set(get_args(TrainerSpec.model_fields["precision"].annotation))
    for name, numbers in PRECISIONS.items():
        assert {numbers.activations, numbers.weights} <= DTYPE_BYTES.keys()
        assert numbers.mixed == (name in HALVES)
        assert numbers.scaled == (name == "float16"), "bfloat16 has float32's range"
        assert bool(numbers.about) == bool(numbers.backend) == (name not in ("float32", "float64"))


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_full_precision_casts_nothing(precision):
    for g in (training(precision), eval_graph(spec(), 3, precision)):
        assert not {"cast", "scale_loss", "guard"} & {n.op for n in g.nodes}
        assert not any("tf32" in n.attrs for n in g.nodes)
        assert {v.dtype for n in g.nodes for v in n.outs} <= {precision, "uint8", "bool", "float64"}


def test_tf32_marks_products_and_nothing_else():
    plain, marked = training("float32"), training("tf32")
    assert [n.op for n in plain.nodes] == [n.op for n in marked.nodes]
    for a, b in zip(plain.nodes, marked.nodes, strict=True):
        product = a.op in ("conv2d", "conv2d_dx", "conv2d_dw", "matmul", "matmul_dx", "matmul_dw")
        assert dict(b.attrs) == dict(a.attrs) | ({"tf32": True} if product else {})
        assert [v.dtype for v in a.outs] == [v.dtype for v in b.outs]
    assert {n.op for n in marked.nodes if "tf32" in n.attrs} == {
        "conv2d", "conv2d_dx", "conv2d_dw", "matmul", "matmul_dx", "matmul_dw",
    }  # fmt: skip


@pytest.mark.parametrize("half", HALVES)
def test_activations_and_their_gradients_are_half(half):
    g = training(half)
    for n in g.nodes:
        if n.phase in ("forward", "backward") and n.op not in ("cast", "scale_loss") and not n.op.endswith("_dz"):
            of_batch = [v for v in (*n.ins, *n.outs) if v.batched and v.dtype not in ("bool", "uint8")]
            # what norms measured of each sample
            assert {v.dtype for v in of_batch if not v.name.endswith((".mean", ".inverse", ".base"))} == {half}, n.op


@pytest.mark.parametrize("half", HALVES)
def test_all_else_is_float32(half):
    g = training(half)
    kept = [*(p.value for p in g.params.values()), *(v for v, _ in g.state.values()), *g.grads.values(), *g.flat]
    assert {v.dtype for v in (*kept, *g.outputs.values(), g.inputs["x"])} == {"float32"}
    norms = ("batch_norm", "group_norm", "layer_norm", "lrn")
    measured = [v for n in g.nodes if n.op in norms and n.phase == "forward" for v in n.outs[1:]]
    assert len(measured) == 3 + 2 + 2 + 1
    assert {v.dtype for v in measured} == {"float32"}
    for n in g.nodes:
        if n.phase in ("output", "loss", "update"):
            assert half not in {v.dtype for v in (*n.ins, *n.outs)}, n.op
    for op, at in (("bias", 1), ("prelu", 1), ("batch_norm", 1), ("group_norm", 2), ("layer_norm", 1)):
        assert next(n for n in g.nodes if n.op == op).ins[at].dtype == "float32"


@pytest.mark.parametrize("half", HALVES)
def test_nodes_have_the_dtypes_that_kernels_are_tried_with(half):
    """Those of tests/conformance/halves.py."""
    for g in (training(half, ranks=2, sync_norms=True), eval_graph(spec(), 3, half), training(half)):
        for n in g.nodes:
            if n.op in CASTS:
                assert {n.ins[0].dtype, n.out.dtype} == {half, "float32"}
                continue
            for number, (values, wide) in enumerate(zip((n.ins, n.outs), WIDE.get(n.op, ((), ())), strict=True)):
                for at, v in enumerate(values):
                    if v.dtype in (half, "float32"):
                        stays = n.op in FLOAT32 or n.phase == "output" or at in wide or n.op == "fold_batch_norm"
                        of_batch = n.op == "gather_ranks" and number == at == 0  # whose rows alone are counted
                        assert v.dtype == ("float32" if stays and not of_batch else half), f"{n.op}: {v}"


def casts(g: Graph) -> list[tuple[str, str, str, str]]:
    return [(n.phase, n.ins[0].name, n.ins[0].dtype, n.out.dtype) for n in g.nodes if n.op == "cast"]


def test_the_casts_of_a_small_net():
    layers = {"conv": {"type": "conv", "filters": 2, "kernel": 3}, "out": LAYERS["out"]}
    half, full = "bfloat16", "float32"
    logits = "out.bias.bfloat16"
    assert casts(training(half, spec(layers))) == [
        ("forward", "x", full, half), ("forward", "conv.w", full, half), ("forward", "out.w", full, half),
        ("forward", logits, half, full),
        ("backward", "d(out.bias)", full, half),
        ("backward", "d(out.w.bfloat16)", half, full), ("backward", "d(conv.w.bfloat16)", half, full),
    ]  # fmt: skip
    assert casts(eval_graph(spec(layers), 3, half)) == [
        ("forward", "x", full, half), ("forward", "conv.w", full, half), ("forward", "out.w", full, half),
        ("forward", logits, half, full),
    ]  # fmt: skip


def test_frozen_weights_are_cast_one_way():
    g = training("bfloat16", spec(LAYERS | {"conv": LAYERS["conv"] | {"trainable": False}}))
    names = [name for _, name, _, _ in casts(g)]
    assert "conv.w" in names
    assert "d(conv.w.bfloat16)" not in names


def test_what_several_nodes_read_is_cast_once():
    branch = {"c": {"type": "conv", "filters": 2, "kernel": 1}}
    layers = {
        "b": {"type": "branches", "merge": "concat", "branches": {"one": branch, "two": branch}},
        "out": LAYERS["out"],
    }
    names = [name for _, name, _, _ in casts(training("float16", spec(layers)))]
    assert names.count("x") == 1
    assert len(names) == len(set(names))


def test_a_model_that_ends_without_the_losss_function():
    g = training("float16", spec({"out": {"type": "fc", "units": 3, "activation": "tanh"}}))
    loss = next(n for n in g.nodes if n.op == "mse")
    assert g.outputs["output"] is g.outputs["prediction"] is loss.ins[0]
    assert loss.ins[0].dtype == "float32"


def test_norms_are_folded_in_float32_and_then_cast():
    g = eval_graph(spec({"conv": LAYERS["conv"], "norm": LAYERS["norm"], "out": LAYERS["out"]}), 3, "float16")
    fold = next(n for n in g.nodes if n.op == "fold_batch_norm")
    assert {v.dtype for v in (*fold.ins, *fold.outs)} == {"float32"}
    cast = next(n for n in g.nodes if n.op == "cast" and n.ins[0] is fold.outs[0])
    conv = next(n for n in g.nodes if n.op == "conv2d")
    assert conv.ins[1] is cast.out
    assert next(n for n in g.nodes if n.op == "bias").ins[1] is fold.outs[1]


def test_each_layer_is_given_out_in_float32():
    g = eval_graph(spec(), 3, "bfloat16", each_layer=True)
    given = [v for role, v in g.outputs.items() if role.startswith("layer/")]
    assert len(given) == len(spec().table)
    assert {v.dtype for v in given} == {"float32"}


def test_processes_gather_statistics_in_float32():
    g = training("bfloat16", ranks=2, sync_norms=True)
    assert {n.out.dtype for n in g.nodes if n.op == "gather_ranks"} == {"float32"}


def ops(g: Graph, phase: str) -> list[str]:
    return [n.op for n in g.nodes if n.phase == phase]


def test_only_float16_scales_the_loss_before_anything_is_half():
    g = training("float16")
    assert ops(g, "backward")[:3] == ["softmax_cross_entropy_dz", "scale_loss", "cast"]
    (scale,) = (n for n in g.nodes if n.op == "scale_loss")
    assert scale.ins[1] is g.on_device()
    assert {scale.ins[0].dtype, scale.out.dtype} == {"float32"}
    assert "scale_loss" not in ops(training("bfloat16"), "backward")


def test_gradients_are_looked_at_before_anything_is_updated():
    clipped = OPTIMIZERS["sgd"].model_validate({"type": "sgd", "clip": {"norm": 1.0}})
    g = train_graph(spec(), 3, "float16", 0, clipped, gather=True, average=True)
    assert ops(g, "update") == ["take", "guard", "batch_norm_running", "clip_norm", "sgd", "average"]
    guard = next(n for n in g.nodes if n.op == "guard")
    grads, device = guard.ins
    assert guard.outs == guard.ins
    assert device is g.on_device()
    assert g.flat[grads].names == tuple(name for name in g.laid_out() if name in g.grads)
    for n in g.nodes:
        if n.op in ("sgd", "average", "batch_norm_running"):
            assert n.ins[-1] is device
    assert not any(g.on_device() in n.ins for n in training("bfloat16").nodes)


def test_gradients_that_no_update_follows_are_not_scaled():
    g = train_graph(spec(), 3, "float16", 0)
    assert not {"scale_loss", "guard"} & {n.op for n in g.nodes}


def test_nothing_that_learns_is_nothing_to_guard():
    still = spec({"pool": {"type": "pool", "kernel": 2}, "out": LAYERS["out"] | {"trainable": False}})
    g = training("float16", still)
    assert not {"scale_loss", "guard"} & {n.op for n in g.nodes}


def test_verify_finds_a_product_of_two_dtypes_and_a_gradient_of_another():
    g = Graph(2, "bfloat16", training=True)
    x, w = g.input("x", (3,)), g.param("w", (3, 4), None, True, (3, 4))
    g.outputs["output"] = g.emit("matmul", x, w, out=(4,))
    with pytest.raises(AssertionError, match=r"matmul at .* multiplies float32"):
        verify(g)
    narrowed(g)
    verify(g)
    g.grads[".w"] = g.value("dw", (3, 4), "grad", "bfloat16")
    with pytest.raises(AssertionError, match=r"gradient of \.w is bfloat16"):
        verify(g)
    del g.grads[".w"]
    g.outputs["output"] = next(n.out for n in g.nodes if n.op == "matmul")
    with pytest.raises(AssertionError, match="output output is bfloat16"):
        verify(g)
