"""Rows become boxes, and boxes what lies behind and beside one another; none is lost."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given, settings

from cnnforge.report.diagram.folding import folded
from cnnforge.report.diagram.structure import chain_of, framed, gather, leaves_in
from cnnforge.spec import ModelSpec
from tests.report.diagram.nets import (
    ODD,
    ZOO,
    all_to_all,
    conv,
    dead_end,
    gated,
    merge,
    net,
    shipped,
    sketch,
    twice_the_same,
    unet,
)  # fmt: skip
from tests.strategies import models


def every_row_once(model: ModelSpec) -> None:
    for depth in (None, 1, 2):
        for apart in (False, True):
            boxes = gather(model.table, depth, apart)
            drawn = folded(framed(chain_of(boxes)))
            rows = list(chain.from_iterable(leaf.rows for leaf in leaves_in(drawn)))
            assert sorted(row.name for row in rows) == sorted(row.name for row in model.table)
            assert [row for leaf in boxes.leaves for row in leaf.rows] == list(model.table) or not boxes.straight
            assert len({leaf.name for leaf in boxes.leaves}) == len(boxes.leaves)


@pytest.mark.parametrize("name", ZOO)
def test_every_layer_of_the_zoo_has_its_place(name: str) -> None:
    every_row_once(shipped(name))


@pytest.mark.parametrize("made", ODD)
def test_every_layer_of_odd_nets_has_its_place(made) -> None:
    every_row_once(made())


@settings(max_examples=60)
@given(models())
def test_every_layer_of_any_net_has_its_place(model: ModelSpec) -> None:
    every_row_once(model)


def test_a_box_is_a_layer_with_what_is_done_to_its_input_and_output() -> None:
    model = net(
        {
            "stem": conv(bias=False), "norm": {"type": "batch_norm", "activation": "relu"},
            "drop": {"type": "dropout", "rate": 0.25}, "pool": {"type": "pool", "kernel": 2},
            "top": {"type": "fc", "units": 3, "activation": "softmax"},
        }
    )  # fmt: skip
    stem, pool, top = gather(model.table).leaves
    assert (stem.name, stem.title, stem.below) == ("stem", "3x3 conv 4", ("batch_norm, relu", "dropout, rate 0.25"))
    assert (pool.title, pool.above, pool.below) == ("2x2 max pool", (), ())
    assert (top.above, top.title, top.below) == (("flatten",), "fc 3", ("softmax",))
    assert [leaf.name for leaf in gather(model.table, flatten_apart=True).leaves] == ["stem", "pool", "flatten", "top"]


def test_what_two_layers_read_ends_its_box() -> None:
    model = net({"a": conv(), "norm": {"type": "batch_norm"}, "sum": merge("a", "norm", mode="add")})
    assert [leaf.name for leaf in gather(model.table).leaves] == ["a", "norm", "sum"]


def test_norms_before_a_convolution_are_part_of_its_box() -> None:
    dense = shipped("densenet121")
    (box,) = (leaf for leaf in gather(dense.table).leaves if leaf.main.name == "stage1.1.new.conv1.conv")
    assert (box.above, box.title, box.below) == (("batch_norm, relu",), "1x1 conv 128", ("batch_norm, relu",))


def test_names_are_as_long_as_they_must_be() -> None:
    assert [leaf.name for leaf in gather(shipped("googlenet").table).leaves[:3]] == ["conv1", "pool1", "conv2"]


def test_depth_makes_a_box_of_what_lies_deeper() -> None:
    boxes = gather(shipped("resnet50").table, 1)
    assert boxes.straight
    assert [(leaf.name, leaf.title) for leaf in boxes.leaves[2:5]] == [
        ("stage1", "23 layers"), ("stage2", "30 layers"), ("stage3", "44 layers"),
    ]  # fmt: skip


def test_straight_nets() -> None:
    straight = {name for name in ZOO if gather(shipped(name).table).straight}
    assert {"lenet", "lenet5", "alexnet", "vgg16_bn", "mobilenet_v1"} <= straight
    assert not straight & {"resnet20", "googlenet", "mobilenet_v2", "densenet121"}


def test_skips_of_a_unet_lie_within_one_another() -> None:
    inner = [([[], ["down2", "c", "up2"]], "join2")]
    assert sketch(chain_of(gather(unet().table))) == [
        "a", ([[], ["down1", "b", *inner, "d", "up1"]], "join1"), "e", "output",
    ]  # fmt: skip


def test_a_gate_lies_beside_what_it_weighs() -> None:
    assert sketch(chain_of(gather(gated().table))) == ["a", ([[], ["pool", "gate"]], "weighed"), "output"]


def test_one_output_twice() -> None:
    assert sketch(chain_of(gather(twice_the_same().table))) == ["a", ([[], []], "double"), "b"]


def test_what_is_not_series_and_parallel_is_a_tangle() -> None:
    tangle = {"b": (-1,), "ab": (-1, 0), "c": (1,), "abc": (-1, 0, 2), "d": (3,), "abcd": (-1, 0, 2, 4)}
    assert sketch(chain_of(gather(all_to_all().table))) == ["a", tangle, "output"]
    (all_of_it,) = sketch(chain_of(gather(dead_end().table)))
    assert all_of_it == {"a": (-1,), "unread": (0,), "b": (0,), "output": (2,)}


def test_frames_are_what_has_one_name() -> None:
    found = sketch(framed(chain_of(gather(shipped("squeezenet1_0").table))))
    expand = [["fire2.expand.one"], ["fire2.expand.three"]], "fire2.expand"
    assert found[:3] == ["conv1", "pool1", {"fire2": ["fire2.squeeze", expand]}]


def test_a_net_within_one_name_is_taken_out_of_it() -> None:
    inner = {"a": conv(), "b": {"type": "residual", "layers": {"c": conv()}}, "d": conv()}
    found = framed(chain_of(gather(net({"all": {"type": "sequence", "layers": inner}}).table)))
    assert sketch(found) == ["all.a", {"all.b": [([["all.b.c"], []], "all.b")]}, "all.d"]
