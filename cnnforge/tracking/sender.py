"""The training side of sending: starts the process that feeds MLflow, and ends it within a bound.

The process (``python -m cnnforge.tracking``) reads the journal, never this process's memory, and lives as long as its
standard input stays open: the pipe closes by itself when the training process dies, however it dies.
Nothing here raises because of the tracker; what could not be sent is counted and named.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from cnnforge.tracking.journal import count, journal_path
from cnnforge.tracking.state import Settings, Tracking, address, destination, load, save, shown, state_path

#: The process's exit codes: sent all; the tracker did not answer; another process is sending this run.
ALL_SENT, UNREACHABLE, BUSY = 0, 75, 76


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the sending ended.

    run_id:  the MLflow run, ``None`` if there is none yet
    pending: journal records that MLflow does not have
    reason:  one line for the user
    where:   the tracking address
    trouble: what stood in the way; empty when nothing did
    """

    run_id: str | None
    pending: int
    reason: str
    where: str = ""
    trouble: str = ""


class Sender:
    """The running sender of one run; made by ``start``."""

    def __init__(self, run_dir: Path, settings: Settings) -> None:
        self.run_dir = run_dir
        self._settings = settings
        self._trouble = ""
        self._process = self._spawn()

    @property
    def pid(self) -> int | None:
        """The sender's process id; ``None`` if it could not be started."""
        return None if self._process is None else self._process.pid

    def finish(self, timeout: float = 15.0) -> Outcome:
        """Waits until everything is sent, at most ``timeout`` seconds; call it after ``Journal.end``.

        A sender that died on the way is started once more. Without an ``end`` record the MLflow run becomes KILLED.
        """
        deadline = time.monotonic() + timeout
        in_time = self._wait(deadline)
        if in_time and self._died() and _pending(self.run_dir):
            self._process = self._spawn()
            in_time = self._wait(deadline)
        trouble = self._trouble if in_time else f"not done within {timeout:g} s"
        return _outcome(self.run_dir, trouble if _pending(self.run_dir) else "")

    def _wait(self, deadline: float) -> bool:
        """Tells the sender that no more records come; kills it at the deadline. True if it ended by itself."""
        if self._process is None:
            return True
        with contextlib.suppress(BrokenPipeError):  # it died before: its exit code says so
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return False
        return True

    def _died(self) -> bool:
        return self._process is not None and self._process.returncode not in (ALL_SENT, UNREACHABLE, BUSY)

    def _spawn(self) -> subprocess.Popen[bytes] | None:
        try:
            with (self.run_dir / "tracking.log").open("ab") as log:
                return _process([self.run_dir], self._settings, stdout=log, stderr=log)
        except OSError as error:  # no memory, processes or disk left: the run goes on, sync sends later
            self._trouble = f"the sender did not start: {error.strerror or error}"
            return None


def start(run_dir: Path, *, uri: str | None, experiment: str, run_name: str) -> Sender:
    """Starts sending a run's journal to MLflow and returns at once.

    uri: the tracking address of the config; ``None`` means ``MLFLOW_TRACKING_URI``, else the database beside the
    runs. experiment: may be empty: ``MLFLOW_EXPERIMENT_NAME``, else ``cnnforge``.
    """
    experiment = experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME", "")
    if not state_path(run_dir).exists():
        # From here on `sync` knows the run, even if the sender never starts. Later only the sender, which holds the
        # lock, changes the file: a sender of the run's last life may still be at work when the run is resumed.
        with contextlib.suppress(OSError):  # a full disk is the journal's to report
            save(run_dir, Tracking(uri=uri, experiment=experiment, run_name=run_name))
    return Sender(run_dir, Settings(follow=True, uri=uri, experiment=experiment, run_name=run_name))


def send_all(run_dirs: Sequence[Path], uri: str | None = None) -> Iterator[tuple[Path, Outcome]]:
    """Sends what is unsent of finished runs, one after the other in one process, and says how each went.

    uri: an address to send to instead of the one that each run knows; a run already sent elsewhere is sent again.
    """
    process = _process(run_dirs, Settings(follow=False, uri=uri), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.close()
        for run_dir in run_dirs:
            line = process.stdout.readline()
            answer = json.loads(line) if line else {"where": "", "trouble": "the sender stopped"}
            yield run_dir, _outcome(run_dir, answer["trouble"], answer["where"])
        process.wait()
    finally:  # Ctrl-C: the sender has its own session and would go on
        process.kill()
        process.wait()
        process.stdout.close()


def _process(
    run_dirs: Sequence[Path], settings: Settings, *, stdout: IO[bytes] | int, stderr: IO[bytes] | int
) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        # The child sees the modules that this process sees, not whatever lies in the working directory.
        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        "PYTHONSAFEPATH": "1",
        "PYTHONWARNINGS": "ignore",  # MLflow's own warnings: nobody reads them there
        "OMP_NUM_THREADS": "1",  # it computes nothing: leave the cores to the training
        "OPENBLAS_NUM_THREADS": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "cnnforge.tracking", *map(str, run_dirs)],
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=stderr,
        env=environment,
        start_new_session=True,  # Ctrl-C in the terminal is for the training, not for the sender
    )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # died at once: its exit code says so
        # through the pipe, not as arguments: an address may hold a password, and `ps` shows arguments to everyone
        process.stdin.write(json.dumps(asdict(settings)).encode() + b"\n")
        process.stdin.flush()
    return process


def _pending(run_dir: Path) -> int:
    return count(journal_path(run_dir), load(run_dir).offset)


def _outcome(run_dir: Path, trouble: str, where: str = "") -> Outcome:
    state, pending = load(run_dir), _pending(run_dir)
    where = where or shown(address(state.store or destination(state.uri), run_dir))
    if pending:
        trouble = trouble or state.error or "the sender stopped, see tracking.log"
        records = f"{pending} record{'s' if pending > 1 else ''}"
        reason = f"{records} not sent to {where}: {trouble}; cnnforge sync {shlex.quote(str(run_dir))} sends them"
    elif state.refused:
        reason = f"sent to {where}, but for {state.refused} left out and named in {run_dir / 'tracking.log'}"
    else:
        reason = f"sent to {where}"
    return Outcome(state.mlflow_run_id, pending, reason, where, trouble)
