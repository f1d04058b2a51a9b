"""What a picture is made of: a few shapes on white paper, and how wide text is. Nothing here draws.

Lengths are in pixels of the picture at its own size; x grows to the right, y downward.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot
from typing import Literal

Point = tuple[float, float]
Anchor = Literal["start", "middle", "end"]

INK, GREY, RULE, PAPER = "#1b2733", "#5b6875", "#8a97a3", "#ffffff"
#: What the labels are set in: the first of these that a reader's machine has.
FONTS = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
#: Length and half the width of an arrow's head.
HEAD, WING = 8.0, 3.6


@dataclass(frozen=True, slots=True)
class Text:
    """One line. y: of the baseline;  size: of the letters, in pixels"""

    x: float
    y: float
    text: str
    size: float = 12.0
    anchor: Anchor = "middle"
    bold: bool = False
    color: str = INK


@dataclass(frozen=True, slots=True)
class Rect:
    x: float
    y: float
    width: float
    height: float
    fill: str
    stroke: str = "none"
    radius: float = 0.0
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Polygon:
    points: tuple[Point, ...]
    fill: str
    stroke: str = "none"


@dataclass(frozen=True, slots=True)
class Line:
    """Straight pieces from point to point. radius: of its corners;  arrow: with a head at the end"""

    points: tuple[Point, ...]
    stroke: str = RULE
    width: float = 1.3
    radius: float = 0.0
    arrow: bool = False


Shape = Text | Rect | Polygon | Line


@dataclass(frozen=True, slots=True)
class Picture:
    """Shapes in the order in which they are drawn.

    title: what it shows, in a few words;  description: the same for those who cannot see it
    """

    width: float
    height: float
    title: str
    description: str
    shapes: tuple[Shape, ...]


def head(line: Line) -> tuple[Point, Point, Point]:
    """The corners of an arrow's head, its tip first."""
    (x0, y0), (x, y) = line.points[-2:]
    length = hypot(x - x0, y - y0) or 1.0
    dx, dy = (x - x0) / length, (y - y0) / length
    foot_x, foot_y = x - HEAD * dx, y - HEAD * dy
    return (x, y), (foot_x - WING * dy, foot_y + WING * dx), (foot_x + WING * dy, foot_y - WING * dx)


def pen(line: Line) -> list[tuple[Literal["M", "L", "Q"], tuple[Point, ...]]]:
    """The way of the pen: move to, line to, and quadratic curves (control point, end) at round corners.

    It ends within the head of an arrow, so that the tip stays sharp.
    """
    points = list(line.points)
    if line.arrow:
        _, left, right = head(line)
        points[-1] = (left[0] + right[0]) / 2, (left[1] + right[1]) / 2
    way: list[tuple[Literal["M", "L", "Q"], tuple[Point, ...]]] = [("M", (points[0],))]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        radius = min(line.radius, _distance(before, corner) / 2, _distance(corner, after) / 2)
        if radius > 0:
            way += [("L", (_toward(corner, before, radius),)), ("Q", (corner, _toward(corner, after, radius)))]
        else:
            way.append(("L", (corner,)))
    return [*way, ("L", (points[-1],))]


def _distance(a: Point, b: Point) -> float:
    return hypot(b[0] - a[0], b[1] - a[1])


def _toward(a: Point, b: Point, far: float) -> Point:
    """The point ``far`` away from ``a`` in the direction of ``b``."""
    share = far / (_distance(a, b) or 1.0)
    return a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Pixels from end to end in DejaVu Sans, the widest of ``FONTS``; what it has no width for counts as its widest."""
    table = _BOLD if bold else _PLAIN
    return sum(table.get(letter, 1000) for letter in text) * size / 1000


def _widths(*widths: int) -> dict[str, int]:
    return dict(zip(map(chr, range(32, 127)), widths, strict=True))


# Advance widths of the printable ASCII characters, in thousandths of the font's size.
# fmt: off
_PLAIN = _widths(
    318, 401, 460, 838, 636, 950, 780, 275, 390, 390, 500, 838, 318, 361, 318, 337, 636, 636, 636, 636, 636, 636, 636,
    636, 636, 636, 337, 337, 838, 838, 838, 531, 1000, 684, 686, 698, 770, 632, 575, 775, 752, 295, 295, 656, 557, 863,
    748, 787, 603, 787, 695, 635, 611, 732, 684, 989, 685, 611, 685, 390, 337, 390, 838, 500, 500, 613, 635, 550, 635,
    615, 352, 635, 634, 278, 278, 579, 278, 974, 634, 612, 635, 635, 411, 521, 392, 634, 592, 818, 592, 592, 525, 636,
    337, 636, 838,
)
_BOLD = _widths(
    348, 456, 521, 838, 696, 1002, 872, 306, 457, 457, 523, 838, 380, 415, 380, 365, 696, 696, 696, 696, 696, 696, 696,
    696, 696, 696, 400, 400, 838, 838, 838, 580, 1000, 774, 762, 734, 830, 683, 683, 821, 837, 372, 372, 775, 637, 995,
    837, 850, 733, 850, 770, 720, 682, 812, 774, 1103, 771, 724, 725, 457, 365, 457, 838, 500, 500, 675, 716, 593, 716,
    678, 435, 716, 712, 343, 343, 665, 343, 1042, 712, 687, 716, 716, 493, 595, 478, 712, 652, 924, 645, 652, 582, 712,
    365, 712, 838,
)
# fmt: on
