"""A worker of a sweep: ``python -m cnnforge.sweep.worker``, a process that trains one trial after another.

Its orders come on standard input, a line of JSON each; it answers on standard output in the same way. Whatever else
would be printed there goes to standard error. It ends when its input does: a run that is under way then writes its
checkpoint, as it does for SIGTERM.

An order: ``{"runs": [FOLDER, …]}``: the runs of a trial, each folder with its ``config.yaml``.
Answers: ``{"kind": "ready"}``; while it trains ``note``, ``begin``, ``step``, ``epoch``, of which the last waits for
``{"prune": true or false}``; at the end ``done``, ``pruned``, ``failed`` or ``interrupted``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from time import monotonic
from typing import Any

from cnnforge.train.folder import finite, read_result

#: Seconds between two ``step`` lines.
STEP_EVERY = 0.5
#: Seconds that another worker has to end the same run.
ENDING = 60.0


class Line:
    """The other end: the driver. Orders and replies come in; answers go out."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)  # whatever prints does not spoil the answers
        self._in: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        self.busy = self._ended = False
        threading.Thread(target=self._read, daemon=True).start()

    def say(self, kind: str, **about: Any) -> None:
        """One answer. A driver that is gone hears nothing."""
        try:
            self._out.write(json.dumps(finite({"kind": kind, **about})) + "\n")
            self._out.flush()
        except BrokenPipeError:
            return

    def hear(self) -> dict[str, Any] | None:
        """The next line; None where there will be no more."""
        if self._ended and self._in.empty():  # a signal may have interrupted whoever took the last None
            return None
        return self._in.get()

    def _read(self) -> None:
        for line in sys.stdin:
            self._in.put(json.loads(line))
        self._ended = True
        self._in.put(None)
        if self.busy:
            os.kill(os.getpid(), signal.SIGTERM)


class Reporter:
    """Where a person would watch a run, a sweep's driver does."""

    def __init__(self, line: Line, run: int) -> None:
        self._line, self._run = line, run
        self._spoke = 0.0
        self._total = 0

    def note(self, text: str) -> None:
        self._line.say("note", text=text)

    def compiling(self, done: int, total: int) -> None:
        if done == 0:
            self.note(f"compiling {total} kernels for this machine, which happens once")

    def begin(self, epochs: int, steps_per_epoch: int, total_steps: int) -> None:
        self._total = total_steps
        self._line.say("begin", run=self._run, epochs=epochs)

    def step(self, progress: Any, metrics: Mapping[str, float]) -> None:
        if monotonic() - self._spoke > STEP_EVERY:
            self._spoke = monotonic()
            self._line.say("step", run=self._run, step=progress.step, steps=self._total)

    def epoch(self, progress: Any, metrics: Mapping[str, float], improved: bool) -> None:
        best = {f"best_{name}": value for name, value in progress.best_metrics.items()}
        self._line.say("epoch", run=self._run, epoch=progress.epoch, metrics={**metrics, **best})

    def prune(self) -> bool:
        """Wait for what the driver thinks of the last epoch."""
        reply = self._line.hear()
        return bool(reply and reply.get("prune"))

    def end(self) -> None:
        """Nothing to clear away."""


def main() -> int:
    """Train what is ordered until there are no more orders."""
    line = Line()
    from cnnforge.errors import CnnforgeError, InterruptedRun, PrunedRun

    import_module("cnnforge.train.run")  # what takes long, before the first order
    line.say("ready")
    while (order := line.hear()) is not None:
        line.busy = True
        try:
            results = [train(Path(folder), Reporter(line, number)) for number, folder in enumerate(order["runs"])]
            line.say("done", results=results)
        except PrunedRun:
            line.say("pruned", results=[read_result(Path(order["runs"][0]))])
        except InterruptedRun:
            line.say("interrupted")
        except CnnforgeError as error:
            line.say("failed", error=error.to_dict(), code=error.exit_code)
        except MemoryError:
            line.say("failed", error={"what": "there is not enough memory for this trial"}, code=1)
        except Exception as error:  # a bug in one trial is no reason to lose the others
            import traceback

            traceback.print_exc()
            line.say("failed", error={"what": f"{type(error).__name__}: {error}"}, code=1)
        line.busy = False
    return 0


def train(folder: Path, console: Reporter) -> dict[str, Any]:
    """Begin the run in ``folder``, go on with it, or leave it where it is over. Returns its result."""
    from cnnforge.config import read_run, validate
    from cnnforge.tracking import journal_path
    from cnnforge.tracking.journal import lock_path
    from cnnforge.tracking.state import LockHeldError, acquire
    from cnnforge.train.record import ENDED, read_record
    from cnnforge.train.run import resume, run
    from cnnforge.train.work import Guest

    guest = Guest(prune=console.prune)
    with contextlib.suppress(LockHeldError):  # a worker of a driver that was killed may still be writing a checkpoint
        acquire(lock_path(folder), timeout=ENDING).close()
    if journal_path(folder).is_file():
        record = read_record(folder)
        if record.status in ENDED and (folder / "result.json").is_file():
            return read_result(folder)
        if record.described:
            return resume(folder, (), console, guest=guest)[1]
    spec = validate(read_run(folder / "config.yaml"))
    for left in folder.iterdir():
        if left.name != "config.yaml":
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
    return run(spec, console, folder=folder, guest=guest)[1]


if __name__ == "__main__":
    sys.exit(main())
