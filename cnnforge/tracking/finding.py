"""Runs on disk, by the names that people give them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from cnnforge.errors import ConfigError, suggest
from cnnforge.tracking.state import mlflow_run_id


def find(name: str, runs_dir: Path) -> Path:
    """The run folder that ``name`` means: a folder, a name below ``runs_dir``, ``latest``, or an MLflow run id."""
    for folder in (Path(name), runs_dir / name):
        if (folder / "journal.jsonl").is_file():
            return folder.resolve()
    known = list(run_folders(runs_dir))
    for folder in known:
        if folder.name == name or mlflow_run_id(folder) == name:
            return folder
    raise ConfigError(
        f"{name}: no such run",
        where=str(runs_dir),
        why="it is neither a run folder, nor a name there, nor the MLflow id of a run there",
        fix=suggest(name, [folder.name for folder in known]) or "see what is there, or name the folder with --dir",
    )


def run_folders(runs_dir: Path) -> Iterator[Path]:
    """Every run folder below, also the trials of sweeps; links are not followed."""
    for here, below, files in os.walk(runs_dir):
        below.sort()
        if "journal.jsonl" in files:
            below.clear()
            yield Path(here).resolve()
