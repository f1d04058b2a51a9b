"""A picture as PNG, drawn by Matplotlib from the same shapes as the SVG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from cnnforge.report.diagram.canvas import PAPER, Line, Picture, Polygon, Rect, Shape, Text, head, pen

if TYPE_CHECKING:
    from matplotlib.artist import Artist

#: Pixels across that a small picture is enlarged to, and how many times at most.
LEAST, MOST_TIMES = 1600, 2.5
#: Points to an inch, Matplotlib's measure of text and lines.
_POINTS = 72


def save_png(picture: Picture, file: Path | BinaryIO, least: float = LEAST, smallest: float = 1.0) -> None:
    """Write the picture, ``least`` pixels wide or wider where that is not too large. Raises OSError.

    smallest: no more than to this share of its own size is it made smaller
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(picture.width / _POINTS, picture.height / _POINTS), facecolor=PAPER)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, picture.width), ylim=(picture.height, 0))
    axes.set_axis_off()
    for order, shape in enumerate(picture.shapes):
        for artist in _artists(shape):
            artist.set_zorder(order)
            axes.add_artist(artist)
    scale = min(max(smallest, least / picture.width), MOST_TIMES)
    # Without its own name and version Matplotlib writes the same bytes every time.
    figure.savefig(file, format="png", dpi=_POINTS * scale, metadata={"Software": None})


def _artists(shape: Shape) -> list[Artist]:
    from matplotlib.patches import FancyBboxPatch
    from matplotlib.text import Text as Label

    match shape:
        case Text():
            side = {"start": "left", "middle": "center", "end": "right"}[shape.anchor]
            weight = "bold" if shape.bold else "normal"
            return [
                Label(
                    shape.x, shape.y, shape.text, fontsize=shape.size, fontfamily="DejaVu Sans", fontweight=weight,
                    color=shape.color, ha=side, va="baseline", parse_math=False,
                )
            ]  # fmt: skip
        case Rect():
            style = f"round,pad=0,rounding_size={shape.radius}" if shape.radius else "square,pad=0"
            return [
                FancyBboxPatch(
                    (shape.x, shape.y), shape.width, shape.height, boxstyle=style, facecolor=shape.fill,
                    edgecolor=shape.stroke, linewidth=1, linestyle=(0, (5, 3)) if shape.dashed else "-",
                )
            ]  # fmt: skip
        case Polygon():
            return [_polygon(shape)]
        case Line():
            return _line(shape)


def _polygon(shape: Polygon) -> Artist:
    from matplotlib.patches import Polygon as Patch

    return Patch(
        shape.points, closed=True, facecolor=shape.fill, edgecolor=shape.stroke, linewidth=1, joinstyle="round"
    )


def _line(line: Line) -> list[Artist]:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Way

    codes = {"M": [Way.MOVETO], "L": [Way.LINETO], "Q": [Way.CURVE3, Way.CURVE3]}
    steps = pen(line)
    way = Way(
        [point for _, points in steps for point in points], [code for command, _ in steps for code in codes[command]]
    )
    drawn = PathPatch(way, facecolor="none", edgecolor=line.stroke, linewidth=line.width)
    return [drawn, _polygon(Polygon(head(line), line.stroke))] if line.arrow else [drawn]
