"""Whatever comes, is given up, or fails in whatever order: every answer is that of its own picture."""

from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnforge.serve.batching import Batcher, Busy, Closed

#: (pictures of the request, turns of the event loop before it comes, turns after which it is given up or None)
REQUESTS = st.lists(
    st.tuples(st.integers(1, 5), st.integers(0, 12), st.none() | st.integers(0, 12)), min_size=1, max_size=12
)


@given(REQUESTS, st.integers(1, 6), st.sampled_from([0.0, 0.001]), st.integers(0, 3), st.sampled_from([0.0, 0.0005]))
@settings(max_examples=60)
def test_every_answer_belongs_to_its_request(requests, largest, wait, failing, takes):
    """The number of a picture is in its pixels; every ``failing``-th batch raises instead."""
    sizes: list[int] = []

    def predict(x):
        sizes.append(len(x))
        time.sleep(takes)
        if failing and len(sizes) % (failing + 1) == 0:
            raise ArithmeticError("this batch fails")
        return x.reshape(len(x), -1)[:, :1] * 10.0

    async def one(batcher, number, count, come, leave):
        for _ in range(come):
            await asyncio.sleep(0)
        tags = [100 * number + i for i in range(count)]
        asked = asyncio.create_task(batcher.run([np.full((2, 2, 1), tag, np.float32) for tag in tags]))
        if leave is not None:
            for _ in range(leave):
                await asyncio.sleep(0)
            asked.cancel()
        try:
            rows = await asked
        except asyncio.CancelledError:
            assert leave is not None
            return "left"
        except ArithmeticError:
            return "failed"
        assert [float(row[0]) for row in rows] == [10.0 * tag for tag in tags]
        return "answered"

    async def all_of_them():
        async with Batcher(predict, largest, wait) as batcher:
            ended = await asyncio.wait_for(
                asyncio.gather(*(one(batcher, i, *request) for i, request in enumerate(requests))), 30
            )
        return ended

    ended = asyncio.run(all_of_them())
    assert all(1 <= size <= largest for size in sizes)
    assert failing or "failed" not in ended
    assert sum(sizes) <= sum(count for count, *_ in requests)


def asking(predict, largest, wait, work, queue=1024):
    async def inside():
        async with Batcher(predict, largest, wait, queue) as batcher:
            return await asyncio.wait_for(work(batcher), 30)

    return asyncio.run(inside())


PICTURE = np.zeros((1, 1, 1), np.float32)


def test_what_comes_while_a_batch_runs_is_the_next():
    go, sizes = threading.Event(), []

    def predict(x):
        sizes.append(len(x))
        go.wait(30)
        return x

    async def work(batcher):
        first = asyncio.create_task(batcher.run([PICTURE]))
        while not sizes:
            await asyncio.sleep(0.001)
        rest = [asyncio.create_task(batcher.run([PICTURE])) for _ in range(5)]
        await asyncio.sleep(0)
        rest[0].cancel()  # nobody waits for it any more: it is not run
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(first, *rest[1:])

    asking(predict, 8, 0.0, work)
    assert sizes == [1, 4]


def test_a_full_batch_does_not_wait():
    async def work(batcher):
        await batcher.run([PICTURE] * 4)

    asking(lambda x: x, 4, 3600.0, work)


def test_a_batch_waits_for_more():
    sizes = []

    async def work(batcher):
        first = asyncio.create_task(batcher.run([PICTURE]))
        await asyncio.sleep(0.01)
        await asyncio.gather(first, batcher.run([PICTURE]))

    asking(lambda x: sizes.append(len(x)) or x, 2, 3600.0, work)
    assert sizes == [2]


def test_more_than_may_wait_is_refused():
    async def work(batcher):
        with pytest.raises(Busy):
            await batcher.run([PICTURE] * 5)
        return await batcher.run([PICTURE] * 4)

    assert len(asking(lambda x: x, 2, 0.0, work, queue=4)) == 4


def test_who_waits_when_it_ends_is_told():
    async def work():
        batcher = Batcher(lambda x: x, 2, 3600.0)
        async with batcher:
            waiting = asyncio.create_task(batcher.run([PICTURE]))
            await asyncio.sleep(0.01)
        with pytest.raises(Closed):
            await waiting
        with pytest.raises(Closed):
            await batcher.run([PICTURE])

    asyncio.run(work())
