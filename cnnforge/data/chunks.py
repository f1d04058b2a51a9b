"""Going through many samples a few at a time."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

#: Numbers worked on at a time. As float64 that is half a megabyte: it stays in cache, and the allocator hands the same
#: memory out again instead of fetching fresh pages (on MNIST a quarter of the time that chunks four times larger take).
NUMBERS = 1 << 16


def chunks(n: int, shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices that together cover ``range(n)`` samples of ``shape``."""
    size = max(1, NUMBERS // max(1, prod(shape)))
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
