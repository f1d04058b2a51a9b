"""Runs on disk, by the names that people give them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from cnnforge.errors import ConfigError, suggest
from cnnforge.tracking.family import JOURNAL, TRIALS, is_number, trial_of, trial_runs
from cnnforge.tracking.state import mlflow_run_id, state_path


def find(name: str, runs_dir: Path) -> Path:
    """The run folder that ``name`` means: a folder, a name below ``runs_dir``, ``latest``, or an MLflow run id.

    A sweep is found as a run is; a trial by ``SWEEP/trials/N``, or by its number where no other sweep has it.
    """
    for folder in (Path(name), runs_dir / name):
        if (folder / JOURNAL).is_file():
            return folder.resolve()
    known = list(run_folders(runs_dir))
    for folder in known:
        if mlflow_run_id(folder) == name:
            return folder
    named = [folder for folder in known if folder.name == name]
    if len(named) > 1:
        there = [str(folder.relative_to(runs_dir.resolve())) for folder in named]
        raise ConfigError(
            f"{name}: {len(named)} runs have this name",
            where=str(runs_dir),
            why=", ".join(there[:5]) + (", ..." if len(there) > 5 else ""),
            fix=f"say which: {there[0]}",
        )
    if named:
        return named[0]
    if not known:
        raise ConfigError(
            f"{name}: no such run",
            where=str(runs_dir),
            why="no run is there" if runs_dir.is_dir() else "there is no such folder",
            fix="cnnforge train makes the first; --dir FOLDER where the runs are elsewhere",
        )
    raise ConfigError(
        f"{name}: no such run",
        where=str(runs_dir),
        why="it is neither a run folder, nor a name there, nor the MLflow id of a run there",
        fix=suggest(name, [folder.name for folder in known]) or _fix(runs_dir),
    )


def _fix(runs_dir: Path) -> str:
    where = "" if runs_dir == Path("runs") else f" --dir {runs_dir}"
    return f"cnnforge runs list{where} says what is there"


def run_folders(runs_dir: Path) -> Iterator[Path]:
    """Every run folder below, a sweep before its trials; links are not followed."""
    for here, below, files in os.walk(runs_dir):
        below.sort(key=lambda name: (int(name), name) if is_number(name) else (-1, name))
        if JOURNAL in files:
            below[:] = [name for name in below if name == TRIALS]
            yield Path(here).resolve()


def with_family(run_dirs: list[Path]) -> list[Path]:
    """The runs, each sweep with its trials and each trial after its sweep: the order in which they can be sent."""
    found: dict[Path, None] = {}
    for run_dir in run_dirs:
        trial = trial_of(run_dir)
        if trial is not None and (trial.sweep / JOURNAL).is_file() and state_path(trial.sweep).exists():
            found[trial.sweep] = None
        found |= dict.fromkeys([run_dir, *trial_runs(run_dir)])
    return list(found)
