"""What the rules read and what they give."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from cnnforge.blocks.base import Block
from cnnforge.errors import Path
from cnnforge.spec.layers import Row
from cnnforge.spec.run import RunSpec


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken rule: what an error says, without the rule's name."""

    what: str
    path: Path
    why: str
    fix: str


@dataclass(frozen=True)
class Net:
    """What the rules read: a run, and its layers as a graph of rows.

    written: the model as it was written, templates and repetitions included; empty where that is not known
    """

    run: RunSpec
    written: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        return self.run.model.table

    @cached_property
    def readers(self) -> Mapping[int, list[int]]:
        """Row number -> the rows that read it, in order."""
        found: dict[int, list[int]] = defaultdict(list)
        for number, row in enumerate(self.rows):
            for read in row.reads:
                found[read].append(number)
        return found

    def numbered(self) -> Iterator[tuple[int, Row]]:
        return enumerate(self.rows)

    def next(self, number: int, passing: Callable[[Block], bool]) -> list[Row]:
        """The first rows behind ``number`` that are not ``passing``, on every way; fewer where the network ends."""
        found = []
        for reader in self.readers[number]:
            row = self.rows[reader]
            found += self.next(reader, passing) if passing(row.block) else [row]
        return found
