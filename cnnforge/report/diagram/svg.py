"""A picture as SVG: text stays text, nothing is fetched, and the same picture gives the same bytes.

No style sheet and no ids, so that it can stand in a page beside others.
"""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from cnnforge.report.diagram.canvas import FONTS, PAPER, Line, Picture, Point, Polygon, Rect, Shape, Text, head, pen

_DASHES = ' stroke-dasharray="5 3"'


def svg(picture: Picture) -> str:
    """The whole file."""
    width, height = _n(picture.width), _n(picture.height)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label={quoteattr(picture.title)} font-family="{FONTS}" style="max-width:100%;height:auto">',
        f"<title>{escape(picture.title)}</title>",
        f"<desc>{escape(picture.description)}</desc>",
        f'<rect width="{width}" height="{height}" fill="{PAPER}"/>',
        *map(_element, picture.shapes),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _element(shape: Shape) -> str:
    match shape:
        case Text():
            bold = ' font-weight="bold"' if shape.bold else ""
            return (
                f'<text x="{_n(shape.x)}" y="{_n(shape.y)}" font-size="{_n(shape.size)}" text-anchor="{shape.anchor}"'
                f'{bold} fill="{shape.color}">{escape(shape.text)}</text>'
            )
        case Rect():
            radius = f' rx="{_n(shape.radius)}"' if shape.radius else ""
            dashes = _DASHES if shape.dashed else ""
            return (
                f'<rect x="{_n(shape.x)}" y="{_n(shape.y)}" width="{_n(shape.width)}" height="{_n(shape.height)}"'
                f'{radius} fill="{shape.fill}" stroke="{shape.stroke}"{dashes}/>'
            )
        case Polygon():
            return (
                f'<polygon points="{" ".join(map(_point, shape.points))}" fill="{shape.fill}" '
                f'stroke="{shape.stroke}" stroke-linejoin="round"/>'
            )
        case Line():
            return _line(shape)


def _line(line: Line) -> str:
    way = " ".join(f"{command}{' '.join(map(_point, points))}" for command, points in pen(line))
    drawn = f'<path d="{way}" fill="none" stroke="{line.stroke}" stroke-width="{_n(line.width)}"/>'
    return drawn + (_element(Polygon(head(line), line.stroke)) if line.arrow else "")


def _point(point: Point) -> str:
    return f"{_n(point[0])},{_n(point[1])}"


def _n(number: float) -> str:
    """At most one digit behind the point; never -0."""
    return f"{round(number, 1) + 0.0:.1f}".removesuffix(".0")
