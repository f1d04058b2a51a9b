"""Placing buffers with known lifetimes in one stretch of memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Every buffer begins on a cache line, which is also the width of the widest vector register.
ALIGN = 64


@dataclass(frozen=True, slots=True)
class Request:
    """``nbytes`` from before node ``first`` runs until after node ``last`` has run."""

    nbytes: int
    first: int
    last: int

    def overlaps(self, other: Request) -> bool:
        return self.first <= other.last and other.first <= self.last


def aligned(nbytes: int) -> int:
    """``nbytes`` rounded up to whole cache lines."""
    return -(-nbytes // ALIGN) * ALIGN


def place(requests: Sequence[Request]) -> tuple[list[int], int]:
    """An offset for each request, and the total bytes, so that no two that live at once overlap.

    Two greedy orders are tried, largest first (Pisarchyk and Lee, 2020) and in order of time; the smaller total wins.
    """
    largest_first = sorted(range(len(requests)), key=lambda i: (-requests[i].nbytes, requests[i].first))
    by_time = sorted(range(len(requests)), key=lambda i: (requests[i].first, -requests[i].nbytes))
    return min((_first_fit(requests, order) for order in (largest_first, by_time)), key=lambda placed: placed[1])


def _first_fit(requests: Sequence[Request], order: Sequence[int]) -> tuple[list[int], int]:
    offsets = [0] * len(requests)
    total = 0
    placed: list[int] = []  # by offset
    for i in order:
        at = 0
        for j in placed:
            if requests[i].overlaps(requests[j]):
                if offsets[j] - at >= requests[i].nbytes:
                    break
                at = max(at, offsets[j] + aligned(requests[j].nbytes))
        offsets[i] = at
        total = max(total, at + aligned(requests[i].nbytes))
        placed.append(i)
        placed.sort(key=offsets.__getitem__)
    return offsets, total


def lower_bound(requests: Sequence[Request]) -> int:
    """The most bytes alive at any one time: no placement can be smaller."""
    times = {r.first for r in requests}
    return max((sum(aligned(r.nbytes) for r in requests if r.first <= t <= r.last) for t in times), default=0)
