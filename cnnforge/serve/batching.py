"""Requests that arrive together run as one batch."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class Busy(Exception):
    """More pictures wait than may."""


class Closed(Exception):
    """The batcher ended before the answer was there."""


@dataclass(frozen=True, eq=False, slots=True)
class _Job:
    """One picture (H, W, C), and where its row of the answer goes."""

    x: NDArray[Any]
    row: asyncio.Future[NDArray[Any]]


class Batcher:
    """Runs ``predict`` in one thread of its own, on as many pictures as have come.

    A batch begins when the thread is free, with all that wait by then; with ``wait`` above 0 (seconds), one that is not
    full waits so long for more. Pictures whose requests were given up are left out.

    predict: (n, H, W, C) -> (n, ...), with n from 1 to ``largest``;  queue: pictures that may wait
    pictures, batches: how many were run

    Use it as an asynchronous context manager; everything but ``predict`` runs in the event loop.
    """

    def __init__(
        self, predict: Callable[[NDArray[Any]], NDArray[Any]], largest: int, wait: float = 0.0, queue: int = 1024
    ) -> None:
        self._predict, self._largest, self._wait, self._most = predict, largest, wait, queue
        self._thread = ThreadPoolExecutor(1, "predict")
        self._jobs: deque[_Job] = deque()
        self._came = asyncio.Event()
        self._closed = False
        self.pictures = self.batches = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._serve())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
                        ) -> None:  # fmt: skip
        self._closed = True
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._thread.shutdown()

    @property
    def waiting(self) -> int:
        """Pictures that are in no batch yet."""
        return len(self._jobs)

    async def run(self, pictures: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """``predict``'s rows for these pictures, in their order. Raises Busy, Closed, or what ``predict`` raised."""
        if self._closed:
            raise Closed
        if len(self._jobs) + len(pictures) > self._most:
            raise Busy
        loop = asyncio.get_running_loop()
        jobs = [_Job(x, loop.create_future()) for x in pictures]
        self._jobs.extend(jobs)
        self._came.set()
        return list(await asyncio.gather(*(job.row for job in jobs)))

    async def alone(self, work: Callable[[], T]) -> T:
        """What ``work`` gives, run in the same thread between two batches."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _serve(self) -> None:
        batch: list[_Job] = []
        try:
            while True:
                await self._gather()
                batch = self._take()
                if batch:
                    await self._answer(batch)
        finally:
            for job in (*batch, *self._jobs):
                if not job.row.done():
                    job.row.set_exception(Closed())
            self._jobs.clear()

    async def _gather(self) -> None:
        """Returns when there is something to run."""
        loop = asyncio.get_running_loop()
        deadline: float | None = None
        while len(self._jobs) < self._largest:
            if self._jobs:
                deadline = deadline or loop.time() + self._wait
                if loop.time() >= deadline:
                    return
            self._came.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._came.wait()
            except TimeoutError:
                return

    def _take(self) -> list[_Job]:
        batch: list[_Job] = []
        while self._jobs and len(batch) < self._largest:
            job = self._jobs.popleft()
            if not job.row.done():
                batch.append(job)
        return batch

    async def _answer(self, batch: list[_Job]) -> None:
        try:
            rows = await self.alone(lambda: self._predict(np.stack([job.x for job in batch])))
            answered = list(zip(batch, rows, strict=True))
        except Exception as error:
            for job in batch:
                if not job.row.done():
                    job.row.set_exception(error)
            return
        self.batches += 1
        self.pictures += len(batch)
        for job, row in answered:
            if not job.row.done():
                job.row.set_result(row)
