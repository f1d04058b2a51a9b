"""The sender process: ``python -m cnnforge.tracking RUN_DIR...``, started by ``sender.py``.

Its settings come as one line of JSON on standard input, and it lives as long as that stays open.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

from cnnforge.tracking.database import settle
from cnnforge.tracking.delivery import Delivery
from cnnforge.tracking.journal import is_written
from cnnforge.tracking.mlflow import RunDeletedError, UnreachableError, delete_run, mlflow_api, said
from cnnforge.tracking.sender import ALL_SENT, BUSY, UNREACHABLE
from cnnforge.tracking.state import LockHeldError, Settings, acquire, address, load, locked, sending_lock, shown
from cnnforge.tracking.sweep import SweepDelivery

POLL_SECONDS = 1.0
LONGEST_PAUSE = 60.0  # seconds between attempts while the training lives
LAST_PAUSE = 1.0  # the same once it has ended
LAST_FAILURES = 3  # in a row, after which there is no more waiting once it has ended
LOCK_SECONDS = 5.0  # how long to wait for another sender of the same run once the training has ended


def main(run_dirs: list[Path]) -> int:
    """Follows a run or a sweep until the pipe on standard input closes, or sends several, with a line for each."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):  # the pipe says when to end: what was measured shall still be sent
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    line = b""
    while not line.endswith(b"\n") and (more := os.read(0, 1 << 16)):
        line += more
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its retries: the last one is told by us
    settings = Settings(**json.loads(line)) if line.strip() else Settings(follow=True)
    if settings.follow:
        logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", level=logging.WARNING)
        return follow(run_dirs[0], settings)
    return delete_each(run_dirs) if settings.delete else send_each(run_dirs, settings)


def follow(run_dir: Path, settings: Settings) -> int:
    """Sends while the training lives, then what is left; the exit code of the process."""
    gone = threading.Event()
    threading.Thread(target=_watch, args=(gone,), daemon=True).start()
    patience = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            lock = acquire(sending_lock(run_dir), timeout=0.2)
            break
        except LockHeldError:
            if not gone.is_set():
                patience = time.monotonic() + LOCK_SECONDS
            elif time.monotonic() > patience:
                return BUSY
    with lock:
        delivery = SweepDelivery(run_dir, settings) if settings.trials else Delivery(run_dir, settings)
        failures = 0
        while True:
            closing = gone.is_set()  # read first: whatever the journal holds after this is all it will ever hold
            try:
                mlflow_api()  # also when there is no record yet: the training is busy with its own start
                delivery.send()
                if closing:
                    delivery.close()
                    settle(delivery.address)
                    return ALL_SENT
                failures = 0
                gone.wait(POLL_SECONDS)
            except Exception as error:  # whatever the tracker does, sync can send it later
                delivery.failed(said(error))
                failures += 1
                if isinstance(error, RunDeletedError) or (closing and failures >= LAST_FAILURES):
                    return UNREACHABLE
                if closing:
                    time.sleep(LAST_PAUSE)
                else:
                    gone.wait(min(2.0**failures, LONGEST_PAUSE))


def send_each(run_dirs: list[Path], settings: Settings) -> int:
    """Sends runs in turn; prints a line of JSON for each: the address, and what stood in the way or an empty text."""
    code = ALL_SENT
    reached: set[str] = set()
    silent: dict[str, str] = {}  # addresses that did not answer: not asked again for every run
    for run_dir in run_dirs:
        where = trouble = ""
        try:
            handler = logging.FileHandler(run_dir / "tracking.log")
            logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", handlers=[handler], force=True)
            with locked(sending_lock(run_dir), timeout=1.0):
                delivery = Delivery(run_dir, settings)
                where = delivery.address
                trouble = silent.get(where, "")
                if not trouble:
                    error = _send(delivery)
                    trouble = said(error) if error else ""
                    if isinstance(error, UnreachableError):
                        silent[where] = trouble
        except LockHeldError:
            trouble = "its own sender is at work"
        except OSError as error:
            trouble = said(error)
        code = UNREACHABLE if trouble else code
        print(json.dumps({"where": shown(where), "trouble": trouble}), flush=True)
        reached |= {where} if not trouble else set()
    for where in reached:
        settle(where)
    return code


def delete_each(run_dirs: list[Path]) -> int:
    """Marks runs as deleted in MLflow; prints a line for each, as ``send_each``."""
    code = ALL_SENT
    silent: dict[str, str] = {}
    for run_dir in run_dirs:
        state = load(run_dir)
        where, trouble = address(state.store or "", run_dir), ""
        if state.mlflow_run_id is not None and not (trouble := silent.get(where, "")):
            try:
                delete_run(where, state.mlflow_run_id)
            except Exception as error:  # the user reads it
                trouble = said(error)
                if isinstance(error, UnreachableError):
                    silent[where] = trouble
        code = UNREACHABLE if trouble else code
        print(json.dumps({"where": shown(where), "trouble": trouble}), flush=True)
    return code


def _send(delivery: Delivery) -> Exception | None:
    """Sends one run that may have ended; returns what stood in the way."""
    while True:
        try:
            delivery.send()
            if not is_written(delivery.run_dir):
                delivery.close()
            return None
        except Exception as error:  # the user reads it
            delivery.failed(said(error))
            if not delivery.doubtful:
                return error


def _watch(gone: threading.Event) -> None:
    # os.read, not sys.stdin: a thread inside a buffered read can stop the interpreter from ending
    while os.read(0, 1 << 16):
        pass
    gone.set()


if __name__ == "__main__":
    code = main([Path(argument) for argument in sys.argv[1:]])
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)  # taking MLflow's modules apart costs 0.7 s, for which a user would wait
