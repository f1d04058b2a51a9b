"""Removing runs: the folder, and MLflow's copy is marked as deleted by the sender's process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from cnnforge.errors import CnnforgeError, ConfigError
from cnnforge.tracking.family import trial_of, trial_runs
from cnnforge.tracking.finding import run_folders
from cnnforge.tracking.journal import head, journal_path, lock_path
from cnnforge.tracking.sender import delete_all
from cnnforge.tracking.state import LockHeldError, acquire, load

#: The link beside the runs that points at the newest, and locks of a sweep's drivers.
LATEST, _DRIVERS = "latest", ".driver-*"


def check_deletable(folder: Path, runs_dir: Path) -> None:
    """Raises ConfigError where the run lies elsewhere, is a part of a sweep, or is at work."""
    home = runs_dir.resolve()
    if not folder.resolve().is_relative_to(home) or folder.resolve() == home:
        raise ConfigError(
            f"{folder.name} does not lie in {runs_dir}", where=str(folder),
            why="only what lies in the runs' own folder is deleted, links that lead out of it are not followed",
            fix=f"name its own folder of runs: --dir {folder.resolve().parent}",
        )  # fmt: skip
    if (trial := trial_of(folder)) is not None and journal_path(trial.sweep).is_file():
        raise ConfigError(
            f"{folder.name} is a trial of the sweep {trial.sweep.name}", where=str(folder),
            why="the sweep's results name it", fix=f"delete the whole sweep: cnnforge runs delete {trial.sweep.name}",
        )  # fmt: skip
    with _held(folder):
        pass


def delete(folder: Path) -> Iterator[str]:
    """Removes a run, or a sweep with its trials; yields what a person should know of it.

    ``check_deletable`` comes first. MLflow keeps what it has of the run, marked as deleted, until its garbage
    collection; where it cannot be reached the run stays there. Raises ConfigError where the run is at work by now,
    ``CnnforgeError`` where files cannot be removed.
    """
    with _held(folder):
        sent = [run for run in (folder, *trial_runs(folder)) if load(run).mlflow_run_id is not None]
        failed = [(run, where, trouble) for run, where, trouble in delete_all(sent) if trouble]
        for run, where, trouble in failed[:1]:
            more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
            yield f"{run.name}{more}: stays in MLflow at {where} (run {load(run).mlflow_run_id}): {trouble}"
        _remove(folder)
    point_latest_again(folder.parent)


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)  # links inside it are removed, not followed
    except OSError as error:
        raise CnnforgeError(
            f"{folder.name} could not be removed whole", where=str(error.filename or folder),
            why=error.strerror or str(error), fix="make it yours to remove, then the same again",
        ) from error  # fmt: skip


def point_latest_again(runs_dir: Path) -> None:
    """Let ``latest`` point at the newest run that is left, where it points at none; without one it goes."""
    link = runs_dir / LATEST
    if not link.is_symlink() or link.exists():
        return
    link.unlink()
    if left := [run for run in run_folders(runs_dir) if run.parent == runs_dir.resolve()]:
        link.symlink_to(max(left, key=_began).name)


def _began(folder: Path) -> int:
    first = next(head(journal_path(folder)), None)
    return 0 if first is None else int(first["time"])


def _held(folder: Path) -> ExitStack:
    """Holds what a process that works on the run, or on its sweep, would hold. Raises ConfigError where one does."""
    locks: Sequence[Path] = [lock_path(run) for run in (folder, *trial_runs(folder)) if lock_path(run).exists()]
    with ExitStack() as stack:
        for lock in (*locks, *folder.glob(_DRIVERS)):
            try:
                stack.callback(acquire(lock, timeout=0.0).close)
            except LockHeldError:
                raise ConfigError(
                    f"{folder.name} is at work", where=str(lock.parent), why="a living process writes it",
                    fix="wait for it or stop it first: Ctrl-C where it runs",
                ) from None  # fmt: skip
        return stack.pop_all()
