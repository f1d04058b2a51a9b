"""What MkDocs asks while it builds the site: the README in place of the tour, the course's pages, links that lead out.

``mkdocs build --strict --config-file .ci/mkdocs.yml``, or ``make site``.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
#: The README from here on is the tour; what is above it is on the site's first page.
BEGIN = "## Two commands"
_README = re.compile(r"<!-- README.*?-->.*", re.S)
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """The pages of docs/course, in the order of their names, under Course; no such heading where there are none."""
    pages = sorted(file.name for file in (Path(config.docs_dir) / "course").glob("*.md"))
    pages.sort(key=lambda name: name != "index.md")
    nav = []
    for entry in config.nav:
        if entry == {"Course": []}:
            if pages:
                nav.append({"Course": [f"course/{name}" for name in pages]})
        else:
            nav.append(entry)
    config.nav = nav
    return config


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """A page's text with links that lead out of docs/ as plain text: the site has no such pages."""
    source = page.file.src_uri
    if _README.search(markdown):
        readme = (ROOT / "README.md").read_text("utf-8")
        text = readme[readme.index(BEGIN) :].replace("](docs/", "](")
        markdown = _README.sub(lambda _: text, markdown)

    def inside(link: re.Match[str]) -> str:
        target = link[2]
        if re.match(r"[a-z]+:", target):
            return link[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        return link[0] if files.get_file_from_path(path) is not None else link[1]

    return _LINK.sub(inside, markdown)
