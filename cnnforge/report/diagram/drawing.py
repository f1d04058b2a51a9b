"""Shapes and colours for what has been laid out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from cnnforge.report.diagram import blocks, volumes
from cnnforge.report.diagram.canvas import (
    GREY,
    INK,
    Anchor,
    Line,
    Picture,
    Point,
    Polygon,
    Rect,
    Shape,
    Text,
    text_width,
)  # fmt: skip
from cnnforge.report.diagram.pieces import Border, Box, Label, Part, Wire
from cnnforge.report.diagram.structure import Leaf
from cnnforge.report.diagram.volumes import Volume
from cnnforge.report.table import by
from cnnforge.spec import ModelSpec

#: (light, middle, dark) by what a layer does; also the fill, side and border of its box.
Tones = tuple[str, str, str]
CONV: Tones = ("#dcebfa", "#b4d2f0", "#3c78b4")
POOL: Tones = ("#fbe3d6", "#f4c3a8", "#c0622f")
FC: Tones = ("#dff1df", "#b9dfba", "#4b9150")
JOIN: Tones = ("#fff3cc", "#f6df94", "#b58a1b")
OTHER: Tones = ("#eef1f4", "#d8dee4", "#7b8896")
SOURCE: Tones = ("#f5f5f2", "#e0e0da", "#8d8d84")
BORDER, FRAME, REPEATED = "#d3dae1", "#f8f9fb", "#f1f4fb"
SEEN = "#d1495b"
#: Layers that the description names.
_TOLD = 40


def tones(leaf: Leaf | None) -> Tones:
    """The colours of a box; None: of the model's input"""
    if leaf is None:
        return SOURCE
    if leaf.is_join:
        return JOIN
    if leaf.part:
        return OTHER
    kind = leaf.main.type
    if "pool" in kind:
        return POOL
    if kind == "fc":
        return FC
    return CONV if leaf.main.macs else OTHER


def of_volumes(layout: volumes.Layout, model: ModelSpec) -> Picture:
    """The picture of a straight net."""
    shapes: list[Shape] = [Line(turn, radius=8, arrow=True) for turn in layout.turns]
    for row in layout.rows:
        for volume in row.volumes:
            shapes += _volume(volume)
        for a, b in pairwise(row.volumes):
            shapes += _between(a, b)
        shapes += map(_text, row.labels)
    return _picture(model, "volumes", layout.width, layout.height, shapes)


def _volume(volume: Volume) -> Iterator[Shape]:
    light, middle, dark = tones(volume.leaf)
    x, y, (dx, dy) = volume.x, volume.y, volume.depth
    right, bottom = x + volume.width, y + volume.height
    if volume.depth != (0, 0):
        yield Polygon(((x, y), (x + dx, y - dy), (right + dx, y - dy), (right, y)), light, dark)
        yield Polygon(((right, y), (right + dx, y - dy), (right + dx, bottom - dy), (right, bottom)), middle, dark)
    yield Polygon(((x, y), (right, y), (right, bottom), (x, bottom)), light, dark)


def _between(a: Volume, b: Volume) -> Iterator[Shape]:
    """What a layer looks at for one of its outputs, or, of vectors, that it looks at everything."""
    if a.window is None:
        if a.depth == b.depth == (0, 0) and b.leaf is not None and b.leaf.main.macs:
            ends = [(a.x + a.width, a.y), (a.x + a.width, a.y + a.height)]
            for start in ends:
                for end in ((b.x, b.y), (b.x, b.y + b.height)):
                    yield Line((start, end), "#c3ccd4", 0.9)
        yield Line((a.leave, (b.x - 3, b.y + b.height / 2)), arrow=True)
        return
    patch = seen(a)
    target = b.left
    for corner in (patch[1], patch[2]):
        yield Line((corner, target), SEEN, 0.9)
    yield Polygon(patch, "#f3c6cc", SEEN)


def seen(volume: Volume) -> tuple[Point, Point, Point, Point]:
    """On the far side of a box the part that the next layer looks at: front top, back top, back bottom, front bottom.

    It is as large a part of the side as the window is of the picture, and lies in its middle.
    """
    assert volume.window is not None
    rows, columns = volume.window
    x, (dx, dy) = volume.x + volume.width, volume.depth
    near, far = (1 - columns) / 2, (1 + columns) / 2
    top, bottom = volume.y + volume.height * (1 - rows) / 2, volume.y + volume.height * (1 + rows) / 2
    return (
        (x + near * dx, top - near * dy), (x + far * dx, top - far * dy),
        (x + far * dx, bottom - far * dy), (x + near * dx, bottom - near * dy),
    )  # fmt: skip


def of_blocks(layout: blocks.Layout, model: ModelSpec) -> Picture:
    """The picture of a graph of layers."""
    shapes: list[Shape] = []
    for kind in (Border, Wire, Box, Label):
        for part in layout.parts:
            if isinstance(part, kind):
                shapes += _part(part)
    return _picture(model, "blocks", layout.width, layout.height, shapes)


def _part(part: Part) -> Iterator[Shape]:
    match part:
        case Border():
            if part.repeated:  # the edge of the one below shows that there are more
                yield Rect(part.x + 4, part.y + 4, part.width, part.height, REPEATED, BORDER, 8)
            fill = REPEATED if part.repeated else FRAME
            yield Rect(part.x, part.y, part.width, part.height, fill, BORDER, 8)
        case Wire():
            yield Line(part.points, radius=6, arrow=part.arrow)
        case Box():
            light, _, dark = tones(part.leaf)
            radius = part.height / 2 if part.round else 5
            yield Rect(part.x, part.y, part.width, part.height, light, dark, radius, part.leaf.first_only)
            for line in part.lines:
                yield _text(line.moved(part.x, part.y))
        case Label():
            yield _text(part)


def _text(label: Label) -> Text:
    x = label.x + label.width / 2 if label.centred else label.x
    anchor: Anchor = "middle" if label.centred else "start"
    return Text(x, label.y, label.text, label.size, anchor, label.bold, label.color)


def _picture(model: ModelSpec, kind: str, width: float, height: float, shapes: list[Shape]) -> Picture:
    rows = model.table
    params, macs = sum(row.param_count for row in rows), sum(row.macs for row in rows)
    weighted = sum(bool(row.macs) for row in rows)
    facts = f"{by(model.input)} input, {weighted} layers with weights, {params:,} parameters, {macs:,} MACs"
    title = [Text(24, 34, model.name, 20, "start", bold=True, color=INK), Text(24, 54, facts, 12, "start", color=GREY)]
    width = max(width, text_width(facts, 12) + 48)
    steps = "; ".join(f"{row.name}: {row.type}, {by(row.output)}" for row in rows[:_TOLD])
    more = f"; and {len(rows) - _TOLD} more" if len(rows) > _TOLD else ""
    about = f"The network {model.name} as {kind}: {facts}. Its layers and their outputs: {steps}{more}."
    return Picture(width, height, f"{model.name}: {facts}", about, (*title, *shapes))
