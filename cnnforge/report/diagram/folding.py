"""Repetitions: what looks the same several times is shown once, with a count.

The first of them may differ, as in the stages of a ResNet: by strides, and by layers in a way that is the input itself
in the others. What is shown then is the first, with marks where it differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cnnforge.report.diagram.structure import Chain, Fold, Frame, Item, Leaf, Parallel, Tangle
from cnnforge.report.diagram.words import operation, stride_of

#: How many items may be repeated together.
LONGEST = 4
#: Boxes alone in a row are folded from this many on: two are as easily drawn.
BOXES = 3


def folded(chain: Chain) -> Chain:
    """The chain with repetitions folded, within its parts first."""
    items = [_inside(item) for item in chain]
    result: list[Item] = []
    at = 0
    while at < len(items):
        fold = _fold_at(items, at)
        if fold is None:
            result.append(items[at])
            at += 1
        else:
            result.append(fold)
            at += sum(map(len, fold.all))
    return tuple(result)


def _inside(item: Item) -> Item:
    match item:
        case Parallel():
            return replace(item, ways=tuple(folded(way) for way in item.ways))
        case Frame():
            return replace(item, chain=folded(item.chain))
        case _:
            return item


def _fold_at(items: Sequence[Item], at: int) -> Fold | None:
    """The fold that begins there, of the shortest part that is repeated."""
    for period in range(1, LONGEST + 1):
        part = tuple(items[at : at + period])
        rest = tuple(items[at + period : at + 2 * period])
        if len(rest) < period or any(isinstance(item, Fold) for item in part + rest):
            return None
        looks = _looks(rest)
        same = _looks(part) == looks
        shown = part if same else _first_differs(part, rest)
        if shown is None:
            continue
        times = 2
        while _looks(tuple(items[at + times * period : at + (times + 1) * period])) == looks:
            times += 1
        if period == 1 and isinstance(part[0], Leaf) and times < BOXES:
            continue
        return Fold(shown, tuple(tuple(items[at + i * period : at + (i + 1) * period]) for i in range(times)))
    return None


def _looks(chain: Chain) -> tuple[object, ...]:
    """What a picture of it shows, names and numbers of channels left aside."""
    return tuple(map(_look, chain))


def _look(item: Item) -> object:
    match item:
        case Leaf():
            return item.title, item.above, item.below, item.main.output[:-1]
        case Parallel():
            return "parallel", tuple(map(_looks, item.ways)), _look(item.join)
        case Tangle():
            return "tangle", tuple(map(_look, item.leaves)), item.reads
        case Fold():
            return "fold", len(item.all), _looks(item.chain)
        case Frame():
            return "frame", _looks(item.chain)


def _first_differs(first: Chain, second: Chain) -> Chain | None:
    """``first`` with marks where it differs from ``second``; None where they have too little in common.

    Only of ways beside one another: of two convolutions behind each other with other strides nobody says that they are
    the same twice.
    """
    if not all(isinstance(item, Parallel) for item in first):
        return None
    return _marked(first, second)


def _marked(first: Chain, second: Chain) -> Chain | None:
    if len(first) != len(second):
        return None
    marked: list[Item] = []
    for a, b in zip(first, second, strict=True):
        if (item := _marked_item(a, b)) is None:
            return None
        marked.append(item)
    return tuple(marked)


def _marked_item(a: Item, b: Item) -> Item | None:
    match a, b:
        case Leaf(), Leaf():
            return _marked_leaf(a, b)
        case Parallel(), Parallel() if len(a.ways) == len(b.ways):
            join = _marked_leaf(a.join, b.join)
            pairs = zip(a.ways, b.ways, strict=True)
            ways = [_only_here(x) if x and not y else _marked(x, y) for x, y in pairs]
            if join is not None and all(way is not None for way in ways):
                return Parallel(tuple(way for way in ways if way is not None), join)
    return a if _look(a) == _look(b) else None


def _marked_leaf(a: Leaf, b: Leaf) -> Leaf | None:
    if (operation(a.main), a.above, a.below) != (operation(b.main), b.above, b.below):
        return None
    if a.title == b.title:
        return a
    if stride_of(b.main):
        return None
    return replace(a, title=b.title, below=(f"s {stride_of(a.main)} in the first", *a.below))


def _only_here(way: Chain) -> Chain:
    """A way that the later repetitions do not have."""
    marked: list[Item] = []
    for item in way:
        match item:
            case Leaf():
                marked.append(replace(item, first_only=True))
            case Parallel():
                ways = tuple(_only_here(inner) for inner in item.ways)
                marked.append(Parallel(ways, replace(item.join, first_only=True)))
            case _:
                marked.append(item)
    return tuple(marked)
