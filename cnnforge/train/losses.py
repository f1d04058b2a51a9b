"""How the loop learns of losses: of each before its update; or late, from a device that adds them up by itself."""

from __future__ import annotations

from math import isfinite
from typing import Protocol

from cnnforge.backends.base import Array, Backend
from cnnforge.executable import TALLIED, Bound, Executable
from cnnforge.train.metrics import Sums
from cnnforge.train.ranks import Ranks


class Losses(Protocol):
    """The sums of an epoch, while it lasts."""

    def begin(self, sums: Sums) -> None:
        """Some batches, or none, are summed already."""

    def look(self, bound: Bound, own: bool, wanted: bool) -> Sums:
        """The batch's sums, after forward and loss; where nobody wanted them they may be none.

        own: are its samples this process's?
        """

    def count(self, sums: Sums, seen: Sums, n: int) -> None:
        """An update of ``n`` samples is done, of which this was ``seen``."""

    def settle(self, sums: Sums) -> int:
        """Have ``sums`` right.

        Returns the number of the update whose loss was not finite, counted from 1: neither it nor what was asked for
        after it was made, and the sums of losses and hits are those before it. 0: all were made.
        """


class AtOnce:
    """Each is waited for, and looked at before its update."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks

    def begin(self, sums: Sums) -> None:
        """They are the caller's."""

    def look(self, bound: Bound, own: bool, wanted: bool) -> Sums:
        part = Sums()
        if own:
            part.add(bound.read("loss"), bound.read("hits"))
        return self._ranks.total(part)

    def count(self, sums: Sums, seen: Sums, n: int) -> None:
        sums.join(seen)

    def settle(self, sums: Sums) -> int:
        return 0


class Tallied:
    """The device sums from where the epoch begins to where it ends, so when it is asked changes no number."""

    def __init__(self, backend: Backend, tally: Array) -> None:
        self._backend, self._tally = backend, tally

    def begin(self, sums: Sums) -> None:
        first = dict.fromkeys(TALLIED, 0.0) | {"loss": sums.loss, "hits": sums.hits}
        self._backend.put([first[name] for name in TALLIED], self._tally)

    def look(self, bound: Bound, own: bool, wanted: bool) -> Sums:
        part = Sums()
        if wanted:
            part.add(bound.read("loss"), bound.read("hits"))
        return part if isfinite(part.loss) else Sums()  # the device has stopped, here or before: ``settle`` says where

    def count(self, sums: Sums, seen: Sums, n: int) -> None:
        sums.samples += n

    def settle(self, sums: Sums) -> int:
        found = dict(zip(TALLIED, self._backend.get(self._tally).tolist(), strict=True))
        sums.loss, sums.hits = found["loss"], found["hits"]
        return int(found["stopped"])


def losses_of(executable: Executable, ranks: Ranks) -> Losses:
    """Late, where the plan adds losses up."""
    if executable.tally is None:
        return AtOnce(ranks)
    assert ranks.size == 1, "of several processes each sees a part of a loss"
    return Tallied(executable.backend, executable.tally)
