"""Runs on disk, by the names that people give them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from cnnforge.errors import ConfigError, suggest
from cnnforge.tracking.family import (
    FOLDS,
    JOURNAL,
    SWEEP,
    TRIALS,
    is_number,
    name_of,
    runs_of_trial,
    trial_of,
    trial_runs,
)
from cnnforge.tracking.state import mlflow_run_id, state_path


def find(name: str, runs_dir: Path) -> Path:
    """The run folder that ``name`` means: a folder, a name below ``runs_dir``, ``latest``, or an MLflow run id.

    A sweep is found as a run is; a trial by ``SWEEP/trials/N``, or by its number where no other sweep has it.
    """
    for folder in (Path(name), runs_dir / name):
        if (folder / JOURNAL).is_file():
            return folder.resolve()
        if (folder / FOLDS).is_file():
            raise _folds(folder)
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
        why="it is neither a run folder, nor a name there, nor the MLflow id of a run there"
        if not is_saved_model(Path(name))
        else "it is a saved model: predict, export and serve take one",
        fix=suggest(name, [folder.name for folder in known]) or _fix(runs_dir),
    )


def find_run(name: str, runs_dir: Path) -> Path:
    """As ``find``, for what can be done with one training only. Raises ConfigError for a sweep, with its best trial."""
    folder = find(name, runs_dir)
    if not is_sweep(folder):
        return folder
    best = _best(folder)
    if best is not None:
        here = folder.parent == runs_dir.resolve()
        fix = f"{name_of(best) if here else os.path.relpath(best)} instead, the best of its trials"
    else:
        fix = f"one of its trials: cnnforge sweep report {folder.name} says which there are"
    raise ConfigError(
        f"{folder.name} is a sweep", where=str(folder), why="this is done with one run, and a sweep has many", fix=fix
    )


def find_model(name: str, runs_dir: Path) -> Path:
    """As ``find_run``, or the folder of a saved model, by its path."""
    return Path(name) if is_saved_model(Path(name)) else find_run(name, runs_dir)


def is_sweep(folder: Path) -> bool:
    """Does the folder hold a sweep, and not one run?"""
    return (folder / TRIALS).is_dir() or (folder / SWEEP).is_file()


def is_saved_model(folder: Path) -> bool:
    """Was the folder written by ``Model.save``?"""
    return (folder / "model.json").is_file()


def _best(sweep: Path) -> Path | None:
    """The run of the best trial so far, of its replicas the first; None before a trial is over."""
    try:
        numbers = [str(number) for number in json.loads((sweep / SWEEP).read_text("utf-8"))["best"]]
    except (OSError, ValueError, KeyError, TypeError):
        numbers = []
    return next((run for number in numbers for run in runs_of_trial(sweep / TRIALS / number)), None)


def _folds(folder: Path) -> ConfigError:
    there = sorted(path.parent.name for path in folder.glob(f"*/{JOURNAL}") if not path.parent.is_symlink())
    return ConfigError(
        f"{folder.resolve().name} is a cross-validation, and no single run", where=str(folder),
        why=f"each fold is a run: {', '.join(there[:5])}{', …' * (len(there) > 5)}" if there else "no fold has begun",
        fix=f"{folder / there[0]}, or another of them" if there else f"cnnforge resume {folder} goes on with it",
    )  # fmt: skip


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
