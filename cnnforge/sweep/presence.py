"""Which drivers of a sweep are alive: by a lock on their own host, by signs of life in the storage on others."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, time

from cnnforge.errors import InterruptedRun
from cnnforge.sweep.study import Study
from cnnforge.tracking.state import LockHeldError, acquire

#: Seconds between two signs of life, and those after which a driver that gives none is taken for dead.
SIGN_EVERY, SILENT = 30.0, 300.0


class Presence:
    """This driver, as others see it. ``name``: no other driver ever has it, on any host."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._host = f".driver-{socket.gethostname()}"
        # The number of a process alone is the same in every container.
        self.name = f"{self._host}-{os.getpid()}-{secrets.token_hex(3)}"
        self._signed: float | None = None

    def sign(self, study: Study) -> bool:
        """Give a sign of life where it is time to; was it?"""
        if self._signed is not None and monotonic() - self._signed < SIGN_EVERY:
            return False
        self._signed = monotonic()
        study.sign(self.name, time())
        return True

    def leave(self, study: Study) -> None:
        """This driver does nothing more: nobody need wait for it to be silent."""
        study.sign(self.name, 0.0)

    def is_dead(self, owner: str, study: Study) -> bool:
        """Will the driver of that name do nothing more?

        On its own host, in the same folder, the system knows at once: it lets go of a dead process's lock. Elsewhere
        locks cannot be trusted, as some network disks have none; there it is the silence, by clocks that agree within
        a minute or so.
        """
        if owner == self.name:
            return False
        if not owner:  # killed, or at this moment about to write its name there
            return all(self.is_dead(other, study) for other in study.signs if other != self.name)
        lock = self._folder / owner
        if owner.rsplit("-", 2)[0] == self._host and lock.is_file():
            try:
                acquire(lock, timeout=0.0).close()
            except LockHeldError:
                return False
            return True
        return time() - study.signs.get(owner, 0.0) > SILENT


@contextmanager
def present(folder: Path) -> Iterator[Presence]:
    """This driver is alive. Its lock's file stays where it ended by a mistake, so that others need not wait."""
    me = Presence(folder)
    with acquire(folder / me.name, timeout=1.0):
        try:
            yield me
        except InterruptedRun:
            (folder / me.name).unlink(missing_ok=True)
            raise
        (folder / me.name).unlink(missing_ok=True)
