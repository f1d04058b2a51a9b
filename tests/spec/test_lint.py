"""Every rule: what it says, word for word, of a model that breaks it, and that it says nothing of the sound one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnforge import Model
from cnnforge.blocks.activation import Function
from cnnforge.config import read_run, validate
from cnnforge.schedules import SCHEDULES, Schedule
from cnnforge.spec import ModelSpec, RunSpec, TrainerSpec
from cnnforge.spec.lint import RULES, lint
from cnnforge.spec.lint.functions import LEAVES
from tests.strategies import models

POOL = {"type": "pool", "kernel": 2}
GLOBAL = {"type": "global_pool"}
NORM = {"type": "batch_norm"}
DROP = {"type": "dropout"}


def conv(filters: int = 8, kernel: Any = 3, activation: str = "relu", **fields: Any) -> dict[str, Any]:
    return {"type": "conv", "filters": filters, "kernel": kernel, "activation": activation} | fields


def fc(units: int = 10, activation: str = "softmax", **fields: Any) -> dict[str, Any]:
    return {"type": "fc", "units": units, "activation": activation} | fields


def function(name: str) -> dict[str, Any]:
    return {"type": "activation", "function": name}


def tree(*groups: str, size: Any = (16, 16, 3), templates: Any = None, loss: Any = None, **layers: Any) -> Any:
    model: dict[str, Any] = {"input": list(size), "layers": layers}
    model |= {"templates": templates} if templates else {}
    model |= {"loss": loss} if loss else {}
    return {"model": model}


def run(written: Mapping[str, Any]) -> RunSpec:
    return validate(read_run(written), match_data=False)


def said(written: Mapping[str, Any]) -> list[str]:
    return [str(warning) for warning in lint(run(written), written["model"])]


def test_a_bias_before_a_norm() -> None:
    net = tree(conv=conv(activation="none"), norm=NORM | {"activation": "relu"}, out=fc())
    assert said(net) == [
        "conv: its bias changes nothing before batch_norm [bias-before-norm]\n"
        "  where: model.layers.conv\n"
        "  why:   norm subtracts each channel's mean, and 8 biases with it\n"
        "  fix:   bias: false"
    ]
    net["model"]["layers"]["conv"]["type"] = "conv_transpose"
    assert said(net)[0].startswith("conv: its bias changes nothing before batch_norm")


@pytest.mark.parametrize(
    "layers",
    [
        {"conv": conv(activation="none", bias=False), "norm": NORM, "on": function("relu")},
        {"conv": conv(), "norm": NORM},  # relu(x + b): the bias says where relu begins
        {"conv": conv(padding=1, activation="none"), "norm": NORM | {"activation": "relu"},
         "both": {"type": "merge", "inputs": ["conv", "norm"]}},
    ],
)  # fmt: skip
def test_a_bias_that_is_of_use(layers: Any) -> None:
    assert said(tree(**layers, out=fc())) == []


def test_two_linear_layers_in_a_row() -> None:
    assert said(tree(conv1=conv(), conv2=conv(activation="none"), fc=fc(64, "relu"), out=fc())) == [
        "conv2: nothing but linear layers up to fc [linear-pair]\n"
        "  where: model.layers.conv2\n"
        "  why:   two linear layers in a row compute no more than one does\n"
        "  fix:   activation: relu in conv2"
    ]
    for between in ({"pool": POOL | {"mode": "average"}}, {"pool": GLOBAL}, {"drop": DROP}):
        found = said(tree(conv1=conv(), conv2=conv(32, 9, "none"), **between, out=fc()))
        assert [text.partition("\n")[0] for text in found] == [
            "conv2: nothing but linear layers up to out [linear-pair]"
        ]


@pytest.mark.parametrize(
    "layers",
    [
        {"a": conv(activation="none"), "pool": POOL, "b": conv()},
        {"a": conv(activation="none"), "on": function("tanh"), "b": conv()},
        {"a": conv(8), "b": conv(8, activation="none", groups=8), "c": conv(16, 1)},  # depthwise, then pointwise
        {"a": conv(), "b": conv(kernel=[3, 1], activation="none"), "c": conv(kernel=[1, 3])},
        {"a": conv(32), "b": conv(8, 1, "none"), "c": conv(32)},  # fewer parameters than one 3x3 of 32 channels
        {"a": conv(activation="none", trainable=False), "b": conv()},
        {"a": conv(32), "b": conv(16, 1, "none", bias=False), "n": NORM, "c": conv(48, 1)},  # a linear bottleneck
        {"a": conv(8), "r": {"type": "residual", "layers": {"b": conv(8, padding=1, activation="none")}}, "c": conv()},
        # Pre-activation (He et al., ECCV 2016): the stem is read by a norm and by the projection of the shortcut.
        {"stem": conv(padding=1, activation="none", bias=False),
         "r": {"type": "residual", "layers": {"n": NORM | {"activation": "relu"}, "c": conv(16, padding=1)}}},
    ],
)  # fmt: skip
def test_pairs_that_are_meant(layers: Any) -> None:
    assert said(tree(**layers, out=fc())) == []


def test_a_linear_network() -> None:
    net = tree(a=conv(bias=False, activation="none"), n=NORM, b=fc(32, "none"), out=fc())
    assert said(net) == [
        "the network is linear: no layer has an activation before the output [linear-network]\n"
        "  where: model.layers\n"
        "  why:   its 3 layers with weights compute no more than a single fc could\n"
        "  fix:   an activation behind a, and behind the others but the last"
    ]
    assert len(said(tree(a=fc(84, "none"), b=fc(10, "none"), out=function("softmax")))) == 1
    assert said(tree(out=fc())) == []  # softmax regression says what it is
    assert said(tree(a=conv(activation="none"), pool=POOL, out=fc())) == []
    assert said(tree(a=conv(trainable=False, activation="none"), out=fc())) == []


def test_pixels_that_no_window_reads() -> None:
    assert said(tree(conv1=conv(padding=1), pool1=POOL, out=fc(), size=(7, 9, 3))) == [
        "pool1: nothing reads the last 1 of 7 rows and 1 of 9 columns [dropped-pixels]\n"
        "  where: model.layers.pool1\n"
        "  why:   3 windows of 2, 2 apart, end at 6 of 7\n"
        "  fix:   ceil_mode: true, or padding: same"
    ]
    assert said(tree(conv1=conv(kernel=5, stride=5), out=fc(), size=(20, 24, 3))) == [
        "conv1: nothing reads the last 4 of 24 columns [dropped-pixels]\n"
        "  where: model.layers.conv1\n"
        "  why:   4 windows of 5, 5 apart, end at 20 of 24\n"
        "  fix:   padding: same"
    ]


@pytest.mark.parametrize(
    "layer",
    [
        POOL | {"ceil_mode": True},
        POOL | {"padding": "same"},
        POOL | {"kernel": 3, "stride": 2},
        conv(kernel=3, stride=2, padding=1),
    ],
)
def test_windows_that_read_everything_they_mean_to(layer: Any) -> None:
    assert said(tree(conv1=conv(padding=1), layer=layer, out=fc(), size=(15, 15, 3))) == []


def test_a_kernel_smaller_than_its_stride_leaves_out_pixels_everywhere() -> None:
    assert said(tree(conv1=conv(kernel=1, stride=2), out=fc())) == []


def test_padding_before_the_input_moves_the_windows() -> None:
    (text,) = said(tree(conv1=conv(kernel=2, stride=2, padding=[1, 0, 0, 0]), out=fc()))
    assert text.startswith("conv1: nothing reads the last 1 of 16 rows [dropped-pixels]")


def test_a_row_of_many_may_go() -> None:
    """SqueezeNet's first convolution leaves out the last of 224 rows."""
    assert not any("dropped-pixels" in text for text in said(tree(conv1=conv(stride=2), out=fc(), size=(224, 224, 3))))


def test_an_even_kernel_with_padding_same() -> None:
    assert said(tree(conv1=conv(kernel=[4, 3], padding="same"), out=fc())) == [
        "conv1: a 4x3 kernel with padding: same is off centre [even-kernel-same]\n"
        "  where: model.layers.conv1\n"
        "  why:   its padding is (1, 2, 1, 1) at top, bottom, left, right: the output lies half a pixel beside the "
        "input\n"
        "  fix:   an odd kernel: [5, 3]"
    ]
    for sound in ({"kernel": 3}, {"kernel": 3, "stride": 2}, {"kernel": 2, "dilation": 2}):
        assert said(tree(conv1=conv(**({"padding": "same"} | sound)), out=fc())) == []
    assert said(tree(conv1=conv(kernel=4), out=fc())) == []


def test_dropout_before_a_norm() -> None:
    net = tree(conv1=conv(), drop=DROP, pool=POOL, norm=NORM, out=fc())
    assert said(net) == [
        "drop: dropout before norm [dropout-before-norm]\n"
        "  where: model.layers.drop\n"
        "  why:   dropout raises the variance in training only, and batch_norm keeps that variance for use (Li et al., "
        "CVPR 2019)\n"
        "  fix:   drop behind norm, best behind the last batch_norm"
    ]
    (text,) = said(tree(conv1=conv(), drop={"type": "spatial_dropout"}, norm=NORM, out=fc()))
    assert text.startswith("drop: dropout before norm [dropout-before-norm]")
    assert said(tree(conv1=conv(), norm=NORM, drop=DROP, out=fc())) == []
    assert said(tree(conv1=conv(), drop=DROP | {"rate": 0}, norm=NORM, out=fc())) == []


def test_softmax_of_softmax() -> None:
    assert said(tree(conv1=conv(), out=fc(), again=function("softmax"))) == [
        "again: softmax of a softmax [softmax-twice]\n"
        "  where: model.layers.again\n"
        "  why:   out gives probabilities already; of them, no softmax over 10 is above 23%\n"
        "  fix:   leave again out"
    ]
    assert said(tree(conv1=conv(), out=fc(activation="none"), once=function("softmax"))) == []


def test_softmax_inside() -> None:
    assert said(tree(conv1=conv(), fc1=fc(32), drop=DROP, out=fc())) == [
        "fc1: softmax inside the network [softmax-inside]\n"
        "  where: model.layers.fc1\n"
        "  why:   its outputs sum to 1 over all 32 channels, which leaves little for out to tell apart\n"
        "  fix:   activation: relu; softmax belongs behind the last layer (output: out)"
    ]
    gate = {"gate": conv(8, 1, "softmax"), "gated": {"type": "merge", "inputs": ["conv1", "gate"], "mode": "multiply"}}
    assert said(tree(conv1=conv(), **gate, out=fc())) == []


def test_an_activation_before_the_output() -> None:
    assert said(tree(conv1=conv(), scores=fc(10, "relu"), out=function("softmax"))) == [
        "scores: relu before the softmax of the output [activation-before-output]\n"
        "  where: model.layers.scores\n"
        "  why:   softmax takes scores of any sign and size; relu leaves them values from 0 up\n"
        "  fix:   activation: none"
    ]
    assert said(tree(conv1=conv(), out=fc(10, "sigmoid"), loss="softmax_cross_entropy")) == [
        "out: sigmoid before softmax_cross_entropy [activation-before-output]\n"
        "  where: model.layers.out\n"
        "  why:   softmax_cross_entropy puts a softmax over its scores itself; sigmoid leaves them values between 0 "
        "and 1\n"
        "  fix:   activation: softmax"
    ]
    (text,) = said(tree(conv1=conv(), out=fc(10, "none"), on=function("relu"), end=function("softmax")))
    assert text.endswith("fix:   leave on out")


def test_the_ranges_are_of_functions_that_there_are() -> None:
    assert set(LEAVES) <= set(get_args(Function))


def test_what_may_stand_before_the_output() -> None:
    # SqueezeNet and Network in Network average after relu.
    assert said(tree(conv1=conv(10, 9), pool=GLOBAL, flat={"type": "flatten"}, out=function("softmax"))) == []
    assert said(tree(conv1=conv(), out=fc(10, "none"), loss="softmax_cross_entropy")) == []


def test_a_dead_branch() -> None:
    net = tree(conv1=conv(), side=conv(4), conv2=conv() | {"input": "conv1"}, out=fc())
    assert said(net) == [
        "side: nothing reads its output [dead-branch]\n"
        "  where: model.layers.side\n"
        "  why:   the network's output is that of out\n"
        "  fix:   leave it out, or name it in the 'input' or 'inputs' of a later layer"
    ]
    both = {"type": "merge", "inputs": ["side", "conv2"]}
    assert said(tree(conv1=conv(), side=conv(4), conv2=conv() | {"input": "conv1"}, both=both, out=fc())) == []


TEMPLATE = {"parameters": {"filters": "int"}, "block": conv() | {"filters": "=filters"}}


def test_an_unused_template() -> None:
    assert said(tree(conv1=conv(), out=fc(), templates={"mine": TEMPLATE})) == [
        "templates.mine: no layer uses it [unused-template]\n"
        "  where: model.templates.mine\n"
        "  why:   'mine' stands nowhere in layers, nor in another template\n"
        "  fix:   leave it out, or write type: mine where it is meant"
    ]
    repeated = {"type": "repeat", "times": 0, "block": {"type": "mine", "filters": 3}}
    assert said(tree(conv1=conv(), none=repeated, out=fc(), templates={"mine": TEMPLATE})) == []
    chosen = {"parameters": {"kind": "text = mine"}, "block": {"type": "=kind", "filters": 4}}
    layers = {"conv1": {"type": "chosen"}, "out": fc()}
    assert said(tree(**layers, templates={"mine": TEMPLATE, "chosen": chosen})) == []


def test_an_unused_parameter() -> None:
    used = {"type": "mine", "filters": 3, "kernel": 5}
    template = {"parameters": {"filters": "int", "kernel": "int = 3"}, "block": conv() | {"filters": "=filters"}}
    assert said(tree(conv1=used, out=fc(), templates={"mine": template})) == [
        "templates.mine: its parameter 'kernel' changes nothing [unused-parameter]\n"
        "  where: model.templates.mine.parameters.kernel\n"
        "  why:   no field of the template says =kernel\n"
        "  fix:   leave it out, or write =kernel where it is meant"
    ]
    template["block"] = conv() | {"filters": "=filters", "padding": ["=kernel // 2", 1, 1, 1]}
    assert said(tree(conv1=used, out=fc(), templates={"mine": template})) == []


def test_a_template_does_not_use_itself() -> None:
    (text,) = said(tree(conv1=conv(), out=fc(), templates={"same": {"block": conv(padding="same")}}))
    assert text.startswith("templates.same: no layer uses it")


def test_without_what_was_written_nothing_is_said_of_templates() -> None:
    assert lint(run(tree(conv1=conv(), out=fc(), templates={"mine": TEMPLATE}))) == []


def test_a_small_receptive_field() -> None:
    assert said(tree(conv1=conv(), conv2=conv(), pool=GLOBAL, out=fc())) == [
        "pool: takes together features that see 5x5 of the 16x16 input [small-receptive-field]\n"
        "  where: model.layers.pool\n"
        "  why:   no layer sees more than that at once: how parts of the object lie to one another is lost\n"
        "  fix:   one more stride or pool before the last convs, or more or larger kernels"
    ]
    assert said(tree(conv1=conv(), pool1=POOL, conv2=conv(), pool=GLOBAL, out=fc())) == []
    assert said(tree(conv1=conv(), conv2=conv(), out=fc())) == []  # the fc sees all
    squeeze = {"s": GLOBAL, "g": conv(8, 1, "sigmoid")}
    gated = {"type": "branches", "branches": {"x": {}, "gate": squeeze}, "merge": "multiply"}
    assert said(tree(conv1=conv(), gated=gated, conv2=conv(8, 5), out=fc())) == []


def test_a_heavy_layer() -> None:
    assert said(tree(conv1=conv(32, padding=1), fc1=fc(32, "relu"), out=fc())) == [
        "fc1: holds 99.5% of all parameters [heavy-layer]\n"
        "  where: model.layers.fc1\n"
        "  why:   262,176 of 263,402: every unit has a weight for each of 16x16x32 values\n"
        "  fix:   {type: global_pool} before it: 1,024 weights instead"
    ]
    assert said(tree(conv1=conv(8, padding=1), fc1=fc(32, "relu"), out=fc())) == []  # below 100,000
    assert said(tree(fc1=fc(200, "relu"), out=fc())) == []  # no convolution before it


def test_nothing_to_learn() -> None:
    frozen = {"trainable": False}
    assert said(tree(conv1=conv() | frozen, out=fc() | frozen)) == [
        "the model has nothing to learn [nothing-to-learn]\n"
        "  where: model.layers\n"
        "  why:   all of its 15,914 parameters are frozen\n"
        "  fix:   trainable: true in one layer at least"
    ]
    (text,) = said(tree(flat={"type": "flatten"}, out=function("softmax"), size=(10, 1, 1)))
    assert text.endswith("why:   no layer has weights\n  fix:   a conv or an fc")
    assert said(tree(conv1=conv() | frozen, out=fc())) == []


def test_a_batch_of_one() -> None:
    net = tree(conv1=conv(), norm=NORM, out=fc())
    assert said(net | {"trainer": {"batch_size": 1}}) == [
        "trainer: batch_size 1 with batch_norm [batch-of-one]\n"
        "  where: trainer.batch_size\n"
        "  why:   norm normalises every picture by itself in training, and by an average over all in use\n"
        "  fix:   trainer.batch_size: 16"
    ]
    flat = tree(conv1=conv(), fc1=fc(32, "relu"), norm=NORM, out=fc()) | {"trainer": {"batch_size": 1}}
    assert "norm has one value per channel, which is its own mean: it gives the same whatever comes in" in said(flat)[0]
    assert said(net | {"trainer": {"batch_size": 2}}) == []
    assert said(tree(conv1=conv(), out=fc()) | {"trainer": {"batch_size": 1}}) == []


class Steps(Schedule):
    """A schedule with milestones, in epochs."""

    type: Literal["steps"]
    milestones: tuple[int, ...]

    def reaches(self) -> Mapping[str, float]:
        return {"milestones": max(self.milestones)}


def test_a_schedule_beyond_the_run() -> None:
    spec = run(tree(conv1=conv(), out=fc()) | {"trainer": {"epochs": 20}})

    def with_milestones(*epochs: int) -> RunSpec:
        return spec.model_copy(update={"schedule": Steps(type="steps", milestones=epochs)})

    assert [str(warning) for warning in lint(with_milestones(10, 20))] == [
        "schedule: milestones ends at epoch 20 of 20 [schedule-beyond-run]\n"
        "  where: schedule.milestones\n"
        "  why:   the run ends after 20 epochs, before it takes effect\n"
        "  fix:   trainer.epochs above 20, or an earlier milestones"
    ]
    assert lint(with_milestones(10, 15)) == []
    stretching = ("constant", "cosine", "linear", "one_cycle", "polynomial", "exponential", "plateau")
    assert not any(SCHEDULES[name](type=name).reaches() for name in stretching)


def test_data_that_does_not_suit() -> None:
    assert said(tree(conv1=conv(), out=fc(7))) == [
        "data=digits does not suit model: out: 7 units for 10 classes [class-count]\n"
        "  where: model.layers.out.units\n"
        "  why:   data 'digits' has 10 classes, one output for each\n"
        "  fix:   name the data that is meant (data=…); for digits: units: 10"
    ]
    assert said(tree(conv1=conv(), out=fc(7)) | {"data": {"type": "synthetic", "classes": 7}}) == []


def test_every_rule_has_a_name_and_a_text() -> None:
    for name, rule in RULES.items():
        assert name == rule.__name__.replace("_", "-")
        assert rule.__doc__
        assert rule.__doc__.rstrip().endswith("."), name


@given(models(), st.integers(1, 2))
def test_any_model_can_be_judged(made: ModelSpec, batch: int) -> None:
    judged = RunSpec(model=made, trainer=TrainerSpec(batch_size=batch))
    assert all(w.what and w.path and w.why and w.fix and w.rule in RULES for w in lint(judged))


def test_what_is_said_of_a_bias_and_of_dropped_pixels_is_true() -> None:
    """Neither another bias nor other pixels in the last row change what the model gives in training."""
    net = tree(conv=conv(padding=1, activation="none"), norm=NORM, pool=POOL, out=fc(), size=(7, 8, 3))
    assert [w.rule for w in lint(run(net))] == ["bias-before-norm", "dropped-pixels"]
    model = Model(net["model"], precision="float64")
    x = np.random.default_rng(0).normal(size=(4, 7, 8, 3))
    before = model.forward(x, training=True)
    model.params["conv.b"] = np.arange(8.0)
    np.testing.assert_allclose(model.forward(x, training=True), before, rtol=1e-9)
    # Without the norm, whose statistics see every pixel; the convolution sees one row further up.
    plain = Model(tree(pool=POOL, out=fc(), size=(7, 8, 3))["model"])
    other = x.copy()
    other[:, 6] += 1
    assert (plain.forward(other) == plain.forward(x)).all()
