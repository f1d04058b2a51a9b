"""Where each value of a config was written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath

from cnnforge.errors import Path


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a text: ``configs/model/lenet.yaml:7:3``.

    source: a file as shown to the user, ``<text>``, or ``<override 'optimizer.lr=-1'>``
    line, column: from 1; line 0 where the source is one line by itself
    """

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


Marks = Mapping[Path, Mark]


def nearest(marks: Marks, path: Path) -> Mark | None:
    """The mark of ``path``, of the first thing inside it, or of the closest key around it; None where nothing is."""
    if path in marks:
        return marks[path]
    inside = [mark for known, mark in marks.items() if path and known[: len(path)] == path]
    if inside:
        return inside[0]
    return next((marks[path[:end]] for end in range(len(path) - 1, -1, -1) if path[:end] in marks), None)


def changes(marks: Marks, path: Path) -> list[Mark]:
    """The overrides that wrote something inside ``path``."""
    inside = (mark for known, mark in marks.items() if len(known) > len(path) and known[: len(path)] == path)
    return list(dict.fromkeys(mark for mark in inside if not mark.line))


def shown(file: FilePath) -> str:
    """A file's path as the user would type it: relative to the working directory where it lies below."""
    absolute, here = file.absolute(), FilePath.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)
