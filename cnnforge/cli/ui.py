"""``cnnforge ui``: MLflow's web pages over the local runs, on this machine only."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import FrameType

from cnnforge.errors import CnnforgeError, ConfigError

FIRST_PORT, PORTS = 5000, 20
START_SECONDS = 90.0
STOP_SECONDS = 5.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.description = "Show the runs in MLflow's web pages, on this machine only, until Ctrl-C."
    parser.add_argument("--dir", type=Path, help="folder of the runs (default: runs)")
    parser.add_argument("--port", type=int, help=f"default: the first free one from {FIRST_PORT} on")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--open", action="store_true", help="open the pages in a browser once they are there")


def run(args: argparse.Namespace) -> int:
    """Serves until Ctrl-C. Raises ``ConfigError`` without a database or a free port."""
    from cnnforge.tracking.database import artifacts_uri, relocate
    from cnnforge.tracking.state import DATABASE, default_uri, shown

    remote = os.environ.get("MLFLOW_TRACKING_URI", "")
    if args.dir is None and remote.startswith(("http://", "https://")):
        print(f"MLFLOW_TRACKING_URI is set: the runs are at {shown(remote)}")
        print("for the local ones: cnnforge ui --dir runs")
        return 0
    runs_dir: Path = args.dir or Path("runs")
    if not (runs_dir / DATABASE).is_file():
        raise ConfigError(
            f"{runs_dir / DATABASE}: nothing has been trained here yet",
            where="cnnforge ui --dir" if args.dir else str(Path.cwd()),
            why="the first training makes the database",
            fix="cnnforge train, or cnnforge ui --dir with the folder that holds your runs",
        )
    port = _port(args.host, args.port)
    for old in relocate(runs_dir / DATABASE):
        print(f"the runs were moved: artifacts that MLflow knew below {old} are found again")
    artifacts = artifacts_uri(runs_dir / DATABASE)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", default_uri(runs_dir)]
    command += ["--default-artifact-root", artifacts, "--artifacts-destination", artifacts]
    command += ["--host", args.host, "--port", str(port), "--workers", "1"]
    environment = {
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # or it starts ten processes, 1.4 GB
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONSAFEPATH": "1",
    }
    log_path = runs_dir / "ui.log"
    with log_path.open("wb") as log:
        # A session of its own: Ctrl-C reaches us alone, and we stop the server with all its workers.
        server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        print(f"starting MLflow over {runs_dir} …", flush=True)
        url = f"http://{'127.0.0.1' if args.host in ('0.0.0.0', '::') else args.host}:{port}"
        _await(server, url, log_path)
        print(f"{url}   (Ctrl-C stops it)", flush=True)
        if page := newest(runs_dir / DATABASE):
            print(f"the newest runs: {url}{page}", flush=True)
        if args.open:
            _open(url + page)
        server.wait()
        raise _stopped(server, log_path)
    except KeyboardInterrupt:
        print("stopped")
        return 0
    finally:
        _stop(server)
        signal.signal(signal.SIGTERM, previous)


def _port(host: str, wanted: int | None) -> int:
    if wanted is not None:
        if not _free(host, wanted):
            raise ConfigError(
                f"port {wanted} is in use",
                where=f"cnnforge ui --port {wanted}",
                why=f"another program listens on {host}:{wanted}, perhaps another cnnforge ui",
                fix="another --port, or none to take the next free one",
            )
        return wanted
    for port in range(FIRST_PORT, FIRST_PORT + PORTS):
        if _free(host, port):
            if port != FIRST_PORT:
                print(f"port {FIRST_PORT} is in use, taking {port}")
            return port
    raise ConfigError(
        f"no free port from {FIRST_PORT} to {FIRST_PORT + PORTS - 1}",
        where="cnnforge ui",
        why=f"all of them are in use on {host}",
        fix="name one: cnnforge ui --port 8080",
    )


def _free(host: str, port: int) -> bool:
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            if os.name == "posix":  # elsewhere this option lets two programs share the port
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OverflowError:
        raise ConfigError(
            f"port {port} does not exist", where=f"cnnforge ui --port {port}", fix="a port from 1 to 65535"
        ) from None
    except OSError as error:
        if error.errno in (98, 48, 10048, 13):  # in use (Linux, macOS, Windows), not permitted
            return False
        raise ConfigError(
            f"cannot listen on {host}",
            where=f"cnnforge ui --host {host}",
            why=error.strerror or str(error),
            fix="--host 127.0.0.1, or an address of this machine",
        ) from None
    return True


def _await(server: subprocess.Popen[bytes], url: str, log_path: Path) -> None:
    """Returns when the server answers."""
    # straight to it: a proxy from the environment does not know this machine's loopback
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise _stopped(server, log_path)
        try:
            with opener.open(f"{url}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)  # not up yet
    raise CnnforgeError(
        f"MLflow did not answer within {START_SECONDS:g} s", where=url, fix=f"see {log_path}, then try again"
    )


def newest(database: Path) -> str:
    """The page with the newest run, below the address: its experiment's table, with our columns where it has them."""
    import sqlite3
    from contextlib import closing

    from cnnforge.tracking.entries import VIEW, VIEW_TAG

    run = "SELECT experiment_id FROM runs WHERE lifecycle_stage = 'active' ORDER BY start_time DESC LIMIT 1"
    with closing(sqlite3.connect(database, timeout=1.0)) as connection:
        try:
            if (found := connection.execute(run).fetchone()) is None:
                return ""
            tag = "SELECT 1 FROM experiment_tags WHERE experiment_id = ? AND key = ?"
            viewed = connection.execute(tag, (found[0], VIEW_TAG)).fetchone()
        except sqlite3.Error:  # busy, or another MLflow's tables
            return ""
    return f"/#/experiments/{found[0]}/runs?workflowType=machine_learning" + (
        f"&viewStateShareKey={VIEW}" * bool(viewed)
    )


def _open(url: str) -> None:
    """Shows the pages in the browser that the system, or ``BROWSER``, names; without one the address is enough."""
    import webbrowser

    if not webbrowser.open(url):
        print("no browser was found: open the address in yours")


def _stopped(server: subprocess.Popen[bytes], log_path: Path) -> CnnforgeError:
    lines = [line for line in log_path.read_text(errors="replace").splitlines() if line.strip()]
    return CnnforgeError(
        f"MLflow's server stopped with code {server.returncode}",
        where=str(log_path),
        why=lines[-1][:300] if lines else "it said nothing",
        fix=f"read {log_path}; a database of an older MLflow wants: mlflow db upgrade",
    )


def _stop(server: subprocess.Popen[bytes]) -> None:
    """Ends the server and its workers, politely first."""
    for name in ("SIGTERM", "SIGKILL"):
        if os.name == "posix":
            try:
                os.killpg(server.pid, getattr(signal, name))
            except ProcessLookupError:  # all of them are gone
                break
        else:
            server.terminate()
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue  # harder
    server.wait()


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
