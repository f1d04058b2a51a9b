"""What a page is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnforge.spec import RunSpec

Array = NDArray[Any]
#: How numbers become colours: ``brightness`` from the least, dark, to the greatest; ``signed`` red, white at 0, blue.
Scale = Literal["brightness", "signed", "none"]


@dataclass(frozen=True)
class Heading:
    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph. Between backticks is code; ``[words](address)`` is a link."""

    text: str


@dataclass(frozen=True)
class Items:
    """A list of paragraphs."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Code:
    """Lines that are kept as they are."""

    text: str
    language: str = "text"


@dataclass(frozen=True)
class Table:
    """head: of the columns;  words: how many of them, from the left, are words; the others are numbers"""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1


@dataclass(frozen=True)
class Box:
    """A part of a grid to be framed: its first row and column, its height and width."""

    row: int
    column: int
    height: int = 1
    width: int = 1

    def holds(self, row: int, column: int) -> bool:
        return self.row <= row < self.row + self.height and self.column <= column < self.column + self.width


@dataclass(frozen=True)
class Grid:
    """Numbers in their places, coloured.

    values: (rows, columns);  bounds: the numbers with the strongest colours; those of ``values`` where not given
    rim: (top, bottom, left, right) rows and columns that are padding
    """

    title: str
    values: Array
    scale: Scale = "signed"
    boxes: tuple[Box, ...] = ()
    rim: tuple[int, int, int, int] = (0, 0, 0, 0)
    bounds: tuple[float, float] | None = None

    def in_rim(self, row: int, column: int) -> bool:
        rows, columns = self.values.shape
        top, bottom, left, right = self.rim
        return not (top <= row < rows - bottom and left <= column < columns - right)

    @property
    def limits(self) -> tuple[float, float]:
        """The numbers with the strongest colours. Grey begins a little above black, for the sake of the eyes."""
        low, high = self.bounds or (float(self.values.min()), float(self.values.max()))
        return (low - (high - low) / 4, high) if self.scale == "brightness" else (low, high)


@dataclass(frozen=True)
class Strip:
    """Grids and signs (``*``, ``=``) in one line.

    name: of the picture's file, without ending
    """

    name: str
    caption: str
    items: tuple[Grid | str, ...]


@dataclass(frozen=True)
class Pictures:
    """Pictures side by side: arrays (rows, columns) on a scale, or (rows, columns, 3) uint8.

    enlarge: how many times as large each pixel is drawn
    """

    name: str
    caption: str
    arrays: tuple[Array, ...]
    scale: Scale = "brightness"
    enlarge: int = 1


@dataclass(frozen=True)
class Bars:
    """One bar for each (label, number, what is written beside it)."""

    name: str
    caption: str
    rows: tuple[tuple[str, float, str], ...]


@dataclass(frozen=True)
class Exercise:
    """A question that one command answers.

    overrides: of the command, changes of the topic's config;  answer: from that config to the answer, in words
    """

    question: str
    overrides: tuple[str, ...]
    answer: Callable[[RunSpec], str]


Part = Heading | Text | Items | Code | Table | Strip | Pictures | Bars | Exercise


@dataclass(frozen=True)
class Page:
    topic: str
    title: str
    parts: tuple[Part, ...]

    @property
    def exercises(self) -> tuple[Exercise, ...]:
        return tuple(part for part in self.parts if isinstance(part, Exercise))


def number(value: float) -> str:
    """As people write it: whole numbers whole, others to three digits; never ``-0``."""
    if abs(value - round(value)) < 1e-9:
        return f"{round(value)}"
    return f"{value:.3g}"


def matrix(rows: str) -> Array:
    """``"1 0; 0 1"`` -> (2, 2) floats."""
    return np.array([row.split() for row in rows.split(";")], float)


def product_line(window: Array, kernel: Array) -> str:
    """The sum over a window, written out: ``10·1 + 10·0 + 0·(-1) = 10``. Both (rows, columns)."""
    pairs = zip(window.ravel().tolist(), kernel.ravel().tolist(), strict=True)
    words = [f"{number(x)}·{number(w) if w >= 0 else f'({number(w)})'}" for x, w in pairs]
    return f"{' + '.join(words)} = {number(float((window * kernel).sum()))}"
