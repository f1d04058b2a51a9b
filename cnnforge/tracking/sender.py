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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO

from cnnforge.tracking.family import trial_runs
from cnnforge.tracking.journal import count, journal_path
from cnnforge.tracking.state import Settings, Tracking, address, destination, load, save, shown, state_path

#: The process's exit codes: sent all; the tracker did not answer; another process is sending this run.
ALL_SENT, UNREACHABLE, BUSY = 0, 75, 76
#: Run folders that ``send_all`` gives to one process: the system bounds the length of a command.
AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the sending ended.

    run_id:  the MLflow run, ``None`` if there is none yet
    pending: journal records that MLflow does not have; of a sweep with those of its trials
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
    """The running sender of one run or one sweep; made by ``start`` or ``start_sweep``."""

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

        A sender that died on the way is started once more. Without an ``end`` record the MLflow run becomes KILLED,
        but for a sweep's trials that a living process still writes: they stay RUNNING.
        """
        deadline = time.monotonic() + timeout
        in_time = self._wait(deadline)
        if in_time and self._died() and self._unfinished():
            self._process = self._spawn()
            in_time = self._wait(deadline)
        outcome = _outcome(self._run_dirs(), self._trouble if in_time else f"not done within {timeout:g} s")
        return outcome if outcome.pending else replace(outcome, trouble="")

    def _run_dirs(self) -> list[Path]:
        return [self.run_dir, *(trial_runs(self.run_dir) if self._settings.trials else ())]

    def _unfinished(self) -> bool:
        return any(_pending(one) or load(one).status == "RUNNING" for one in self._run_dirs())

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
    return Sender(run_dir, replace(announce(run_dir, uri=uri, experiment=experiment, run_name=run_name), follow=True))


def start_sweep(sweep_dir: Path, *, uri: str | None, experiment: str, run_name: str = "") -> Sender:
    """As ``start``, for a sweep and all of its trials by one process; the sweep's run is the parent of theirs.

    Trials are found as they appear in ``SWEEP/trials/N`` and ``SWEEP/trials/N/REPLICA``: each needs a journal, and
    ``announce`` instead of ``start``. run_name: empty for the folder's name.
    """
    name = run_name or sweep_dir.name
    settings = announce(sweep_dir, uri=uri, experiment=experiment, run_name=name)
    return Sender(sweep_dir, replace(settings, follow=True, trials=True))


def announce(run_dir: Path, *, uri: str | None, experiment: str, run_name: str) -> Settings:
    """Notes where a run shall be sent, and starts nothing: its sweep's sender sends it, or ``cnnforge sync`` later.

    The arguments are those of ``start``. What was noted in an earlier life of the run stays.
    """
    experiment = experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME", "")
    if not state_path(run_dir).exists():
        # From here on `sync` knows the run, even if a sender never starts. Later only a sender, which holds the
        # lock, changes the file: a sender of the run's last life may still be at work when the run is resumed.
        with contextlib.suppress(OSError):  # a full disk is the journal's to report
            save(run_dir, Tracking(uri=uri, experiment=experiment, run_name=run_name))
    return Settings(follow=False, uri=uri, experiment=experiment, run_name=run_name)


def send_all(run_dirs: Sequence[Path], uri: str | None = None) -> Iterator[tuple[Path, Outcome]]:
    """Sends what is unsent of finished runs, one after the other in one process, and says how each went.

    run_dirs: a sweep before its trials. uri: an address to send to instead of the one that each run knows; a run
    already sent elsewhere is sent again.
    """
    for first in range(0, len(run_dirs), AT_ONCE):
        yield from _send_some(run_dirs[first : first + AT_ONCE], uri)


def delete_all(run_dirs: Sequence[Path]) -> Iterator[tuple[Path, str, str]]:
    """Marks runs as deleted where they were sent, in one process: (folder, address, what stood in the way) of each."""
    for first in range(0, len(run_dirs), AT_ONCE):
        some = run_dirs[first : first + AT_ONCE]
        for run_dir, answer in _answers(some, Settings(follow=False, delete=True)):
            yield run_dir, answer["where"], answer["trouble"]


def _send_some(run_dirs: Sequence[Path], uri: str | None) -> Iterator[tuple[Path, Outcome]]:
    for run_dir, answer in _answers(run_dirs, Settings(follow=False, uri=uri)):
        yield run_dir, _outcome([run_dir], answer["trouble"], answer["where"])


def _answers(run_dirs: Sequence[Path], settings: Settings) -> Iterator[tuple[Path, dict[str, str]]]:
    """A process that does one thing to each run, and its answer for each."""
    process = _process(run_dirs, settings, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.close()
        for run_dir in run_dirs:
            line = process.stdout.readline()
            yield run_dir, json.loads(line) if line else {"where": "", "trouble": "the sender stopped"}
        process.wait()
    finally:  # Ctrl-C: the sender has its own session and would go on
        process.kill()
        process.wait()
        process.stdout.close()


def child_environment() -> dict[str, str]:
    """Of a Python process that sees the modules that this one sees, not whatever lies in the working directory."""
    path = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    return {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


def _process(
    run_dirs: Sequence[Path], settings: Settings, *, stdout: IO[bytes] | int, stderr: IO[bytes] | int
) -> subprocess.Popen[bytes]:
    environment = {
        **child_environment(),
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


def _outcome(run_dirs: Sequence[Path], trouble: str, where: str = "") -> Outcome:
    """How it went with a run, or with a sweep and its trials."""
    run_dir, states = run_dirs[0], [load(one) for one in run_dirs]
    pending = sum(_pending(one) for one in run_dirs)
    refused = sum(state.refused for state in states)
    where = where or shown(address(states[0].store or destination(states[0].uri), run_dir))
    if pending:
        trouble = trouble or next((state.error for state in states if state.error), "")
        trouble = trouble or "the sender stopped, see tracking.log"
        records = f"{pending} record{'s' if pending > 1 else ''}"
        reason = f"{records} not sent to {where}: {trouble}; cnnforge sync {shlex.quote(str(run_dir))} sends them"
    elif refused:
        log = f"{run_dir / 'tracking.log'}{', or in that of a trial' if len(run_dirs) > 1 else ''}"
        reason = f"sent to {where}, but for {refused} left out and named in {log}"
    else:
        reason = f"sent to {where}"
    return Outcome(states[0].mlflow_run_id, pending, reason, where, trouble)
