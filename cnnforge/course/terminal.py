"""A page in a terminal: grids with coloured cells, pictures as half blocks; plain text where there are no colours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TextIO

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.style import Style
from rich.table import Table as RichTable
from rich.text import Text as Line

from cnnforge.course import TOPICS, page
from cnnforge.course.colours import colours, is_dark, text_of
from cnnforge.course.drawing import side_by_side
from cnnforge.course.lesson import Lesson
from cnnforge.course.markdown import command
from cnnforge.course.parts import (
    Bars,
    Code,
    Exercise,
    Grid,
    Heading,
    Items,
    Part,
    Pictures,
    Strip,
    Table,
    Text,
    number,
)

#: Columns of text where nobody says how wide the terminal is, and at most.
WIDTH = 100
#: Columns of a picture, and of the longest bar.
PICTURE, BAR = 72, 40
#: From dark to light, where there are no colours.
RAMP = " .:-=+*#%@"
_MARKED = re.compile(r"(`[^`]+`|\*\*[^*]+\*\*|\*[^*]+\*)")
_STYLES = (("`", "cyan"), ("**", "bold"), ("*", "italic"))
_LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")


def show(lesson: Lesson, stream: TextIO, answers: bool = False) -> None:
    """Print a topic's page. answers: of its exercises too."""
    made = page(lesson)
    width = None if stream.isatty() else WIDTH
    console = Console(file=stream, width=width, highlight=False, markup=False, emoji=False)
    console.width = min(console.width, WIDTH)
    console.print(Line(made.title, style="bold"))
    console.print(Line(TOPICS[lesson.topic].about, style="italic"))
    changed = f" {' '.join(lesson.overrides)}" if lesson.overrides else ""
    console.print(Line(f"from configs/{TOPICS[lesson.topic].file}{changed}", style="dim"))
    for part in made.parts:
        if not isinstance(part, Exercise):
            _print(console, part)
    if made.exercises:
        _print(console, Heading("Exercises"))
    for i, exercise in enumerate(made.exercises, 1):
        console.print()
        console.print(_line(f"{i}. {exercise.question}"))
        console.print(Line(f"   {command(lesson.topic, exercise)}", style="cyan"), soft_wrap=True)
        if answers:
            console.print(Padding(_line(exercise.answer(lesson.changed(*exercise.overrides))), (0, 0, 0, 3)))
    if made.exercises and not answers:
        console.print(Line(f"\ncnnforge explain {lesson.topic} --answers has the answers", style="dim"))


def _print(console: Console, part: Part) -> None:
    console.print()
    if isinstance(part, Heading):
        console.print(Line(part.text, style="bold underline"))
    elif isinstance(part, Text):
        console.print(_line(part.text))
    elif isinstance(part, Items):
        for item in part.items:
            hanging = RichTable.grid(padding=(0, 1, 0, 0))
            hanging.add_row(" -", _line(item))
            console.print(hanging)
    elif isinstance(part, Code):
        console.print(Line("\n".join(f"    {line}" for line in part.text.splitlines()), style="cyan"), soft_wrap=True)
    elif isinstance(part, Table):
        _table(console, part)
    elif isinstance(part, Strip):
        for line in _strip(part, console):
            console.print(line, soft_wrap=True)
        console.print(Line(part.caption, style="italic"))
    elif isinstance(part, Pictures):
        for line in _pixels(side_by_side(part), console):
            console.print(line, soft_wrap=True)
        console.print(Line(part.caption, style="italic"))
    elif isinstance(part, Bars):
        label, most = max(len(row[0]) for row in part.rows), max(row[1] for row in part.rows) or 1.0
        for name, value, said in part.rows:
            length = max(1, round(BAR * value / most))
            console.print(Line.assemble(f"{name:>{label}} ", ("█" * length, "blue"), f" {said}"), soft_wrap=True)
        console.print(Line(part.caption, style="italic"))


def _line(text: str) -> Line:
    """A paragraph, its code coloured and its stresses slanted instead of marked."""
    line = Line()
    for piece in _MARKED.split(_LINK.sub(r"\1", text)):
        style = next((style for mark, style in _STYLES if piece.startswith(mark) and piece.endswith(mark)), None)
        line.append(piece.strip("`*") if style else piece, style)
    return line


def _table(console: Console, part: Table) -> None:
    table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(part.head):
        table.add_column(name, justify="left" if i < part.words else "right", overflow="fold")
    for row in part.rows:
        table.add_row(*(_line(cell) for cell in row))
    console.print(table)


def _strip(strip: Strip, console: Console) -> Iterable[Line]:
    """Grids beside each other as far as the width goes, then below."""
    blocks = [_sign(item) if isinstance(item, str) else _grid(item) for item in strip.items]
    rows: list[list[list[Line]]] = [[]]
    used = 0
    before: Grid | str | None = None
    for item, block in zip(strip.items, blocks, strict=True):
        width = block[0].cell_len
        if rows[-1] and isinstance(item, Grid) and isinstance(before, Grid):
            rows[-1].append(_sign(" "))
            used += rows[-1][-1][0].cell_len
        if used and used + width > console.width:
            rows.append([])
            used = 0
        rows[-1].append(block)
        used, before = used + width, item
    for row in rows:
        yield from _beside(row)


def _sign(sign: str) -> list[Line]:
    return [Line(f"  {sign}  ")]


def _beside(blocks: Sequence[Sequence[Line]]) -> Iterable[Line]:
    """Blocks of lines in a line, their middles at one height."""
    tall = max(map(len, blocks))
    for y in range(tall):
        line = Line()
        for block in blocks:
            at = y - (tall - len(block)) // 2
            line.append_text(block[at] if 0 <= at < len(block) else Line(" " * block[0].cell_len))
        yield line


def _grid(grid: Grid) -> list[Line]:
    """Cells as wide as the longest number; framed ones in brackets, zeros of padding as dots."""
    fills = colours(grid.values, grid.scale, grid.limits)
    wide = max(len(number(float(v))) for v in grid.values.ravel())
    rows, columns = grid.values.shape
    full = max(columns * (wide + 2), len(grid.title))
    lines = [Line(grid.title.ljust(full), style="dim")]
    for row in range(rows):
        line = Line()
        for column in range(columns):
            text = "·" if grid.in_rim(row, column) else number(float(grid.values[row, column]))
            framed = any(frame.holds(row, column) for frame in grid.boxes)
            text = f"[{text:>{wide}}]" if framed else f" {text:>{wide}} "
            if grid.scale == "none" or grid.in_rim(row, column):
                line.append(text)
            else:
                fill = fills[row, column]
                line.append(text, Style(color="white" if is_dark(fill) else "black", bgcolor=text_of(fill)))
        lines.append(line.append(" " * (full - columns * (wide + 2))))
    return lines


def _pixels(picture: NDArray[np.uint8], console: Console) -> Iterable[Line]:
    """Two rows of pixels in a line of half blocks; by brightness as letters where there are no colours."""
    small = _shrunk(picture, min(PICTURE, console.width))
    if console.color_system is None or console.no_color:
        grey = small[: len(small) // 2 * 2].astype(float).mean(-1)
        for upper, lower in zip(grey[::2], grey[1::2], strict=True):
            yield Line("".join(RAMP[int(value * (len(RAMP) - 1) / 255)] for value in (upper + lower) / 2).rstrip())
        return
    for upper, lower in zip(small[: len(small) // 2 * 2 : 2], small[1::2], strict=True):
        line = Line()
        for top, bottom in zip(upper, lower, strict=True):
            line.append("▀", Style(color=text_of(top), bgcolor=text_of(bottom)))
        yield line


def _shrunk(picture: NDArray[np.uint8], most: int) -> NDArray[np.uint8]:
    """At most so many columns: means of square blocks of pixels."""
    times = -(-picture.shape[1] // most)
    rows, columns = picture.shape[0] // times, picture.shape[1] // times
    blocks = picture[: rows * times, : columns * times].reshape(rows, times, columns, times, 3)
    means: NDArray[np.uint8] = np.rint(blocks.mean((1, 3))).astype(np.uint8)
    return means
