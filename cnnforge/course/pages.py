"""docs/course: ``python -m cnnforge.course.pages docs/course`` writes it; a test holds the committed pages to this."""

from __future__ import annotations

import sys
from pathlib import Path

from cnnforge.course.markdown import everything


def write(folder: Path) -> None:
    """Write all pages and pictures into ``folder``, and remove pages and pictures that are no longer made."""
    folder.mkdir(parents=True, exist_ok=True)
    files = everything()
    for file in folder.iterdir():
        if file.suffix in (".md", ".svg", ".png") and file.name not in files:
            file.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
