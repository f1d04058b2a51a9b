"""Tables that appear row by row, aligned or as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class Table:
    """Columns by heading, each with the least characters it is wide; the first ``words`` columns are text.

    A cell may be a text or a number: ``None`` shows as ``-``, floats with as many digits as say something.
    """

    def __init__(self, columns: Mapping[str, int], words: int = 1, markdown: bool = False) -> None:
        self._widths = [max(width, len(name)) for name, width in columns.items()]
        self._words, self._markdown = words, markdown
        if markdown:
            print()
        self._print(list(columns))
        if markdown:
            print("|" + "---|" * len(columns), flush=True)

    def row(self, *cells: object) -> None:
        """Print one row."""
        assert len(cells) == len(self._widths), "a cell for every column"
        self._print([shown(cell) for cell in cells])

    def notes(self, *texts: str) -> None:
        """Print lines below the table."""
        if texts and self._markdown:
            print()
        for text in texts:
            print(text)

    def _print(self, texts: Sequence[str]) -> None:
        if self._markdown:
            print("| " + " | ".join(texts) + " |", flush=True)
            return
        padded = (
            text.ljust(width) if i < self._words else text.rjust(width)
            for i, (text, width) in enumerate(zip(texts, self._widths, strict=True))
        )
        print("  ".join(padded).rstrip(), flush=True)


def shown(cell: object) -> str:
    """A cell as text: three figures of a float, ``-`` for None."""
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:.0f}" if abs(cell) >= 100 else f"{cell:.1f}" if abs(cell) >= 10 else f"{cell:.2f}"
    return str(cell)


def milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3


def share(part: float) -> str:
    """0.25 -> ``25%``."""
    return f"{part:.0%}"
