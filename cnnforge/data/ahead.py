"""Batches made ahead of time on a thread, so that a training step only takes the next one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any, Protocol

#: x and labels, to be filled.
Room = tuple[Any, Any]
#: ``vacated(number)``: wait until nothing reads the room of that number any more, beside who was given it. It is asked
#: for before a room is filled, on the thread that fills it.
Vacated = Callable[[int], None]


def _vacant(number: int) -> None:
    """Rooms that a step reads where they are."""


class Source(Protocol):
    """Samples in batches; ``Batches`` is one."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches per epoch, a partial last one included."""

    def size(self, step: int, /) -> int:
        """Samples in batch ``step`` of an epoch."""

    def shard(self, step: int, /) -> range:
        """Which samples of batch ``step`` are wanted here: all of them, but where processes share it."""

    def epoch(self, number: int, /) -> Any:
        """What is drawn for an epoch, such as the order of its samples: a pure function of the seed and ``number``."""

    def rows(self, number: int, step: int, /) -> Any:
        """The samples that ``fill`` writes of batch ``step`` of epoch ``number``: (n,) int64, counted in the split."""

    def fill(self, epoch: Any, step: int, x: Any, labels: Any, /) -> int:
        """Write the shard of batch ``step`` into the first n rows of x (…, H, W, C) and labels (…); returns n.

        Of an empty shard it is one sample.
        """


class InTurn:
    """``total`` batches of ``source`` from one place on, each made when it is asked for.

    epoch, step: the place of the first batch
    room:        x (n, H, W, C) and labels (n, …) of the largest batch, where a step reads them
    """

    def __init__(
        self, source: Source, epoch: int, step: int, total: int, room: Room, vacated: Vacated = _vacant
    ) -> None:
        self._source, self._room, self._vacated = source, room, vacated
        self._places = _places(source, epoch, step, total)

    def __enter__(self) -> None:
        """Nothing to start."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Nothing to end."""

    def next(self) -> None:
        """Write the next batch into the first rows of the room."""
        self._vacated(0)
        self._source.fill(*next(self._places), *self._room)


class Ahead:
    """The same batches, each made by a thread before it is asked for, in one of several rooms.

    What a batch holds follows from its place alone, so whether it waits or is waited for changes nothing. What goes
    wrong in the thread is raised where the batch is asked for. The thread lives from entering to leaving.
    """

    def __init__(
        self, source: Source, epoch: int, step: int, total: int, rooms: Sequence[Room], vacated: Vacated = _vacant
    ) -> None:
        self._source, self._rooms, self._vacated, self._over = source, rooms, vacated, False
        self._places = _places(source, epoch, step, total)
        self._made: SimpleQueue[int | BaseException] = SimpleQueue()
        self._free: SimpleQueue[int | None] = SimpleQueue()
        for number in range(len(rooms)):
            self._free.put(number)
        self._read: int | None = None
        self._thread = Thread(target=self._work, name="cnnforge-batches", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._over = True
        self._free.put(None)
        self._thread.join()

    def next(self) -> int:
        """The number of the room that holds the next batch, to be read until the one after it is asked for."""
        if self._read is not None:
            self._free.put(self._read)
        made = self._made.get()
        if isinstance(made, BaseException):
            raise made
        self._read = made
        return made

    def _work(self) -> None:
        try:
            for drawn, step in self._places:
                number = self._free.get()
                if number is None or self._over:
                    return
                self._vacated(number)
                self._source.fill(drawn, step, *self._rooms[number])
                self._made.put(number)
        except BaseException as error:
            self._made.put(error)


def _places(source: Source, epoch: int, step: int, total: int) -> Iterator[tuple[Any, int]]:
    """What is drawn for the epoch, and the step in it, of ``total`` batches."""
    while total > 0:
        drawn, steps = source.epoch(epoch), min(source.steps_per_epoch - step, total)
        yield from ((drawn, step + i) for i in range(steps))
        epoch, step, total = epoch + 1, 0, total - steps
