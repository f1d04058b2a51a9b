"""The processes that train a sweep's trials: started once, given one trial after another."""

from __future__ import annotations

import contextlib
import json
import signal as signals
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any

from cnnforge.sweep.trials import Trial
from cnnforge.tracking.sender import child_environment

#: Seconds that a run has to write its checkpoint once it is asked to stop.
STOPPING = 60.0


class Process:
    """One process. ``trial``: what it works on."""

    def __init__(self, events: SimpleQueue[tuple[Process, Mapping[str, Any]]], log: IO[bytes]) -> None:
        self.trial: Trial | None = None
        self.stopping = False
        self._events = events
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cnnforge.sweep.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=child_environment(), text=True,
            start_new_session=True,  # Ctrl-C in the terminal is for the driver, which passes it on
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def order(self, trial: Trial, folders: Sequence[Path]) -> None:
        """Train the runs of a trial."""
        self.trial = trial
        self.tell({"runs": [str(folder.resolve()) for folder in folders]})

    def tell(self, about: Mapping[str, Any]) -> None:
        """A line to the process; one that is dead says so by itself."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ValueError):
            self.process.stdin.write(json.dumps(about) + "\n")
            self.process.stdin.flush()

    def stop(self) -> None:
        """Let its run write a checkpoint and end."""
        self.stopping = True
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signals.SIGTERM)

    def leave(self) -> None:
        """No more orders: an idle process ends at once, another with a checkpoint."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def end(self) -> None:
        """Wait until it has ended. One that does not is killed."""
        self.leave()
        try:
            self.process.wait(STOPPING if self.trial is not None else 5.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.close()

    def close(self) -> None:
        """What is left of a process that has ended."""
        self._reader.join(5.0)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with contextlib.suppress(ValueError):
                self._events.put((self, json.loads(line)))
        self._events.put((self, {"kind": "died", "why": _why(-self.process.wait())}))


def _why(signal: int) -> str:
    """Why a process has ended."""
    if signal <= 0:
        return "it ended by itself, see workers*.log"
    return f"signal {signal}{': not enough memory, or kill -9' if signal == signals.SIGKILL else ''}"


class Processes:
    """As many processes as trials at a time. Entered, they are there; left, they are gone."""

    def __init__(self, count: int, log: Path) -> None:
        self.count, self._path = count, log
        self._events: SimpleQueue[tuple[Process, Mapping[str, Any]]] = SimpleQueue()
        self.all: list[Process] = []

    def __enter__(self) -> Processes:
        self._log = self._path.open("ab")
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.all:  # not by a signal: it gives itself one, and a second would interrupt the checkpoint
            worker.leave()
        for worker in self.all:
            worker.end()
        self._log.close()

    @property
    def busy(self) -> list[Process]:
        """Those that work on a trial."""
        return [worker for worker in self.all if worker.trial is not None]

    def idle(self) -> Process | None:
        """One that has nothing to do, started where there may be more; None where all are busy."""
        for worker in self.all:
            if worker.trial is None:
                return worker
        if len(self.all) < self.count:
            self.all.append(Process(self._events, self._log))
            return self.all[-1]
        return None

    def next(self, timeout: float) -> tuple[Process, Mapping[str, Any]] | None:
        """What a process says next; None where none says anything for ``timeout`` seconds."""
        try:
            worker, said = self._events.get(timeout=timeout)
        except Empty:
            return None
        if said["kind"] == "died":
            self.all.remove(worker)
            worker.close()
        return worker, said
