"""A straight net as its volumes: boxes that shrink in height and width and grow in channels; laid out, not drawn.

Height and width of a box are the square roots of its own on one scale, thickness that of its channels on another: the
7x7 behind a 224x224 can still be seen. A vector is a bar, its length the root of its units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import sqrt

from cnnforge.report.diagram.canvas import GREY, INK, Point
from cnnforge.report.diagram.pieces import Label
from cnnforge.report.diagram.structure import Leaf
from cnnforge.report.diagram.words import operation, window_text
from cnnforge.report.table import by
from cnnforge.shapes import Shape

#: The longest side of the largest picture, the thickest box, the longest bar; the least of each.
SIDE, THICK, BAR = (150.0, 10.0), (64.0, 4.0), (150.0, 26.0)
#: How far back the depth of a box goes, for each pixel of its width: right and up.
BACK = (0.34, 0.26)
#: Between boxes; between texts beside one another; from the boxes to the text below, and between its lines.
GAP, APART, BELOW, LINE = 34.0, 14.0, 24.0, 15.0
MARGIN, TITLE = 24.0, 72.0
NOTE = "sides are drawn by the square root of their sizes; red: what one output is made of"
#: A row of boxes ends here, and the next begins this far below.
WIDTH, BETWEEN = 1540.0, 40.0


@dataclass(frozen=True, slots=True)
class Volume:
    """One output, its place that of the front's upper left corner.

    width:  of the front, which is the thickness in channels;  height: of the front
    depth:  (right, up), how far the back lies behind the front; (0, 0) for a vector's bar
    leaf:   what gives it; None for the model's input
    window: height and width of what the next layer looks at for one output, as shares of its own, on the same scale
    """

    x: float
    y: float
    width: float
    height: float
    depth: Point
    shape: Shape
    leaf: Leaf | None
    window: Point | None = None

    @property
    def left(self) -> Point:
        """Where what is seen of the box before it leads to."""
        return self.x, self.y + self.height / 2

    @property
    def leave(self) -> Point:
        """Where an arrow to the next begins: in the middle of its far side, or beside a bar."""
        if self.depth == (0, 0):
            return self.x + self.width + 3, self.y + self.height / 2
        return self.x + self.width + self.depth[0] / 2, self.y + (self.height - self.depth[1]) / 2

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """left, top, right, bottom of all that is drawn of it"""
        return self.x, self.y - self.depth[1], self.x + self.width + self.depth[0], self.y + self.height


@dataclass(frozen=True, slots=True)
class Row:
    """Volumes beside one another, sizes above and layers below them."""

    volumes: tuple[Volume, ...]
    labels: tuple[Label, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything is. turns: the ways from the last volume of a row to the first of the next"""

    width: float
    height: float
    rows: tuple[Row, ...]
    turns: tuple[tuple[Point, ...], ...]

    @property
    def volumes(self) -> list[Volume]:
        return [volume for row in self.rows for volume in row.volumes]

    @property
    def labels(self) -> list[Label]:
        return [label for row in self.rows for label in row.labels]


def layout(leaves: Sequence[Leaf], start: Shape) -> Layout:
    """Volumes from left to right, in as many rows as they need, each about as long. start: the model's input"""
    volumes = _volumes(leaves, start)
    made = _rows(volumes, WIDTH)
    low, high = 0.0, WIDTH
    for _ in range(12):
        middle = (low + high) / 2
        narrower = _rows(volumes, middle)
        if len(narrower) == len(made):
            made, high = narrower, middle
        else:
            low = middle
    note = Label(MARGIN, max(label.y for label in made[-1].labels) + 1.6 * MARGIN, NOTE)
    rows = (*made[:-1], Row(made[-1].volumes, (*made[-1].labels, note)))
    turns = tuple(_turn(before, after) for before, after in pairwise(rows))
    right = max(_end(row) for row in rows)
    right = max(right, *(x for turn in turns for x, _ in turn)) if turns else right
    return Layout(right + MARGIN, note.y + MARGIN, rows, turns)


def _end(row: Row) -> float:
    """How far it reaches to the right, its texts included."""
    return max(*(volume.extent[2] for volume in row.volumes), *(label.x + label.width for label in row.labels))


def _turn(row: Row, below: Row) -> tuple[Point, ...]:
    """Around the texts of both."""
    start, end = row.volumes[-1].leave, below.volumes[0].left
    right, left = _end(row) + 12, min(below.volumes[0].x - 44, below.labels[0].x - 14)
    between = min(label.y for label in below.labels) - 24
    return start, (right, start[1]), (right, between), (left, between), (left, end[1]), (end[0] - 3, end[1])


def _rows(volumes: Sequence[Volume], width: float) -> list[Row]:
    rows: list[Row] = []
    top, at = TITLE, 0
    while at < len(volumes):
        row = _row(volumes[at:], top, width, first=at == 0)
        rows.append(row)
        at += len(row.volumes)
        top = max(label.y for label in row.labels) + BETWEEN
    return rows


def _volumes(leaves: Sequence[Leaf], start: Shape) -> list[Volume]:
    """Each with its sizes, none in its place."""
    shapes = [start, *(leaf.rows[-1].output for leaf in leaves)]
    spatial = [shape for shape in shapes if len(shape) == 3]
    side = max(max(shape[:2]) for shape in spatial)
    thick = max(max(shape[2] for shape in spatial), 64)
    units = max([shape[0] for shape in shapes if len(shape) == 1], default=1)
    found = []
    for shape, leaf, following in zip(shapes, (None, *leaves), (*leaves, None), strict=True):
        if len(shape) == 1:
            found.append(Volume(0, 0, 11, _root(shape[0], units, BAR), (0, 0), shape, leaf))
            continue
        height, width = (_root(n, side, SIDE) for n in shape[:2])
        depth = BACK[0] * width, BACK[1] * width
        seen = None
        window = None if following is None or following.part else following.main.window
        if window is not None and not window.transposed:
            seen = min(1.0, sqrt(window.extent[0] / shape[0])), min(1.0, sqrt(window.extent[1] / shape[1]))
        found.append(Volume(0, 0, _root(shape[2], thick, THICK), height, depth, shape, leaf, seen))
    return found


def _root(n: int, largest: int, limits: tuple[float, float]) -> float:
    most, least = limits
    return max(least, most * sqrt(n / largest))


def _row(volumes: Sequence[Volume], top: float, width: float, first: bool) -> Row:
    """As many of the volumes as fit beside one another, at least one."""
    placed: list[tuple[Volume, float, Label, list[Label]]] = []
    x = MARGIN if first else MARGIN + 50
    above_end = below_end = x - APART
    for i, volume in enumerate(volumes):
        above, below = _above(volume), _below(volume)
        across, wide = volume.width + volume.depth[0], max(label.width for label in below)
        before = x
        x += GAP if i else 0
        x = max(x, above_end + APART + above.width / 2 - across / 2)
        # The layer stands below the gap that it fills, and further right where the text before it needs the room.
        center = below_end + APART + wide / 2
        x = max(x, center - across / 2)
        center = max(center, (before + x) / 2 if i else x + across / 2)
        if placed and max(x + across, center + wide / 2) > width:
            break
        placed.append((replace(volume, x=x), center, above, below))
        above_end, below_end = x + across / 2 + above.width / 2, center + wide / 2
        x += across
    half = max((volume.height + volume.depth[1]) / 2 for volume, *_ in placed)
    axis = top + 18 + half
    labels: list[Label] = []
    made: list[Volume] = []
    for volume, center, above, below in placed:
        here = replace(volume, y=axis - (volume.height - volume.depth[1]) / 2)
        made.append(here)
        middle = (here.extent[0] + here.extent[2]) / 2
        labels.append(_centred(above, middle, here.extent[1] - 8))
        y = axis + half + BELOW
        labels += [_centred(label, center, y + n * LINE) for n, label in enumerate(below)]
    return Row(tuple(made), tuple(labels))


def _centred(label: Label, x: float, y: float) -> Label:
    return replace(label, x=x - label.width / 2, y=y, centred=True)


def _above(volume: Volume) -> Label:
    return Label(0, 0, by(volume.shape), 11.5, bold=True, color=INK)


def _below(volume: Volume) -> list[Label]:
    """What the layer does, line by line."""
    if volume.leaf is None:
        return [Label(0, 0, "input", 11.5, bold=True, color=INK)]
    leaf = volume.leaf
    row = leaf.main
    lines = [Label(0, 0, leaf.name, 11.5, bold=True, color=INK)]
    lines += [Label(0, 0, text, 11.0) for text in leaf.above]
    words = leaf.title if leaf.part else operation(row).removesuffix(f" {row.output[-1]}")
    if words != leaf.name:
        lines.append(Label(0, 0, words, 11.0, color=INK))
    if not leaf.part and (text := window_text(row)):
        lines.append(Label(0, 0, text, 11.0))
    lines += [Label(0, 0, part, 11.0) for text in leaf.below for part in text.split(", ")]
    params = sum(one.param_count for one in leaf.rows)
    if params:
        lines.append(Label(0, 0, f"{params:,} params", 11.0, color=GREY))
    return lines
