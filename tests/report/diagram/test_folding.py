"""What is repeated is shown once; the first may differ by what its marks say."""

from __future__ import annotations

from typing import Any

from cnnforge.report.diagram.folding import folded
from cnnforge.report.diagram.structure import Chain, Fold, Frame, Parallel, chain_of, framed, gather, leaves_in
from tests.report.diagram.nets import conv, merge, net, shipped, sketch


def drawn(name: str) -> Chain:
    return folded(framed(chain_of(gather(shipped(name).table))))


def test_the_stages_of_a_resnet() -> None:
    stages = [item for item in drawn("resnet50") if isinstance(item, Frame)]
    assert [stage.name for stage in stages] == ["stage1", "stage2", "stage3", "stage4"]
    folds = [stage.chain[0] for stage in stages]
    assert all(len(stage.chain) == 1 for stage in stages)
    assert [len(fold.all) for fold in folds if isinstance(fold, Fold)] == [3, 4, 6, 3]
    (block,) = folds[1].chain
    assert isinstance(block, Parallel)
    (body, shortcut) = block.ways
    assert [leaf.title for leaf in leaves_in(body)] == ["1x1 conv 128", "3x3 conv 128", "1x1 conv 512"]
    assert [leaf.below for leaf in leaves_in(body)][1] == ("s 2 in the first", "batch_norm, relu")
    assert [(leaf.title, leaf.first_only) for leaf in leaves_in(shortcut)] == [("1x1 conv 512, s 2", True)]


def test_the_marks_are_true_of_the_first_and_not_of_the_others() -> None:
    (stage,) = (item for item in drawn("resnet20") if isinstance(item, Frame) and item.name == "stage2")
    (fold,) = stage.chain
    assert isinstance(fold, Fold)
    first, *others = [[leaf.title for leaf in leaves_in(one)] for one in fold.all]
    assert first == ["3x3 conv 32, s 2", "3x3 conv 32", "zeros up to 32, s 2", "+"]
    assert others == [["3x3 conv 32", "3x3 conv 32", "+"]] * 2


def test_channels_may_grow() -> None:
    firsts = [item.chain[0] for item in drawn("densenet121") if isinstance(item, Frame)]
    assert [len(first.all) for first in firsts if isinstance(first, Fold)] == [6, 12, 24, 16]


def test_what_differs_is_not_folded() -> None:
    found = drawn("googlenet")
    assert not any(isinstance(item, Fold) for item in found)
    assert sum(isinstance(item, Frame) for item in found) == 9


def block(i: int, before: str, filters: int = 4, **fields: Any) -> dict[str, Any]:
    return {
        f"conv{i}": conv(filters, **fields), f"relu{i}": {"type": "activation", "function": "relu"},
        f"sum{i}": merge(before, f"relu{i}", mode="add"),
    }  # fmt: skip


def test_blocks_written_one_by_one() -> None:
    layers = {"stem": conv()} | block(1, "stem") | block(2, "sum1") | block(3, "sum2")
    found = folded(framed(chain_of(gather(net(layers).table))))
    assert sketch(found) == ["stem", (3, [([[], ["conv1"]], "sum1")])]


def test_several_that_are_repeated_together() -> None:
    pair = {"type": "sequence", "layers": {"wide": conv(groups="depthwise"), "deep": conv(kernel=1)}}
    model = net({"stem": conv(), "all": {"type": "repeat", "times": 4, "block": pair}, "end": conv(2)})
    assert sketch(folded(framed(chain_of(gather(model.table))))) == [
        "stem", {"all": [(4, ["all.1.wide", "all.1.deep"])]}, "end",
    ]  # fmt: skip


def test_two_boxes_stay_and_three_are_folded() -> None:
    for times, wanted in ((2, ["a1", "a2"]), (3, [(3, ["a1"])])):
        model = net({f"a{i}": conv() for i in range(1, times + 1)} | {"end": conv(2)})
        assert sketch(folded(framed(chain_of(gather(model.table))))) == [*wanted, "end"]


def test_sizes_that_shrink_are_not_the_same() -> None:
    model = net({f"a{i}": conv(padding="valid") for i in range(1, 4)} | {"end": conv(2)})
    assert len(folded(framed(chain_of(gather(model.table))))) == 4


def test_a_kernel_that_differs_in_the_first_is_not_folded() -> None:
    layers = {"stem": conv()} | block(1, "stem", kernel=5) | block(2, "sum1") | block(3, "sum2")
    found = sketch(folded(framed(chain_of(gather(net(layers).table)))))
    assert found == ["stem", ([[], ["conv1"]], "sum1"), (2, [([[], ["conv2"]], "sum2")])]
