"""The SQLite database beside the runs: made by one process at a time, quick to write, and right after a move."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from cnnforge.tracking.state import ARTIFACTS, local_database, locked

#: Where MLflow keeps absolute addresses of artifacts.
_ADDRESSES = (
    ("experiments", "artifact_location"), ("runs", "artifact_uri"), ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)  # fmt: skip


def artifacts_uri(database: Path) -> str:
    """The address of the folder for artifacts, beside the database."""
    return (database.parent / ARTIFACTS).resolve().as_uri()


@contextmanager
def prepared(uri: str) -> Iterator[None]:
    """Around MLflow's first contact with a store; does nothing for a server."""
    database = local_database(uri)
    if database is None:
        yield
        return
    with locked(database.with_name(f".{database.name}.lock")):  # two processes that create the tables at once crash
        relocate(database)
        yield
        # Readers and the writer no longer wait for each other, and writes take half the time. WAL needs shared
        # memory, so it is not safe on a network disk: there, point tracking.uri at a server.
        # Where the database is busy it is only slower, and the next sender tries again.
        _pragma(database, "journal_mode=WAL")


def settle(uri: str) -> None:
    """Moves what lies in the WAL file into the database, so that a copy of ``mlflow.db`` alone is complete."""
    database = local_database(uri)
    if database is not None and database.is_file():
        _pragma(database, "wal_checkpoint(TRUNCATE)")  # where it is busy, whoever holds it leaves later and does it


def _pragma(database: Path, text: str) -> None:
    with closing(sqlite3.connect(database, timeout=1.0)) as connection, suppress(sqlite3.OperationalError):
        connection.execute(f"PRAGMA {text}")


def relocate(database: Path) -> list[str]:
    """MLflow stores absolute artifact paths; mends them after the folder of the runs was moved.

    Only folders that are gone, and only where ours lies beside the database. Returns the addresses replaced.
    """
    ours = artifacts_uri(database)
    if not database.is_file() or not (database.parent / ARTIFACTS).is_dir():
        return []
    with closing(sqlite3.connect(database, timeout=2.0)) as connection:
        try:
            known = connection.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
            old = [uri for (uri,) in known if uri != ours and _is_gone(uri)]
            for uri in old:
                for table, column in _ADDRESSES:
                    connection.execute(  # the names are the constants above
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                        (ours, len(uri) + 1, len(uri), uri),
                    )
            connection.commit()
        except sqlite3.OperationalError:
            return []  # no tables yet, or busy: nothing was changed
    return old


def _is_gone(uri: str | None) -> bool:
    if not uri or not uri.startswith("file:"):
        return False
    folder = Path(url2pathname(urlsplit(uri).path))
    return folder.name == ARTIFACTS and not folder.exists()
