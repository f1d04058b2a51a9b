"""Whole sweep commands, for tests of several drivers and of what kills them."""

import json
import os
import subprocess
import sys
from pathlib import Path

QUICK = [
    "model=lenet5", "data=synthetic", "data.samples=64", "data.test_samples=16", "tracking=none",
    "trainer.max_steps=2", "trainer.batch_size=16", "trainer.backend=numpy", "trainer.threads=1",
]  # fmt: skip
ROOT = Path(__file__).parents[2]


def begin(*words, **variables):
    """The command, under way."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.Popen(
        [sys.executable, "-m", "cnnforge.cli.main", *words], env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finished(*processes):
    """What commands have printed, once they have ended well."""
    said = []
    for process in processes:
        out, _ = process.communicate(timeout=300)
        assert process.returncode == 0, out
        said.append(out)
    return said


def kept(folder):
    """``sweep.json``."""
    return json.loads((Path(folder) / "sweep.json").read_text())
