"""Sending a whole sweep from one process: its own journal first, then those of its trials as they appear and grow.

A process per trial would import MLflow per trial, 2 to 3 s of processor time each. Between two visits of a trial only a
few numbers are kept: no open file, no lock, and once it has ended and is sent, only the length of its journal.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from cnnforge.tracking.delivery import Delivery, log
from cnnforge.tracking.family import TRIALS, runs_of_trial, trial_numbers
from cnnforge.tracking.journal import count, is_written, journal_path
from cnnforge.tracking.mlflow import RunDeletedError, said
from cnnforge.tracking.state import LockHeldError, Settings, Tracking, load, locked, sending_lock

NEWEST = 64  # trials looked at in every round, the last that appeared
OTHERS = 256  # and as many of the others, in turn: one of them may have been resumed
QUIET_SECONDS = 5.0  # a journal that has not grown for so long: does its writer live?
LONGEST_PAUSE = 60.0  # seconds between attempts at one trial that fails
LINGER_SECONDS = 5.0  # for trials that still write when the sweep has ended
LINGER_POLL = 0.5


@dataclass
class _Trial:
    """A run below the sweep that has not ended, or is not sent whole. Times: of ``time.monotonic``."""

    run_dir: Path
    delivery: Delivery | None = None
    grown: float = field(default_factory=time.monotonic)
    failures: int = 0
    rest_until: float = 0.0


class SweepDelivery:
    """Sends a sweep's journal and its trials'; the caller holds the sweep's sending lock. Used as a ``Delivery``."""

    def __init__(self, sweep_dir: Path, settings: Settings) -> None:
        self.sweep_dir = sweep_dir
        self._head = Delivery(sweep_dir, settings)
        # a trial's own name stays; where it goes is the sweep's to say, or it could not be nested
        self._settings = replace(settings, run_name="")
        self._names: list[str] = []
        self._turn = 0
        self._active: dict[Path, _Trial] = {}
        self._done: dict[Path, int] = {}  # the length of each journal that ended and is sent
        self._deleted: RunDeletedError | None = None

    @property
    def address(self) -> str:
        """Where the records go."""
        return self._head.address

    def send(self) -> None:
        """Sends what is there, the sweep's own records first. Raises what stands in the way of all."""
        self._deleted = None
        self._send_head()
        if self._head.state.mlflow_run_id is not None:
            self._send_trials(last=False)

    def close(self) -> None:
        """The sweep has ended: sends the rest; runs that never said how they ended and that nobody writes were killed.

        A trial that a living process still writes is waited for a little and then left running.
        Raises ``RunDeletedError`` once all is done where somebody deleted the sweep or trials of it.
        """
        self._deleted = None
        self._send_head()
        until = time.monotonic() + LINGER_SECONDS
        self._send_trials(last=True)
        while self._anyone_writes() and time.monotonic() < until:
            time.sleep(LINGER_POLL)
            self._send_trials(last=True)
        if self._deleted is not None:
            raise self._deleted
        self._head.close()

    def failed(self, reason: str) -> None:
        """As of ``Delivery``; what a trial could not send is noted with the trial."""
        self._head.failed(reason)

    def _send_head(self) -> None:
        try:
            self._head.send()
        except RunDeletedError as error:  # trials that MLflow has already still get their ends
            self._head.failed(said(error))
            self._deleted = error

    def _send_trials(self, last: bool) -> None:
        self._look(last)
        now = time.monotonic()
        for trial in sorted(self._active.values(), key=lambda one: one.failures):  # one at fault holds up no other
            if last or now >= trial.rest_until:
                self._visit(trial, last)

    def _look(self, everything: bool) -> None:
        """Notices trials that appeared, and ended ones that grew."""
        known = set(self._names)
        new = [name for name in trial_numbers(self.sweep_dir) if name not in known]
        self._names += new
        names = self._names
        newest = max(NEWEST, len(new))
        if not everything and len(names) > newest + OTHERS:
            old = names[:-newest]
            self._turn %= len(old)
            names = old[self._turn : self._turn + OTHERS] + names[-newest:]
            self._turn += OTHERS
        for name in names:
            for run_dir in runs_of_trial(self.sweep_dir / TRIALS / name):
                if run_dir not in self._active and _size(run_dir) != self._done.get(run_dir):
                    self._active[run_dir] = _Trial(run_dir)

    def _visit(self, trial: _Trial, last: bool) -> None:
        size = _size(trial.run_dir)
        quiet = trial.delivery is not None and trial.delivery.state.offset == size
        if size == 0 or (quiet and not last and time.monotonic() < trial.grown + QUIET_SECONDS):
            return
        try:
            with _own_log(trial.run_dir), locked(sending_lock(trial.run_dir), timeout=0.0):
                state = self._send(trial, last)
        except LockHeldError:
            return  # somebody trains or sends this one on its own
        over = state.mlflow_run_id is not None and state.status != "RUNNING"
        if over and not count(journal_path(trial.run_dir), state.offset):
            del self._active[trial.run_dir]
            self._done[trial.run_dir] = size  # of before: what came since is seen in the next round

    def _send(self, trial: _Trial, last: bool) -> Tracking:
        delivery = trial.delivery
        if delivery is None or delivery.state != load(trial.run_dir):  # another process may have sent meanwhile
            delivery = trial.delivery = Delivery(trial.run_dir, self._settings)
        while True:
            try:
                self._send_once(trial, delivery, last)
                return delivery.state
            except Exception as error:
                delivery.failed(said(error))
                if last and delivery.doubtful:
                    continue
                trial.failures += 1
                trial.rest_until = time.monotonic() + min(2.0**trial.failures, LONGEST_PAUSE)
                if isinstance(error, RunDeletedError):
                    self._deleted = error
                elif not delivery.doubtful:
                    raise
                return delivery.state

    @staticmethod
    def _send_once(trial: _Trial, delivery: Delivery, last: bool) -> None:
        before = delivery.state.offset
        delivery.send()
        if delivery.state.offset != before:
            trial.grown, trial.failures = time.monotonic(), 0
        if (last or time.monotonic() >= trial.grown + QUIET_SECONDS) and not is_written(trial.run_dir):
            delivery.send()  # what its writer wrote before it let go
            delivery.close()

    def _anyone_writes(self) -> bool:
        return any(is_written(run_dir) for run_dir in self._active)


def _size(run_dir: Path) -> int:
    try:
        return journal_path(run_dir).stat().st_size
    except OSError:  # the folder was removed
        return 0


@contextmanager
def _own_log(run_dir: Path) -> Iterator[None]:
    """What is said of a trial goes into the trial's own ``tracking.log``."""
    handler = logging.FileHandler(run_dir / "tracking.log", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    log.addHandler(handler)
    log.propagate = False
    try:
        yield
    finally:
        log.propagate = True
        log.removeHandler(handler)
        handler.close()
