"""Places, without drawing: nothing lies on anything else, wires lead on, and text fits."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings

from cnnforge.report.diagram import MOST_VOLUMES, blocks, kinds, volumes
from cnnforge.report.diagram.folding import folded
from cnnforge.report.diagram.pieces import Border, Box, Label, Wire
from cnnforge.report.diagram.structure import chain_of, framed, gather
from cnnforge.spec import ModelSpec
from tests.report.diagram.nets import ODD, ZOO, shipped
from tests.strategies import models

Rectangle = tuple[float, float, float, float]  # left, top, right, bottom


def of(part: Box | Border) -> Rectangle:
    return part.x, part.y, part.x + part.width, part.y + part.height


def text(label: Label) -> Rectangle:
    return label.x, label.y - 0.75 * label.size, label.x + label.width, label.y + 0.2 * label.size


def overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] - 0.01 and b[0] < a[2] - 0.01 and a[1] < b[3] - 0.01 and b[1] < a[3] - 0.01


def within(a: Rectangle, b: Rectangle) -> bool:
    return a[0] >= b[0] - 0.01 and a[1] >= b[1] - 0.01 and a[2] <= b[2] + 0.01 and a[3] <= b[3] + 0.01


def stretch(a: tuple[float, float], b: tuple[float, float]) -> Rectangle:
    """Of a level or upright piece of a wire, with a little of its width."""
    return min(a[0], b[0]) - 0.1, min(a[1], b[1]) - 0.1, max(a[0], b[0]) + 0.1, max(a[1], b[1]) + 0.1


def blocks_of(model: ModelSpec, depth: int | None = None) -> blocks.Layout:
    return blocks.layout(folded(framed(chain_of(gather(model.table, depth)))), model.input, kinds(model))


def check_blocks(made: blocks.Layout) -> None:
    page = (0.0, 0.0, made.width, made.height)
    boxes = [of(box) for box in made.boxes]
    borders = [of(part) for part in made.parts if isinstance(part, Border)]
    labels = [text(part) for part in made.parts if isinstance(part, Label)]
    for one in (*boxes, *borders, *labels):
        assert within(one, page)
    for a, b in combinations([*boxes, *labels], 2):
        assert not overlap(a, b)
    for a, b in combinations(borders, 2):
        assert not overlap(a, b) or within(a, b) or within(b, a)
    for box, border in ((box, border) for box in boxes for border in borders):
        assert not overlap(box, border) or within(box, border)
    for box in made.boxes:
        for line in box.lines:
            assert within(text(line.moved(box.x, box.y)), of(box))
    for wire in made.wires:
        check_wire(wire, boxes, labels)


def check_wire(wire: Wire, boxes: list[Rectangle], labels: list[Rectangle]) -> None:
    (x0, y0), (x1, y1) = wire.points[0], wire.points[-1]
    assert y1 > y0 or x1 > x0 or len(wire.points) > 2
    down = all(b[1] >= a[1] - 0.01 for a, b in pairwise(wire.points))
    assert down or x1 > x0, "it leads down, or to a column further right"
    for a, b in pairwise(wire.points):
        piece = stretch(a, b)
        assert a[0] == pytest.approx(b[0]) or a[1] == pytest.approx(b[1])
        for one in (*boxes, *labels):
            inner = (one[0] + 0.3, one[1] + 0.3, one[2] - 0.3, one[3] - 0.3)
            assert not overlap(piece, inner)
    if wire.arrow and boxes:
        ends_at_a_box = any(one[0] - 0.1 <= x1 <= one[2] + 0.1 and one[1] - 0.1 <= y1 <= one[3] + 0.1 for one in boxes)
        assert ends_at_a_box or y1 >= max(one[3] for one in boxes if one[0] <= x1 <= one[2])  # the net's output


def check_volumes(made: volumes.Layout) -> None:
    page = (0.0, 0.0, made.width, made.height)
    boxes = [volume.extent for volume in made.volumes]
    labels = [text(label) for label in made.labels]
    for one in (*boxes, *labels):
        assert within(one, page)
    for a, b in combinations([*boxes, *labels], 2):
        assert not overlap(a, b)
    for row in made.rows:
        assert all(b.x > a.extent[2] for a, b in pairwise(row.volumes)), "they stand in running order"
    for above, below in pairwise(made.rows):
        assert max(v.extent[3] for v in above.volumes) < min(v.extent[1] for v in below.volumes)
    assert len(made.turns) == len(made.rows) - 1
    for turn, row in zip(made.turns, made.rows[:-1], strict=True):
        for a, b in pairwise(turn):
            others = [volume.extent for volume in made.volumes if volume is not row.volumes[-1]]
            assert within(stretch(a, b), page)
            assert not any(overlap(stretch(a, b), one) for one in (*others, *labels))
    for a, b in combinations(made.volumes, 2):  # what is larger is drawn no smaller
        if len(a.shape) == len(b.shape) == 3:
            for i, drawn in enumerate(((a.height, b.height), (a.depth[0], b.depth[0]), (a.width, b.width))):
                assert (a.shape[i] - b.shape[i]) * (drawn[0] - drawn[1]) >= 0


@pytest.mark.parametrize("name", ZOO)
def test_blocks_of_the_zoo(name: str) -> None:
    check_blocks(blocks_of(shipped(name)))
    check_blocks(blocks_of(shipped(name), depth=1))


@pytest.mark.parametrize("made", ODD)
def test_blocks_of_odd_nets(made) -> None:
    check_blocks(blocks_of(made()))


@settings(max_examples=40)
@given(models())
def test_blocks_of_any_net(model: ModelSpec) -> None:
    check_blocks(blocks_of(model))


@pytest.mark.parametrize("name", ZOO)
def test_volumes_of_the_zoo(name: str) -> None:
    for depth in (None, 1):
        boxes = gather(shipped(name).table, depth, flatten_apart=True)
        if boxes.straight:
            made = volumes.layout(boxes.leaves, shipped(name).input)
            check_volumes(made)
            assert len(made.volumes) == len(boxes.leaves) + 1
            assert made.width <= volumes.WIDTH + 2 * volumes.MARGIN


@settings(max_examples=40)
@given(models(nested=False))
def test_volumes_of_any_straight_net(model: ModelSpec) -> None:
    boxes = gather(model.table, flatten_apart=True)
    assert boxes.straight
    check_volumes(volumes.layout(boxes.leaves, model.input))


@pytest.mark.parametrize("name", ["lenet", "googlenet", "resnet50"])
def test_a_page_wide_they_can_be_read(name: str) -> None:
    """At 1600 pixels the usual text has letters of eleven pixels or more."""
    model = shipped(name)
    boxes = gather(model.table, flatten_apart=True)
    straight = boxes.straight and len(boxes.leaves) <= MOST_VOLUMES
    made = volumes.layout(boxes.leaves, model.input) if straight else blocks_of(model)
    assert 12 * 1600 / made.width >= 11
    assert made.height <= 1.2 * made.width


def test_text_of_a_layer_stands_by_its_box() -> None:
    model = shipped("lenet")
    made = volumes.layout(gather(model.table, flatten_apart=True).leaves, model.input)
    texts = {label.text: label for label in made.labels}
    assert {"28x28x6", "5x5 conv", "s 1, p 0", "2x2 max pool", "s 2, p 0", "456 params", "48,120 params"} <= set(texts)
    assert texts["conv1"].x < texts["pool1"].x < texts["conv2"].x < texts["output"].x
