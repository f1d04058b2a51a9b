"""``cnnforge doctor``: what this machine has, what of it is in the way, and what mends it."""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from cnnforge.cli.arguments import add_runs_folder
from cnnforge.cli.finding import NOTE, OK, PROBLEM, Finding
from cnnforge.cli.gpus import gpu
from cnnforge.cli.machine import (
    blas,
    cpu,
    disk,
    extras,
    memory,
    numba,
    one_line,
    packages,
    python,
)  # fmt: skip

#: Exit code where something is in the way.
FOUND = 2
#: Seconds that the tracker has to answer.
PATIENCE = 3.0
#: Data sets whose files are looked for.
DATA = ("mnist", "fashion_mnist", "cifar10")
#: Beginnings of the names of file systems on which SQLite's journal is not safe.
_NETWORK = ("nfs", "cifs", "smb", "fuse.sshfs", "lustre", "9p", "ceph", "gpfs")


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of this command."""
    parser.description = (
        "Look at the machine, the installation, the data and the runs, and say what is in the way. Changes nothing. "
        f"Exit code {FOUND} where there is a problem."
    )
    add_runs_folder(parser)
    parser.add_argument("--json", action="store_true", help="print everything as JSON, and nothing else, on stdout")


def run(args: argparse.Namespace) -> int:
    """Look, and say. Returns the exit code."""
    findings = list(examine(args.dir))
    problems = sum(finding.state == PROBLEM for finding in findings)
    if args.json:
        about = [{"name": f.name, "state": f.state, "text": f.text, "fix": f.fix} for f in findings]
        print(json.dumps({"problems": problems, "findings": about}, indent=2))
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            print(f"{finding.state:<7}  {finding.name:<{width}}  {finding.text}")
            if finding.fix:
                print(f"{'':<7}  {'':<{width}}  fix: {finding.fix}")
        notes = sum(finding.state == NOTE for finding in findings)
        print(f"\n{_counted(problems, 'problem')}, {_counted(notes, 'note')}")
    return FOUND if problems else 0


def examine(runs_dir: Path) -> Iterator[Finding]:
    """Every check in turn. One that fails itself is a note."""
    from cnnforge.folders import user_cache

    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "python": python, "packages": packages, "cpu": cpu, "memory": memory, "blas": blas, "numba": numba, "gpu": gpu,
        "extras": extras, "data": data, "runs": partial(runs, runs_dir), "tracker": partial(tracker, runs_dir),
        "disk": partial(disk, runs_dir, user_cache(), Path(tempfile.gettempdir())),
    }  # fmt: skip
    for name, check in checks.items():
        try:
            yield from check()
        except Exception as error:  # whatever is broken here is what the others may explain
            yield Finding(name, NOTE, f"could not be looked at: {type(error).__name__}: {one_line(error)}")


def data() -> Iterator[Finding]:
    """Where data sets are found."""
    from cnnforge.data.files import places

    base = os.environ.get("CNNFORGE_DATA")
    if base is not None and not Path(base).expanduser().is_dir():
        text = f"CNNFORGE_DATA is {base}, which is no folder"
        yield Finding("data", PROBLEM, text, "export CNNFORGE_DATA=FOLDER, or unset it")
    found = ["digits (comes along)"]
    for name in DATA:
        found += [f"{name} in {place}" for place in places(name, None) if _holds(place.folder)][:1]
    missing = [name for name in DATA if not any(text.startswith(f"{name} ") for text in found)]
    offline = bool(os.environ.get("CNNFORGE_OFFLINE"))
    how = "CNNFORGE_OFFLINE is set, so they cannot be fetched" if offline else "fetched when first asked for"
    yield Finding("data", OK, ", ".join(found) + (f"; {', '.join(missing)}: {how}" if missing else ""))


def _holds(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def runs(folder: Path) -> Iterator[Finding]:
    """The folder of the runs, what of them was not sent, and the database beside them."""
    from cnnforge.report.table import bytes_text
    from cnnforge.tracking.finding import run_folders
    from cnnforge.tracking.journal import count, journal_path
    from cnnforge.tracking.state import DATABASE, load

    if not folder.exists():
        yield Finding("runs", OK, f"none yet; the first training makes {folder}/")
        return
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        text = f"{folder} is not a folder that can be written to"
        yield Finding("runs", PROBLEM, text, "run.dir=ANOTHER_FOLDER, or chmod u+rwx")
        return
    there = list(run_folders(folder))
    yield Finding("runs", OK, f"{_counted(len(there), 'run')} in {folder}/")
    known = {run: load(run) for run in there if (run / "tracking.json").exists()}
    unsent = [run for run, state in known.items() if count(journal_path(run), state.offset)]
    if unsent:
        text = f"{_counted(len(unsent), 'run')} not sent whole to the tracker, {unsent[0].name} among them"
        yield Finding("runs", NOTE, text, "cnnforge sync" + (f" --dir {folder}" if folder != Path("runs") else ""))
    database = folder / DATABASE
    if not database.is_file():
        return
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=1.0)) as connection:
        try:
            (number,) = connection.execute("SELECT count(*) FROM runs").fetchone()
        except sqlite3.Error as error:
            anew = f"cnnforge sync --dir {folder} --uri sqlite:///{database.resolve()}"
            fix = f"move {database} away, then {anew} makes it anew from the run folders"
            yield Finding("database", PROBLEM, f"{database} cannot be read: {error}", fix)
            return
    text = f"{database}: {_counted(number, 'run')}, {bytes_text(database.stat().st_size)}"
    if kind := _network(folder):
        fix = "SQLite may lose data there: point tracking.uri at an MLflow server"
        yield Finding("database", NOTE, f"{text}, on a network disk ({kind})", fix)
    else:
        yield Finding("database", OK, text)


def tracker(folder: Path) -> Iterator[Finding]:
    """Where results go, and whether it answers."""
    from cnnforge.tracking.state import DEFAULT_STORE, destination, local_database, shown

    where = destination(None)
    if where == DEFAULT_STORE:
        yield Finding("tracker", OK, f"the database in {folder}/; MLFLOW_TRACKING_URI is not set")
    elif (database := local_database(where)) is not None:
        good = database.parent.is_dir() and os.access(database.parent, os.W_OK)
        fix = "" if good else f"mkdir -p {database.parent}, or another MLFLOW_TRACKING_URI"
        yield Finding("tracker", OK if good else PROBLEM, f"{database}, of MLFLOW_TRACKING_URI", fix)
    elif not where.startswith(("http://", "https://")):
        yield Finding("tracker", NOTE, f"{shown(where)}, of MLFLOW_TRACKING_URI: not asked whether it answers")
    elif trouble := answers(where):
        fix = "start it, or unset MLFLOW_TRACKING_URI; training goes on without it, and cnnforge sync sends later"
        yield Finding("tracker", PROBLEM, f"{shown(where)}: {trouble}", fix)
    else:
        yield Finding("tracker", OK, f"{shown(where)} answers")


def answers(address: str, patience: float = PATIENCE) -> str:
    """What stands between us and the server, within so many seconds; empty where it answers."""
    said = [f"no answer within {patience:g} s"]

    def ask() -> None:
        said[0] = _asked(address, patience)

    # a thread: looking a name up has no bound of its own
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(patience)
    return said[0]


def _asked(address: str, patience: float) -> str:
    from urllib.parse import urlsplit, urlunsplit

    parts = urlsplit(address)
    plain = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/") + "/health", "", ""))
    try:
        with urllib.request.urlopen(plain, timeout=patience):
            return ""
    except urllib.error.HTTPError as error:
        # a server that wants a name and a password is there; what is no MLflow has no such page
        return "" if error.code in (401, 403) else f"answers, but not as MLflow does: {error.code} {error.reason}"
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        return (reason.strerror or one_line(reason)) if isinstance(reason, OSError) else str(reason)


def _network(folder: Path) -> str:
    """The kind of the file system that ``folder`` lies on where that is a network's, else an empty text."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:  # not Linux
        return ""
    here = folder.resolve()
    places = [(mount[1].replace("\\040", " "), mount[2]) for mount in mounts if len(mount) > 2]
    kind = max(((len(at), kind) for at, kind in places if here.is_relative_to(at)), default=(0, ""))[1]
    return kind if kind.startswith(_NETWORK) else ""


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"
