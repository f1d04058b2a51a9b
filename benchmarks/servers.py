"""Servers for as long as something is measured or tested: a private PostgreSQL, and Optuna's gRPC proxy before it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Where PostgreSQL's programs are, beside the shell's path: of Debian and Ubuntu, Fedora, Homebrew.
PLACES = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "opt/homebrew/opt/postgresql*/bin")
#: What the server runs as where this process is root, which it refuses to be.
SOMEBODY = "postgres"
PASSWORD = "only-for-this-test"
_PROXY = """
import sys, optuna
optuna.storages.run_grpc_proxy_server(optuna.storages.get_storage(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]))
"""


def free_port() -> int:
    """One of 127.0.0.1 that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def no_postgres() -> str:
    """Why no PostgreSQL can be started; empty where one can."""
    from importlib.util import find_spec

    if _programs() is None:
        return "PostgreSQL is not installed (apt-get install postgresql)"
    if find_spec("psycopg") is None:
        return "psycopg is not installed (pip install 'cnnforge[postgres]')"
    if os.geteuid() == 0 and not _exists(SOMEBODY):
        return f"PostgreSQL does not run as root, and there is no user {SOMEBODY}"
    return ""


@contextmanager
def postgres(durable: bool = True) -> Iterator[str]:
    """The URL of an empty database of a server of its own, with a password in it.

    durable: written to the disk at each commit, as in earnest
    """
    programs, user = _programs(), SOMEBODY if os.geteuid() == 0 else None
    assert programs is not None, no_postgres()
    folder = Path(tempfile.mkdtemp(prefix="cnnforge-"))  # not in a test's folder, which is closed to others
    try:
        secret = folder / "secret"
        secret.write_text(PASSWORD)
        if user is not None:
            for path in (folder, secret):
                shutil.chown(path, user)

        def call(program: str, *words: str) -> None:
            done = subprocess.run([programs / program, *words], user=user, cwd=folder, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
            if done.returncode:
                raise RuntimeError(f"{program}: {done.stdout}")

        data, port = str(folder / "data"), free_port()
        call("initdb", "-D", data, "-U", "sweeper", "-A", "scram-sha-256", f"--pwfile={secret}", "--no-sync")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder} -c fsync={'on' if durable else 'off'}"
        call("pg_ctl", "-D", data, "-l", str(folder / "log"), "-o", options, "-w", "start")
        try:
            yield f"postgresql+psycopg://sweeper:{PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            call("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def proxy(url: str) -> Iterator[str]:
    """``grpc://…`` of a proxy before the database ``url``."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _PROXY, url, str(port)], stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60.0
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("Optuna's gRPC proxy does not start")
            time.sleep(0.05)
        yield f"grpc://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _programs() -> Path | None:
    """The folder of PostgreSQL's programs, of the newest version."""
    if (found := shutil.which("initdb")) is not None:
        return Path(found).resolve().parent
    folders = [folder for place in PLACES for folder in Path("/").glob(place) if (folder / "initdb").exists()]
    return max(folders, key=lambda folder: [int(n) for n in folder.parent.name.split(".") if n.isdigit()], default=None)


def _exists(user: str) -> bool:
    import pwd

    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
