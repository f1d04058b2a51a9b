"""From layers to nodes: phases, what training and inference have in common, and what they do not."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings

from cnnforge.losses import LOSSES
from cnnforge.lower import eval_graph, step_graph, train_graph
from cnnforge.optim.adam import Adam
from cnnforge.optim.sgd import Sgd
from cnnforge.spec import ModelSpec, RunSpec
from tests.building import build
from tests.strategies import models


def spec(loss=None, size=(6, 6, 2), **layers) -> ModelSpec:
    return ModelSpec.model_validate({"name": "m", "input": list(size), "layers": layers, "loss": loss})


CONV = {"type": "conv", "filters": 3, "kernel": 3, "activation": "relu"}
FC = {"type": "fc", "units": 3, "activation": "softmax"}
FROZEN = {"trainable": False}


def ops(graph, phase=None):
    return [n.op for n in graph.nodes if phase in (None, n.phase)]


def test_the_nodes_of_a_small_model():
    g = train_graph(spec(a=CONV, b=FC), 4, "float32", 0, Adam(type="adam"))
    assert ops(g, "forward") == ["conv2d", "bias", "relu", "reshape", "matmul", "bias"]
    assert ops(g, "output") == ["softmax"]
    assert ops(g, "loss") == ["softmax_cross_entropy"]
    assert ops(g, "backward") == [
        "softmax_cross_entropy_dz", "bias_db", "matmul_dw", "matmul_dx", "reshape", "relu_dx", "bias_db", "conv2d_dw",
    ]  # fmt: skip
    assert ops(g, "update") == ["adam"]
    assert set(g.grads) == set(g.params) == {"a.w", "a.b", "b.w", "b.b"}
    assert {n.path for n in g.nodes if n.op.startswith("conv")} == {("model", "layers", "a")}


def test_inference_has_neither_backward_nor_update():
    g = eval_graph(spec(a=CONV, n={"type": "batch_norm"}, d={"type": "dropout"}, b=FC), 4, "float32")
    assert {n.phase for n in g.nodes} == {"forward", "output", "loss"}
    assert "dropout" not in ops(g)
    assert "batch_norm_inference" in ops(g)
    assert not g.grads


@pytest.mark.parametrize(
    ("layers", "dead"),
    [
        ({"a": CONV | FROZEN, "b": FC}, {"conv2d_dw", "conv2d_dx", "relu_dx", "matmul_dx"}),
        ({"a": CONV, "b": FC | FROZEN}, {"matmul_dw", "conv2d_dx"}),
        ({"a": CONV | FROZEN, "n": {"type": "batch_norm"} | FROZEN, "b": FC}, {"batch_norm_dparams", "batch_norm_dx"}),
        ({"a": CONV | FROZEN, "b": FC | FROZEN}, {"softmax_cross_entropy_dz", "adam"}),
    ],
)
def test_nothing_is_worked_out_that_no_trained_weight_needs(layers, dead):
    g = train_graph(spec(**layers), 4, "float32", 0, Adam(type="adam"))
    assert not dead & set(ops(g))
    assert set(g.grads) == {name for name, p in g.params.items() if p.trainable}


def test_the_pictures_get_no_gradient():
    for layers in ({"b": FC}, {"a": CONV, "b": FC}, {"p": {"type": "pool", "kernel": 2}, "b": FC}):
        g = train_graph(spec(**layers), 4, "float32", 0)
        x = g.inputs["x"]
        assert not [n for n in g.nodes if n.phase == "backward" for v in n.outs if v.name == f"d({x.name})"]


def test_running_statistics_change_with_the_update_only():
    g = train_graph(spec(a=CONV, n={"type": "batch_norm"}, b=FC), 4, "float32", 0, Adam(type="adam"))
    assert ops(g, "update") == ["batch_norm_running", "adam"]
    assert not [n for n in g.nodes if n.phase != "update" for v in n.outs if v.kind == "state"]


def test_dropout_that_drops_nothing_is_nothing():
    g = train_graph(spec(a=CONV, d={"type": "dropout", "rate": 0.0}, b=FC), 4, "float32", 0)
    assert "dropout" not in ops(g)


class TestTheLossAndTheLastActivation:
    @pytest.mark.parametrize("name", LOSSES)
    @pytest.mark.parametrize("ending", ["softmax", "sigmoid", "none", "relu"])
    @pytest.mark.parametrize("training", [True, False])
    def test_what_the_loss_reads(self, name, ending, training):
        model = spec(loss=name, b=FC | {"activation": ending})
        g = train_graph(model, 4, "float32", 0) if training else eval_graph(model, 4, "float32")
        (loss,) = [n for n in g.nodes if n.phase == "loss"]
        fused = LOSSES[name].fuses == ending
        assert (loss.ins[0] is g.outputs["output"]) == (not fused)
        assert g.outputs["prediction"].shape == (4, 3)
        # What the loss itself works out is not in training's way.
        assert ops(g, "output") == ([LOSSES[name].fuses] if LOSSES[name].fuses else [])

    @pytest.mark.parametrize("behind", [{"type": "dropout"}, {"type": "dropout", "rate": 0.0}, {"type": "flatten"}])
    def test_training_and_inference_mean_the_same_loss_whatever_follows_a_softmax(self, behind):
        """Dropout is a node in training and none in inference; that must not decide what the loss reads."""
        model = spec(loss="softmax_cross_entropy", b=FC, d=behind)
        for g in (train_graph(model, 4, "float32", 0), eval_graph(model, 4, "float32")):
            assert Counter(ops(g))["softmax"] == 2
            (loss,) = [n for n in g.nodes if n.phase == "loss"]
            assert loss.ins[0] is g.outputs["output"]


@settings(max_examples=60)
@given(models())
def test_training_and_inference_agree_where_nothing_is_random_or_normalised(made):
    differing = {"dropout", "spatial_dropout", "drop_path", "batch_norm"}
    assume(not differing & {row.type for row in made.table})
    train, inference = build(made, training=True), build(made, training=False)
    for built in (train, inference):
        built.run("forward", "output")
    for role in ("output", "prediction"):
        np.testing.assert_array_equal(train.bound.outputs[role], inference.bound.outputs[role])
    for built in (train, inference):
        built.run("forward", "loss")
    for role in ("loss", "hits"):
        np.testing.assert_array_equal(train.bound.outputs[role], inference.bound.outputs[role])


@settings(max_examples=60)
@given(models())
def test_predictions_are_probabilities_and_the_loss_is_what_they_say(made):
    built = build(made, training=False)
    built.run("forward", "output", "loss")
    prediction, labels = built.bound.outputs["prediction"], built.bound.labels
    n = len(prediction)
    match made.effective_loss.type:
        case "softmax_cross_entropy":
            np.testing.assert_allclose(prediction.sum(-1), 1)
            said = -np.log(np.take_along_axis(prediction, labels[..., None], -1)).reshape(n, -1).mean(1)
        case "sigmoid_cross_entropy":
            assert prediction.min() >= 0
            assert prediction.max() <= 1
            said = -np.log(np.where(labels > 0.5, prediction, 1 - prediction)).reshape(n, -1).mean(1)
        case _:
            np.testing.assert_array_equal(prediction, built.bound.outputs["output"])
            said = ((prediction - labels) ** 2).reshape(n, -1).mean(1)
    np.testing.assert_allclose(built.bound.outputs["loss"], said, rtol=1e-9, atol=1e-12)


def test_the_optimizer_sees_everything_trainable_as_one():
    g = train_graph(spec(a=CONV | FROZEN, b=FC), 4, "float32", 0, Sgd(type="sgd", momentum=0.9))
    (update,) = [n for n in g.nodes if n.phase == "update"]
    assert [v.name for v in update.ins] == ["params", "grads", "step", "slots.velocity"]
    assert {v.shape for v in update.outs} == {(48 * 3 + 3,)}


@pytest.mark.parametrize(("tallies", "ranks", "late"), [(False, 1, False), (True, 1, True), (True, 2, False)])
def test_losses_are_added_up_where_the_backend_does_so_and_one_process_sees_them(tallies, ranks, late):
    run = RunSpec(model=spec(a=CONV, n={"type": "batch_norm"}, b=FC))
    g = step_graph(run, 4, ranks=ranks, tallies=tallies)
    assert ("tally" in ops(g, "loss")) == late
    assert all((n.ins[-1].name == "device") == late for n in g.nodes if n.phase == "update")
    assert ops(eval_graph(run.model, 4, "float32", tally=late), "loss")[-1] == (
        "tally" if late else "softmax_cross_entropy"
    )
