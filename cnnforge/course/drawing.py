"""The pictures of a page as files: numbers as SVG, photographs and feature maps as PNG.

SVG text is compared letter by letter with what is committed, so every length is a whole number of pixels.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from html import escape

import numpy as np
from numpy.typing import NDArray

from cnnforge.course.colours import BLUE, colours, is_dark, text_of
from cnnforge.course.parts import Array, Bars, Grid, Pictures, Strip, number

#: Pixels: a cell's height and least width, around everything, around a sign, for a title, for a digit, for a sign's
#: letter.
CELL, EDGE, SIGN, TITLE, DIGIT, LETTER = 34, 14, 20, 26, 9, 12
FRAME, INK, PALE, PAPER = "#e66101", "#1a1a1a", "#8a8a8a", "#f4f4f4"
#: Pixels between pictures that stand side by side.
GAP = 8
#: The grey of their frames.
LINE = 190
#: Colours that a photograph keeps, so that its file stays small.
PALETTE = 96


def strip_svg(strip: Strip) -> str:
    """Grids in a line, their middles at one height, with the signs between them."""
    tall = max(item.values.shape[0] for item in strip.items if isinstance(item, Grid)) * CELL
    body: list[str] = []
    x = EDGE
    for before, item in zip((None, *strip.items), strip.items, strict=False):
        if isinstance(before, Grid) and isinstance(item, Grid):
            x += SIGN
        if isinstance(item, str):
            width = 2 * SIGN + LETTER * (len(item) - 1)
            body.append(_text(x + width // 2, EDGE + TITLE + tall // 2, item, 20, INK))
        else:
            width = max(_cell(item) * item.values.shape[1], 7 * len(item.title))
            left = x + (width - _cell(item) * item.values.shape[1]) // 2
            top = EDGE + TITLE + (tall - CELL * item.values.shape[0]) // 2
            body.append(_text(x + width // 2, top - 13, item.title, 13, INK, "sans-serif"))
            body += _grid(item, left, top)
        x += width
    return _svg(x + EDGE, 2 * EDGE + TITLE + tall, strip.caption, body)


def bars_svg(bars: Bars) -> str:
    """Horizontal bars, the longest over the whole width."""
    label = 8 * max(len(row[0]) for row in bars.rows)
    note = 8 * max(len(row[2]) for row in bars.rows)
    most, room, step = max(row[1] for row in bars.rows) or 1.0, 420, 26
    body = []
    for i, (name, value, said) in enumerate(bars.rows):
        y, width = EDGE + i * step, max(1, round(room * value / most))
        body.append(_text(EDGE + label, y + step // 2, name, 13, INK, anchor="end"))
        body.append(f'<rect x="{EDGE + label + 10}" y="{y + 4}" width="{width}" height="{step - 8}" '
                    f'fill="#{BLUE[0]:02x}{BLUE[1]:02x}{BLUE[2]:02x}"/>')  # fmt: skip
        body.append(_text(EDGE + label + 18 + width, y + step // 2, said, 13, INK, anchor="start"))
    return _svg(2 * EDGE + label + 18 + room + note, 2 * EDGE + step * len(bars.rows), bars.caption, body)


def _cell(grid: Grid) -> int:
    """Pixels of a cell's width: as much as the longest number takes."""
    return max(CELL, 12 + DIGIT * max(len(number(float(v))) for v in grid.values.ravel()))


def _grid(grid: Grid, left: int, top: int) -> Iterable[str]:
    width, fills = _cell(grid), colours(grid.values, grid.scale, grid.limits)
    for (row, column), value in np.ndenumerate(grid.values):
        x, y, fill = left + int(column) * width, top + int(row) * CELL, fills[row, column]
        rim = grid.in_rim(row, column)
        paint, dashes = (PAPER, ' stroke-dasharray="3 3"') if rim else (text_of(fill), "")
        yield f'<rect x="{x}" y="{y}" width="{width}" height="{CELL}" fill="{paint}" stroke="#c8c8c8"{dashes}/>'
        ink = PALE if rim else "#ffffff" if is_dark(fill) else INK
        yield _text(x + width // 2, y + CELL // 2, number(float(value)), 14, ink)
    for box in grid.boxes:
        yield (
            f'<rect x="{left + box.column * width}" y="{top + box.row * CELL}" width="{box.width * width}" '
            f'height="{box.height * CELL}" fill="none" stroke="{FRAME}" stroke-width="4"/>'
        )


def _text(x: int, y: int, text: str, size: int, fill: str, family: str = "monospace", anchor: str = "middle") -> str:
    """``y``: of the letters' middle; moved by hand, because not every program knows dominant-baseline."""
    return (
        f'<text x="{x}" y="{y + size * 35 // 100}" font-family="{family}" font-size="{size}" fill="{fill}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )


def _svg(width: int, height: int, title: str, body: Iterable[str]) -> str:
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" rx="6" fill="#ffffff"/>',
        *body,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def side_by_side(pictures: Pictures) -> NDArray[np.uint8]:
    """(rows, columns, 3): all of them in a line, each in a thin frame, on white, pixels enlarged as squares."""
    drawn = [
        array if array.ndim == 3 else colours(array, pictures.scale, _bounds(pictures)) for array in pictures.arrays
    ]
    enlarged = [array.repeat(pictures.enlarge, 0).repeat(pictures.enlarge, 1) for array in drawn]
    big = [np.pad(array, ((1, 1), (1, 1), (0, 0)), constant_values=LINE) for array in enlarged]
    tall = max(len(array) for array in big)
    padded = [np.pad(a, ((0, tall - len(a)), (0, GAP), (0, 0)), constant_values=255) for a in big]
    line: NDArray[np.uint8] = np.concatenate(padded, axis=1)[:, :-GAP]
    return line


def _bounds(pictures: Pictures) -> tuple[float, float] | None:
    """Feature maps beside each other are shown on one scale; pictures each on its own."""
    if pictures.scale != "signed":
        return None
    flat: Array = np.concatenate([array.ravel() for array in pictures.arrays if array.ndim == 2])
    return float(flat.min()), float(flat.max())


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG file of at most 256 colours: exactly these where there are no more, else the nearest."""
    from PIL import Image

    packed = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    found, index = np.unique(packed, return_inverse=True)
    if len(found) <= 256:
        image = Image.fromarray(index.reshape(packed.shape).astype(np.uint8), "P")
        image.putpalette([int(colour) >> shift & 255 for colour in found for shift in (16, 8, 0)])
    else:
        image = Image.fromarray(pixels).quantize(PALETTE, dither=Image.Dither.NONE)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()
