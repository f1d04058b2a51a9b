"""Parts of a picture of boxes and wires, and pieces made of them: every place worked out, nothing drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cnnforge.report.diagram.canvas import GREY, INK, Point, text_width
from cnnforge.report.diagram.structure import Leaf

SMALL, USUAL = 10.0, 12.0
#: Between text and the border of its box, and from one line of text to the next, for each size.
PAD, LINE = 9.0, {SMALL: 13.0, USUAL: 16.0}


@dataclass(frozen=True, slots=True)
class Label:
    """A line of text from (x, y), the left end of its baseline.

    centred: where a reader's font is narrower than the one it was measured in, it stands in the middle of its place
    """

    x: float
    y: float
    text: str
    size: float = SMALL
    bold: bool = False
    color: str = GREY
    centred: bool = False

    @property
    def width(self) -> float:
        return text_width(self.text, self.size, self.bold)

    def moved(self, dx: float, dy: float) -> Label:
        return replace(self, x=self.x + dx, y=self.y + dy)


@dataclass(frozen=True, slots=True)
class Box:
    """A leaf's box. lines: their places counted from its upper left;  round: with half circles for ends"""

    x: float
    y: float
    width: float
    height: float
    leaf: Leaf
    lines: tuple[Label, ...]
    round: bool = False

    def moved(self, dx: float, dy: float) -> Box:
        return replace(self, x=self.x + dx, y=self.y + dy)


@dataclass(frozen=True, slots=True)
class Wire:
    """From output to input. arrow: it ends at a box, not only at another wire"""

    points: tuple[Point, ...]
    arrow: bool = True

    def moved(self, dx: float, dy: float) -> Wire:
        return replace(self, points=tuple((x + dx, y + dy) for x, y in self.points))


@dataclass(frozen=True, slots=True)
class Border:
    """Around what has one name, or is there several times."""

    x: float
    y: float
    width: float
    height: float
    repeated: bool = False

    def moved(self, dx: float, dy: float) -> Border:
        return replace(self, x=self.x + dx, y=self.y + dy)


Part = Label | Box | Wire | Border


@dataclass(frozen=True, slots=True)
class Piece:
    """Parts with (0, 0) at their upper left, entered at (axis, 0) and left at (axis, height).

    arrow: is what is entered there a box?
    """

    width: float
    height: float
    axis: float
    parts: tuple[Part, ...]
    arrow: bool = True

    def at(self, x: float, y: float) -> tuple[Part, ...]:
        """The parts, the way in at (x, y)."""
        return tuple(part.moved(x - self.axis, y) for part in self.parts)


def box(leaf: Leaf, name: str = "", least: float = 0.0) -> Piece:
    """A leaf by itself. name: stands above its title where it has one of its own;  least: how wide it is at least"""
    lines = [Label(0, 0, name, SMALL, bold=True, color=INK)] if name not in ("", leaf.title) else []
    lines += [Label(0, 0, text) for text in leaf.above]
    lines.append(Label(0, 0, leaf.title, USUAL, color=INK))
    lines += [Label(0, 0, text) for text in (*leaf.below, *(["in the first only"] if leaf.first_only else []))]
    width = max(least, *(line.width + 2 * PAD for line in lines))
    height = sum(LINE[line.size] for line in lines) + 8
    placed, y = [], 4.0
    for line in lines:
        y += LINE[line.size]
        placed.append(replace(line, x=(width - line.width) / 2, y=y - 3.5, centred=True))
    return _piece(Box(0, 0, width, height, leaf, tuple(placed)))


def pill(leaf: Leaf, least: float = 0.0) -> Piece:
    """Where ways meet. least: how wide it is at least"""
    text = Label(0, 0, ", ".join((leaf.title, *leaf.below)), USUAL, color=INK, centred=True)
    width = max(text.width + 2 * PAD, 26.0, least)
    return _piece(Box(0, 0, width, 22, leaf, (text.moved((width - text.width) / 2, 15.2),), round=True))


def _piece(made: Box) -> Piece:
    return Piece(made.width, made.height, made.width / 2, (made,))
