"""Ctrl-C and SIGTERM as a request that the loop answers between two steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

from cnnforge.errors import InterruptedRun, TerminatedRun


class StopRequest:
    """While entered, the first Ctrl-C or SIGTERM is remembered; a second one interrupts at once.

    Off the main thread, where Python delivers no signals, it changes nothing.
    """

    def __init__(self) -> None:
        self.reason: InterruptedRun | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.reason is not None:
            raise KeyboardInterrupt
        if number == signal.SIGTERM:
            self.reason = TerminatedRun("terminated", why="the process received SIGTERM")
        else:
            self.reason = InterruptedRun("interrupted", why="Ctrl-C")
