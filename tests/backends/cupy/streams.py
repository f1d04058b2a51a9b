"""Streams and events of a GPU that is not there: work is done as late, or as early, as their order allows.

What is asked for waits in its stream until somebody waits for it; a stream in a hurry does all that it may at once. An
order that something relies on and nobody asked for is kept by neither.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class Mark:
    """A place in a stream."""

    def __init__(self, stream: Stream) -> None:
        self.stream, self.reached = stream, False


class Stream:
    """others: that may go on when this one has got somewhere;  hurried: does it do what it can at once?"""

    def __init__(self, others: list[Stream], hurried: bool = False) -> None:
        self._waiting: deque[Callable[[], None] | Mark] = deque()
        self._others, self._hurried = others, hurried
        others.append(self)

    def ask(self, what: Callable[[], None] | Mark) -> None:
        self._waiting.append(what)
        self._hurry()

    def wait_event(self, event: Event) -> None:
        """For what the event is recorded behind now, not for what it will be."""
        if event.mark is not None:
            self.ask(event.mark)

    def synchronize(self) -> None:
        mark = Mark(self)
        self.ask(mark)
        self.reach(mark)

    def reach(self, mark: Mark) -> None:
        """Do what has to be done until then, here and elsewhere."""
        while not mark.reached:
            first = self._waiting[0]
            if isinstance(first, Mark) and first.stream is not self and not first.reached:
                first.stream.reach(first)  # which may have moved this one too
            else:
                self._next()

    def _next(self) -> None:
        first = self._waiting.popleft()
        if not isinstance(first, Mark):
            first()
        elif first.stream is self:
            first.reached = True
            for other in self._others:
                other._hurry()

    def _hurry(self) -> None:
        while self._hurried and self._waiting:
            first = self._waiting[0]
            if isinstance(first, Mark) and first.stream is not self and not first.reached:
                return
            self._next()


class Event:
    def __init__(self) -> None:
        self.mark: Mark | None = None

    def record(self, stream: Stream) -> None:
        self.mark = Mark(stream)
        stream.ask(self.mark)

    def synchronize(self) -> None:
        if self.mark is not None:
            self.mark.stream.reach(self.mark)

    @property
    def done(self) -> bool:
        return self.mark is None or self.mark.reached
