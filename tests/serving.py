"""``cnnforge ui`` as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def serving(runs: Path) -> Iterator[tuple[subprocess.Popen[str], list[str], str]]:
    """(the process, the lines it said so far, the address): over the runs of a folder, until the block ends."""
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    command = [sys.executable, "-m", "cnnforge", "ui", "--dir", str(runs)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    lines: list[str] = []
    try:
        for line in process.stdout:
            lines.append(line.rstrip())
            if line.startswith("http://"):
                break
        yield process, lines, lines[-1].split()[0]
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()
