"""What is known about sending one run: ``RUN/tracking.json``, the places it names, and the locks around them.

``tracking.json`` holds where a run goes (as the config said it) and how far it got. It is a convenience, not the
truth: lost or damaged, it is rebuilt from the journal and from our tag on the MLflow run, and nothing is doubled.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import IO, Any

from cnnforge.tracking.family import trial_of

#: Names the database beside the runs, wherever that folder is now: an absolute path would not survive a move.
DEFAULT_STORE = "default"
DEFAULT_EXPERIMENT = "cnnforge"
DATABASE = "mlflow.db"
ARTIFACTS = "artifacts"


@dataclass(frozen=True, slots=True)
class Tracking:
    """The content of ``tracking.json``.

    run:           our id of the run (the journal's first record), written on the MLflow run as a tag
    uri:           the tracking address that the config states; null: the environment's, else the default store
    experiment:    experiment name; empty when it is not known any more
    run_name:      the name shown in MLflow
    store:         where records are sent: an address or ``default``; fixed once an MLflow run exists
    mlflow_run_id: the id that MLflow gave
    offset:        bytes of the journal that MLflow has
    status:        the status last set in MLflow
    refused:       records that MLflow will never take (each is explained in tracking.log)
    error:         why the last attempt failed; empty when it did not
    """

    run: str = ""
    uri: str | None = None
    experiment: str = ""
    run_name: str = ""
    store: str | None = None
    mlflow_run_id: str | None = None
    offset: int = 0
    status: str | None = None
    refused: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a sender process is told on its standard input, as one line of JSON.

    follow: go on until the pipe closes, else send what there is; trials: the run is a sweep, send its trials too;
    delete: send nothing, and mark the runs as deleted; the others as in ``Tracking``, empty: as before.
    """

    follow: bool
    uri: str | None = None
    experiment: str = ""
    run_name: str = ""
    trials: bool = False
    delete: bool = False


def state_path(run_dir: Path) -> Path:
    """``RUN/tracking.json``."""
    return run_dir / "tracking.json"


def sending_lock(run_dir: Path) -> Path:
    """Held by the process that sends the run, and changes ``tracking.json``."""
    return run_dir / ".tracking.lock"


def load(run_dir: Path) -> Tracking:
    """What is known of the run's sending; all defaults where the file is missing or damaged."""
    try:
        data = json.loads(state_path(run_dir).read_bytes())
    except (OSError, ValueError, RecursionError):
        return Tracking()  # the journal and our tag in MLflow are enough to start over
    if not isinstance(data, dict):
        return Tracking()
    blank: dict[str, Any] = asdict(Tracking())
    known: dict[str, Any] = {}
    for field in fields(Tracking):
        value = data.get(field.name, blank[field.name])
        wanted: tuple[type, ...] = {"str": (str,), "int": (int,)}.get(str(field.type), (str, type(None)))
        if not isinstance(value, wanted) or isinstance(value, bool):
            return Tracking()
        known[field.name] = value
    state = Tracking(**known)
    return state if state.offset >= 0 else Tracking()


def save(run_dir: Path, state: Tracking) -> None:
    """Replaces the file in one step, so that a reader or a kill never meets half of it."""
    path = state_path(run_dir)
    temporary = path.with_name(f"{path.name}.new")  # one name: there is one writer, and a kill leaves no heap of them
    temporary.touch(mode=0o600 if "***@" in shown(state.uri or "") else 0o666)  # an address may hold a password
    temporary.write_text(json.dumps(asdict(state), indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def mlflow_run_id(run_dir: Path) -> str | None:
    """The run's id in MLflow; ``None`` while it has none."""
    return load(run_dir).mlflow_run_id


def restated(state: Tracking, settings: Settings, sweep: Tracking | None = None) -> Tracking:
    """The state with new settings; another address than the one in use starts the sending over.

    sweep: the state of the sweep that the run is a trial of. Where that is in MLflow, the trial goes there too,
    whatever the settings say: runs nest within one store only.
    """
    uri = settings.uri if settings.follow else settings.uri or state.uri
    state = replace(
        state,
        uri=uri,
        experiment=settings.experiment or state.experiment,
        run_name=settings.run_name or state.run_name,
    )
    home = sweep.store if sweep is not None and sweep.mlflow_run_id is not None else None
    store = home or destination(uri)
    if state.mlflow_run_id is None or state.store is None:
        # nothing was sent yet, so the environment of today decides
        return replace(state, store=store, offset=0)
    if (home or uri) and store != state.store:
        return replace(state, store=store, mlflow_run_id=None, offset=0, status=None, refused=0)
    return state


# ---- places ------------------------------------------------------------------------------------------------------


def runs_dir_of(run_dir: Path) -> Path:
    """The folder of all runs: the parent of the run's folder, or for a trial of its sweep's."""
    trial = trial_of(run_dir)
    return trial.sweep.parent if trial is not None else run_dir.resolve().parent


def destination(uri: str | None) -> str:
    """Where a run goes: the config's address, else ``MLFLOW_TRACKING_URI``, else the database beside the runs."""
    chosen = (uri or os.environ.get("MLFLOW_TRACKING_URI") or "").strip()
    if not chosen:
        return DEFAULT_STORE
    database = local_database(chosen)
    # a relative database means one in the folder where the command was given, also for a later sync elsewhere
    return f"sqlite:///{database.absolute()}" if database is not None else chosen


def default_uri(runs_dir: Path) -> str:
    """The address of the database beside the runs."""
    return f"sqlite:///{runs_dir.resolve() / DATABASE}"


def address(store: str, run_dir: Path) -> str:
    """The address that MLflow takes for a ``store``."""
    return default_uri(runs_dir_of(run_dir)) if store == DEFAULT_STORE else store


def local_database(uri: str) -> Path | None:
    """The file of an SQLite address; ``None`` for every other kind."""
    name = uri.removeprefix("sqlite:///")
    return Path(name) if name != uri and name and not name.startswith(":memory:") else None


def shown(uri: str) -> str:
    """The address without user name and password, for messages and logs."""
    scheme, mark, rest = uri.partition("://")
    host, slash, path = rest.partition("/")
    if not mark or "@" not in host:
        return uri
    return f"{scheme}://***@{host.rpartition('@')[2]}{slash}{path}"


# ---- locks -------------------------------------------------------------------------------------------------------


class LockHeldError(Exception):
    """Another process holds the lock."""


@contextmanager
def locked(path: Path, timeout: float | None = None) -> Iterator[None]:
    """Holds an exclusive lock between processes; the operating system lets go of it when the holder dies.

    timeout: seconds to wait before ``LockHeldError``; ``None`` waits for ever.
    """
    file = acquire(path, timeout)
    try:
        yield
    finally:
        file.close()


def acquire(path: Path, timeout: float | None) -> IO[bytes]:
    """As ``locked``, held until the returned file is closed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = None if timeout is None else time.monotonic() + timeout
    file = path.open("ab")
    while not _try_lock(file):
        if deadline is not None and time.monotonic() >= deadline:
            file.close()
            raise LockHeldError(str(path))
        time.sleep(0.05)
    return file


if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: IO[bytes]) -> bool:
        try:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _try_lock(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Some network disks have no locks: one process per run is still the normal case, so go on without.
            return error.errno not in (errno.EAGAIN, errno.EACCES)
        return True
