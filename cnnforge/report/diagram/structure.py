"""From a table of rows to what a picture shows of it: boxes, and how they lie behind and beside one another.

Only the rows are looked at, and which reads which, so that a shortcut is one whether it was written as ``residual`` or
as a ``merge`` of two names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

from cnnforge.report.diagram.words import aside, endings, headline
from cnnforge.spec import MODEL_INPUT_ROW, Row


@dataclass(frozen=True, slots=True)
class Leaf:
    """One box.

    name:  of the layer that it is named after, as much of it as no other has
    rows:  the layers that it stands for, in running order
    title: ``3x3 conv 64, s 2``
    above: what happens to the input first;  below: what happens to the result, a text each
    first_only: it is there in the first repetition and not in the others
    part: is it a part of the net, of several layers that are not drawn?
    """

    name: str
    rows: tuple[Row, ...]
    main: Row
    title: str
    above: tuple[str, ...] = ()
    below: tuple[str, ...] = ()
    first_only: bool = False
    part: bool = False

    @property
    def is_join(self) -> bool:
        """Is it nothing but the place where ways meet?"""
        return len(self.main.reads) > 1 and not self.part


@dataclass(frozen=True, slots=True)
class Parallel:
    """Ways from one output, joined again. An empty way is the output itself."""

    ways: tuple[Chain, ...]
    join: Leaf


@dataclass(frozen=True, slots=True)
class Tangle:
    """Boxes in running order that are joined in no simpler way.

    reads: of each box the boxes that it reads, by number among these; -1 is what comes before all of them
    """

    leaves: tuple[Leaf, ...]
    reads: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Fold:
    """The same several times, one after another.

    chain: what is drawn;  all: every repetition, the first first
    """

    chain: Chain
    all: tuple[Chain, ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """What the user gave one name."""

    name: str
    chain: Chain


Item = Leaf | Parallel | Tangle | Fold | Frame
Chain = tuple[Item, ...]


def leaves_in(chain: Chain) -> Iterator[Leaf]:
    """Every box, those that a fold does not draw included."""
    for item in chain:
        match item:
            case Leaf():
                yield item
            case Parallel():
                for way in item.ways:
                    yield from leaves_in(way)
                yield item.join
            case Tangle():
                yield from item.leaves
            case Fold():
                for repetition in item.all:
                    yield from leaves_in(repetition)
            case Frame():
                yield from leaves_in(item.chain)


@dataclass(frozen=True, slots=True)
class Boxes:
    """Rows gathered into boxes. reads: of each box the boxes that it reads, by number; -1 is the model's input."""

    leaves: tuple[Leaf, ...]
    reads: tuple[tuple[int, ...], ...]

    @property
    def straight(self) -> bool:
        """Does each read the one before it and no other?"""
        return all(reads == (i - 1,) for i, reads in enumerate(self.reads))


def gather(rows: Sequence[Row], depth: int | None = None, flatten_apart: bool = False) -> Boxes:
    """Put what keeps its input's shape (norms, functions, dropout) into the box before it, or of the conv behind it.

    depth: layers whose names begin with the same so many parts are one box
    flatten_apart: it is a box of its own, not part of the fc behind it
    """
    groups = [[*group] for _, group in groupby(range(len(rows)), lambda i: _beginning(rows[i].name, depth))]
    if depth is None:
        groups = [[i] for i in range(len(rows))]
    groups = _behind(rows, groups, joins=False)
    groups = _before(rows, groups, flatten_apart)
    groups = _behind(rows, groups, joins=True)
    owner = {i: number for number, group in enumerate(groups) for i in group} | {MODEL_INPUT_ROW: -1}
    reads = []
    for number, group in enumerate(groups):
        outside = [owner[i] for member in group for i in rows[member].reads if owner[i] != number]
        # A merge may read one output twice; a whole part of the net reads it once.
        reads.append(tuple(outside if len(group) == 1 or _is_one_layer(rows, group) else dict.fromkeys(outside)))
    leaves = [_leaf([rows[i] for i in group], depth) for group in groups]
    times = Counter(name for leaf in leaves for name in _beginnings(leaf.name))
    named = (replace(leaf, name=next(n for n in _beginnings(leaf.name) if times[n] == 1 or n == leaf.name))
             for leaf in leaves)  # fmt: skip
    return Boxes(tuple(named), tuple(reads))


def _beginnings(name: str) -> list[str]:
    """``stage1.1.conv`` -> ``stage1``, ``stage1.1``, ``stage1.1.conv``"""
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts) + 1)]


def _beginning(name: str, depth: int | None) -> str:
    return ".".join(name.split(".")[:depth])


def _is_one_layer(rows: Sequence[Row], group: Sequence[int]) -> bool:
    """Is all but one of the group an aside?"""
    return sum(not _is_aside(rows[i]) for i in group) <= 1


def _is_asides(rows: Sequence[Row], group: Sequence[int]) -> bool:
    """Is all of the group an aside, each to the one before it?"""
    return all(_is_aside(rows[i]) for i in group) and all(rows[b].reads == (a,) for a, b in pairwise(group))


def _is_aside(row: Row) -> bool:
    """Does it take values as they lie, each for itself or its channel, and give as many?"""
    if len(row.reads) > 1 or row.window is not None or row.macs:
        return False
    return row.output == row.input or row.type == "flatten"


def _readers(rows: Sequence[Row]) -> dict[int, list[int]]:
    readers: dict[int, list[int]] = {i: [] for i in range(MODEL_INPUT_ROW, len(rows))}
    for i, row in enumerate(rows):
        for source in row.reads:
            readers[source].append(i)
    return readers


def _behind(rows: Sequence[Row], groups: list[list[int]], joins: bool) -> list[list[int]]:
    """Asides that alone read the end of a group join it; behind a join only where ``joins``, and what belongs to it."""
    readers, merged = _readers(rows), list[list[int]]()
    ends: dict[int, list[int]] = {}
    for group in groups:
        first, source = group[0], rows[group[0]].reads[0]
        host = ends.get(source)
        if (
            host is not None
            and _is_asides(rows, group)
            and rows[first].type != "flatten"
            and readers[source] == [first]
            and (len(rows[host[-1]].reads) < 2 or (joins and _belongs(rows[first], rows[host[0]])))
            and (len(host) == 1 or _is_one_layer(rows, host))
        ):
            del ends[source]
            host += group
        else:
            merged.append(host := [*group])
        ends[group[-1]] = host
    return sorted(merged)


def _belongs(row: Row, to: Row) -> bool:
    """Is it a function written beside a join?"""
    return not row.param_count and row.name.rpartition(".")[0] == to.name.rpartition(".")[0]


def _before(rows: Sequence[Row], groups: list[list[int]], flatten_apart: bool) -> list[list[int]]:
    """Asides that only a conv or fc reads join it."""
    readers = _readers(rows)
    starts = {group[0]: group for group in groups}
    taken: set[int] = set()
    for group in groups:
        if not _is_asides(rows, group) or (flatten_apart and rows[group[0]].type == "flatten"):
            continue
        follow = starts.get(readers[group[-1]][0]) if len(readers[group[-1]]) == 1 else None
        if follow is not None and rows[follow[0]].macs and _is_one_layer(rows, follow):
            taken.add(id(group))
            del starts[follow[0]]
            follow[:0] = group
            starts[group[0]] = follow
    return sorted(group for group in groups if id(group) not in taken)


def _leaf(rows: Sequence[Row], depth: int | None) -> Leaf:
    strong = [row for row in rows if not _is_aside(row)]
    if len(strong) > 1:
        name = _beginning(rows[0].name, depth)
        return Leaf(name, tuple(rows), rows[-1], f"{len(rows)} layers", part=True)
    main = strong[0] if strong else rows[0]
    at = rows.index(main)
    above = tuple(text for row in rows[:at] if (text := aside(row)))
    below = [text for row in rows[at + 1 :] if (text := aside(row))]
    own = endings(main)
    if own:
        below.insert(0, ", ".join(own))
    return Leaf(main.name, tuple(rows), main, headline(main), above, tuple(below))


def chain_of(boxes: Boxes) -> Chain:
    """The boxes as ways behind and beside one another, from the model's input to its output."""
    return _Decomposition(boxes).whole()


class _Decomposition:
    """Series and parallel parts, found from the end: what two ways share last before they part is where they begin."""

    def __init__(self, boxes: Boxes) -> None:
        self.leaves, self.reads = boxes.leaves, boxes.reads
        #: By box, the last box before it that every way to it leads through; -1 is the model's input.
        self.gate: list[int] = []
        for reads in self.reads:
            gate = reads[0]
            for other in reads[1:]:
                gate = self._common(gate, other)
            self.gate.append(gate)

    def _common(self, a: int, b: int) -> int:
        while a != b:
            a, b = (self.gate[a], b) if a > b else (a, self.gate[b])
        return a

    def whole(self) -> Chain:
        end = len(self.leaves) - 1
        read = {i for reads in self.reads for i in reads}
        if any(i not in read for i in range(end)):  # an output that nobody reads belongs to no way
            return (self._tangle(-1, range(len(self.leaves))),)
        return self._chain(-1, end)

    def _chain(self, start: int, end: int) -> Chain:
        """What lies between box ``start``, which is not part of it, and box ``end``, which is."""
        found: list[Item] = []
        at = end
        while at != start:
            gate, reads = self.gate[at], self.reads[at]
            if len(reads) == 1:
                found.append(self.leaves[at])
            else:
                ways = [self._between(gate, read) for read in reads]
                if sum(map(len, ways)) == len(set().union(*ways)):
                    found.append(Parallel(tuple(self._chain(gate, read) for read in reads), self.leaves[at]))
                else:
                    found.append(self._tangle(gate, sorted(set().union(*ways, {at}))))
            at = gate
        return tuple(reversed(found))

    def _between(self, gate: int, end: int) -> set[int]:
        """Every box that ``end`` depends on, itself included, back to ``gate``."""
        found: set[int] = set()
        waiting = [end]
        while waiting:
            if (at := waiting.pop()) != gate and at not in found:
                found.add(at)
                waiting += self.reads[at]
        return found

    def _tangle(self, gate: int, members: Sequence[int]) -> Tangle:
        number = {at: i for i, at in enumerate(members)} | {gate: -1}
        reads = tuple(tuple(number[read] for read in dict.fromkeys(self.reads[at])) for at in members)
        return Tangle(tuple(self.leaves[at] for at in members), reads)


def framed(chain: Chain, level: int = 1) -> Chain:
    """Neighbours whose names begin with the same ``level`` parts within a frame of that name.

    Not what is a single box anyway, and not what has the name all for itself.
    """
    result: list[Item] = []
    for name, group in groupby(chain, lambda item: _shared(item, level)):
        items = tuple(group)
        if not name or (len(items) == 1 and isinstance(items[0], Leaf)):
            result += items
        else:
            result.append(Frame(name, items))
    if len(result) == 1 and isinstance(result[0], Frame) and level < 8:
        return framed(result[0].chain, level + 1)
    return tuple(result)


def _shared(item: Item, level: int) -> str:
    """What the names of all its boxes begin with; empty where they do not agree."""
    names = {_beginning(leaf.name, level) for leaf in leaves_in((item,))}
    return names.pop() if len(names) == 1 else ""
