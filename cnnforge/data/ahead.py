"""Batches made ahead of time on a thread, so that a training step only takes the next one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

#: Batches that are made before they are asked for. A step takes longer than making its batch, so two are enough; what
#: takes longer is the draw of an epoch, which is made during the validation before it.
DEPTH = 2


class Source(Protocol):
    """Samples in batches; ``Batches`` is one."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches per epoch, a partial last one included."""

    def size(self, step: int, /) -> int:
        """Samples in batch ``step`` of an epoch."""

    def epoch(self, number: int, /) -> Any:
        """What is drawn for an epoch, such as the order of its samples: a pure function of the seed and ``number``."""

    def fill(self, epoch: Any, step: int, x: Any, labels: Any, /) -> int:
        """Write batch ``step`` into the first n rows of x (…, H, W, C) and labels (…); returns n."""


class InTurn:
    """``total`` batches of ``source`` from one place on, each made when it is asked for, where a step reads it.

    epoch, step: the place of the first batch
    """

    def __init__(self, source: Source, epoch: int, step: int, total: int) -> None:
        self._source = source
        self._places = _places(source, epoch, step, total)

    def __enter__(self) -> None:
        """Nothing to start."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Nothing to end."""

    def next(self, x: Any, labels: Any) -> None:
        """Write the next batch into x (n, H, W, C) and labels (n, …)."""
        self._source.fill(*next(self._places), x, labels)


@dataclass
class _Made:
    """A batch: its first ``n`` rows count."""

    x: NDArray[Any]
    labels: NDArray[Any]
    n: int = 0


class Ahead:
    """The same batches, each made by a thread before it is asked for.

    What a batch holds follows from its place alone, so whether it waits or is waited for changes nothing. What goes
    wrong in the thread is raised where the batch is asked for. The thread lives from entering to leaving.

    like: (x, labels) as of the largest batch: shapes and types
    put:  how an array of the host gets to where a step reads it, as ``Backend.put``
    """

    def __init__(
        self,
        source: Source,
        epoch: int,
        step: int,
        total: int,
        *,
        like: tuple[Any, Any],
        put: Callable[[Any, Any], None],
    ) -> None:
        self._source, self._put, self._over = source, put, False
        self._places = _places(source, epoch, step, total)
        self._made: SimpleQueue[_Made | BaseException] = SimpleQueue()
        self._free: SimpleQueue[_Made | None] = SimpleQueue()
        for _ in range(DEPTH):
            x, labels = (np.empty(array.shape, array.dtype) for array in like)
            self._free.put(_Made(x, labels))
        self._thread = Thread(target=self._work, name="cnnforge-batches", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._over = True
        self._free.put(None)
        self._thread.join()

    def next(self, x: Any, labels: Any) -> None:
        """Put the next batch into x (n, H, W, C) and labels (n, …)."""
        made = self._made.get()
        if isinstance(made, BaseException):
            raise made
        self._put(made.x[: made.n], x)
        self._put(made.labels[: made.n], labels)
        self._free.put(made)

    def _work(self) -> None:
        try:
            for drawn, step in self._places:
                room = self._free.get()
                if room is None or self._over:
                    return
                room.n = self._source.fill(drawn, step, room.x, room.labels)
                self._made.put(room)
        except BaseException as error:
            self._made.put(error)


def _places(source: Source, epoch: int, step: int, total: int) -> Iterator[tuple[Any, int]]:
    """What is drawn for the epoch, and the step in it, of ``total`` batches."""
    while total > 0:
        drawn, steps = source.epoch(epoch), min(source.steps_per_epoch - step, total)
        yield from ((drawn, step + i) for i in range(steps))
        epoch, step, total = epoch + 1, 0, total - steps
