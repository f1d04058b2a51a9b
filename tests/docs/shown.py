"""Commands that pages show with what they print.

``python -m tests.docs.shown`` (``make docs``) writes every such block anew; look at the difference.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import tempfile
from pathlib import Path
from unittest.mock import patch

from cnnforge.cli.main import main
from tests.cores import two_cores

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"(^```text\n\$ (cnnforge [^\n]*)\n)(.*?)(^```)", re.M | re.S)
_FILE = re.compile(r"^```yaml\n(# (configs/\S+\.yaml)\n.*?)^```", re.M | re.S)


def written_anew(document: Path) -> str:
    """The document with every ``$ cnnforge …`` block as it would print now.

    The commands run in a checkout, or beside the page's own files where it shows some that no checkout has,
    and on a machine of two cores that has not been measured.
    """
    text = document.read_text("utf-8")
    own = {name: content for content, name in _FILE.findall(text) if not (ROOT / name).exists()}
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, XDG_CACHE_HOME=folder):
        for name, content in own.items():
            file = Path(folder) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, "utf-8")
        with contextlib.chdir(folder if own else ROOT), two_cores():
            return _BLOCK.sub(lambda found: f"{found[1]}{_printed(found[2])}\n{found[4]}", text)


def _printed(command: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        main(shlex.split(command.removeprefix("cnnforge ")))
    return out.getvalue().strip()


if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(written_anew(document), "utf-8")
