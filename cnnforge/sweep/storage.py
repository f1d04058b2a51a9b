"""Where a study is kept: a journal file, a database, or Optuna's gRPC proxy, which several drivers may share."""

from __future__ import annotations

import contextlib
import importlib
import logging
import random
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cnnforge.errors import CnnforgeError, ConfigError
from cnnforge.tracking.state import acquire, locked, shown

#: Seconds that a gRPC proxy has to answer when a sweep begins.
ANSWERING = 15.0
#: Times that tables are made before it is somebody else's fault.
TRIES = 10
#: What databases say to one of several that make the same tables at once.
_RACED = ("already exists", "duplicate", "unique", "deadlock", "locked", "concurrently updated")
_FIX = "postgresql+psycopg://USER@HOST/DATABASE, grpc://HOST:PORT or the path of a file; is it running?"


def open_optuna() -> Any:
    """The module, silent."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's warnings that something is experimental, or that an enqueued value is what it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("optuna").setLevel(logging.ERROR)
        yield


def open_storage(optuna: Any, where: str) -> Any:
    """Optuna's storage at a URL or the path of a journal file. Raises ConfigError where it cannot be opened."""
    scheme, mark, rest = where.partition("://")
    with quiet():
        if not mark:
            return optuna.storages.JournalStorage(_journal(optuna, Path(where)))
        try:
            return _proxy(optuna, rest) if scheme == "grpc" else _database(optuna, where)
        except ImportError:
            raise _not_installed(scheme) from None
        except Exception as error:  # whatever a database, its driver or the network brings forth
            raise _cannot_be_opened(where, error) from None


def close_storage(opened: Any) -> None:
    """Let go of its connections."""
    database = getattr(opened, "_backend", opened)
    if (engine := getattr(database, "engine", None)) is not None:
        opened.remove_session()
        engine.dispose()
    elif (close := getattr(opened, "close", None)) is not None:
        close()


def lost(where: str, error: Exception) -> CnnforgeError:
    """What ends a driver whose storage has gone away."""
    return CnnforgeError(
        "the sweep's storage does not answer any more",
        where=shown(where),
        why=_first_line(where, error.__cause__ or error),
        fix="cnnforge sweep resume=SWEEP goes on once it is there again",
    )


def troubles(optuna: Any) -> tuple[type[Exception], ...]:
    """What storages raise when they have gone away."""
    found: list[type[Exception]] = [optuna.exceptions.StorageInternalError]
    with contextlib.suppress(ImportError):
        found.append(importlib.import_module("grpc").RpcError)
    with contextlib.suppress(ImportError):
        found.append(importlib.import_module("sqlalchemy.exc").SQLAlchemyError)
    return tuple(found)


def _proxy(optuna: Any, rest: str) -> Any:
    host, _, port = rest.rstrip("/").rpartition(":")
    importlib.import_module("grpc")
    proxy = optuna.storages.GrpcStorageProxy(host=host, port=int(port))
    proxy.wait_server_ready(timeout=ANSWERING)
    return proxy


def _database(optuna: Any, where: str) -> Any:
    """Its tables are made by whoever comes first; Optuna lets the others fail, so they look again."""
    for tries in range(1, TRIES + 1):
        try:
            # A trial may take hours, and what lies between closes connections that are idle.
            kept = optuna.storages.RDBStorage(where, engine_kwargs={"pool_pre_ping": True})
            return optuna.storages.get_storage(kept)
        except Exception as error:
            text = f"{error} {error.__cause__}".lower()
            if tries == TRIES or isinstance(error, ImportError) or not any(word in text for word in _RACED):
                raise
            time.sleep(random.uniform(0.05, 0.3) * tries)
    raise AssertionError("unreachable")


def _journal(optuna: Any, path: Path) -> Any:
    """A journal file whose lock is the operating system's.

    Optuna's own locks are files, which a driver that is killed leaves behind, for all others to wait for; and half a
    line, if it was killed while writing, would make the file unreadable.
    """

    class Lock(optuna.storages.journal._file.BaseJournalFileLock):  # type: ignore[misc]
        def acquire(self) -> bool:
            self._held = acquire(path.with_name(f"{path.name}.lock"), timeout=None)
            return True

        def release(self) -> None:
            self._held.close()

    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f"{path.name}.lock")):
        path.touch()
        with path.open("rb+") as file:
            whole = file.read()
            file.truncate(whole.rfind(b"\n") + 1)
    return optuna.storages.journal.JournalFileBackend(str(path), lock_obj=Lock())


def _not_installed(scheme: str) -> ConfigError:
    extra = {"grpc": "grpc", "postgresql+psycopg": "postgres"}.get(scheme)
    return ConfigError(
        f"the sweep's storage needs a package for {scheme}://",
        where="sweep.storage",
        why="it is not installed",
        fix=f"pip install 'cnnforge[{extra}]'" if extra else f"install SQLAlchemy's driver for it; {_FIX}",
    )


def _cannot_be_opened(where: str, error: Exception) -> ConfigError:
    return ConfigError("the sweep's storage cannot be opened", where="sweep.storage", why=_first_line(where, error),
                       fix=_FIX)  # fmt: skip


def _first_line(where: str, error: BaseException) -> str:
    """What went wrong, without the address's password."""
    details = getattr(error, "details", None)  # gRPC's
    text = str(details() if callable(details) else error).strip().replace(where, shown(where))
    secret = where.partition("://")[2].partition("@")[0].partition(":")[2] if "***@" in shown(where) else ""
    if secret:
        text = text.replace(secret, "***")
    return (text.splitlines() or [type(error).__name__])[0]
