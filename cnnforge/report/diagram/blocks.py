"""A net as boxes and wires from top to bottom, in as many columns as make a page; laid out here, and not drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from cnnforge.report.diagram.canvas import INK, Point
from cnnforge.report.diagram.pieces import USUAL, Border, Box, Label, Part, Piece, Wire, box, pill
from cnnforge.report.diagram.structure import Chain, Fold, Frame, Item, Leaf, Parallel, Tangle, leaves_in
from cnnforge.report.diagram.words import SIGNS
from cnnforge.report.table import by
from cnnforge.shapes import Shape

#: Between boxes one below the other: within a frame, and outside, where a size stands beside the wire.
NEAR, FAR = 16.0, 26.0
#: Between ways side by side, and the width of a way that is only a wire.
BESIDE, BARE = 16.0, 22.0
#: From the way in to where wires part, and from the last box to where they meet.
FORK, MEET = 10.0, 14.0
#: Within a frame; between columns; around everything; above the columns, for the title.
INSIDE, GUTTER, MARGIN, TITLE = 12.0, 34.0, 24.0, 62.0
#: The page that the columns are to fill, how many they are at most, and the part of a page that one less is worth.
PAGE, MOST_COLUMNS, BREAK = (1560.0, 1000.0), 9, 0.05
#: Between the wires of a tangle.
LANE = 9.0


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything is."""

    width: float
    height: float
    parts: tuple[Part, ...]

    @property
    def boxes(self) -> list[Box]:
        return [part for part in self.parts if isinstance(part, Box)]

    @property
    def wires(self) -> list[Wire]:
        return [part for part in self.parts if isinstance(part, Wire)]


def layout(chain: Chain, start: Shape, kinds: dict[str, str]) -> Layout:
    """Columns of boxes.

    start: the model's input;  kinds: what a user calls the things in a frame, by its name: ``stage1`` -> ``bottleneck``
    """
    pieces = [_start(start)]
    sizes: list[str] = [""]
    shape = start
    for item in chain:
        pieces.append(_piece(item, kinds, named=True))
        output = list(leaves_in((item,)))[-1].rows[-1].output
        sizes.append(by(output) if output != shape else "")
        shape = output
    sizes[-1] = by(shape)
    found = [(_columns(pieces, sizes, n), n) for n in range(1, min(len(pieces), MOST_COLUMNS) + 1)]
    return min(found, key=lambda one: max(one[0].width / PAGE[0], one[0].height / PAGE[1]) + BREAK * one[1])[0]


def _start(shape: Shape) -> Piece:
    """The model's input, which is no layer."""
    text = Label(0, 0, f"input {by(shape)}", USUAL, color=INK, centred=True)
    return Piece(text.width, 18, text.width / 2, (text.moved(0, 13),), arrow=False)


def _piece(item: Item, kinds: dict[str, str], named: bool = False) -> Piece:
    """named: with the names of layers; within a frame, or what is repeated, its own is enough"""
    match item:
        case Leaf():
            return pill(item) if item.is_join else box(item, item.name if named else "")
        case Parallel():
            return _parallel(item, kinds, named)
        case Tangle():
            return _tangle(item, named)
        case Fold():
            return _fold(item, kinds)
        case Frame():
            return _frame(item, kinds)


def _stack(pieces: Sequence[Piece], gap: float, sizes: Sequence[str] = ()) -> Piece:
    """Pieces one below the other, wires between them. sizes: what stands beside the wire behind each piece"""
    if not pieces:
        return Piece(BARE, 0, BARE / 2, (), arrow=False)
    left = max(piece.axis for piece in pieces)
    right = max(piece.width - piece.axis for piece in pieces)
    parts: list[Part] = []
    y = 0.0
    for i, piece in enumerate(pieces):
        if i:
            parts.append(Wire(((left, y - gap), (left, y)), piece.arrow))
            if sizes and sizes[i - 1]:
                note = Label(left + 7, y - gap / 2 + 3.5, sizes[i - 1])
                parts.append(note)
                right = max(right, 7 + note.width)
        parts += piece.at(left, y)
        y += piece.height + gap
    return Piece(left + right, y - gap, left, tuple(parts), pieces[0].arrow)


def _parallel(item: Parallel, kinds: dict[str, str], named: bool) -> Piece:
    """Ways side by side, what joins them below."""
    ways = [_stack([_piece(one, kinds, named) for one in way], NEAR) for way in item.ways]
    at, x = [], 0.0
    for way in ways:
        at.append(x + way.axis)
        x += way.width + BESIDE
    width = x - BESIDE
    tall = max(way.height for way in ways)
    top, bottom = FORK + NEAR, FORK + NEAR + tall + MEET
    wide = item.join.title not in SIGNS.values()
    least = max(at) - min(at) + 30 if wide else 0.0
    join = pill(item.join, least) if item.join.is_join else box(item.join, least=least)
    axis = (min(at) + max(at)) / 2
    if not wide and not all(item.ways):  # the longest way goes straight on beside a bare wire
        axis = at[max(range(len(ways)), key=lambda i: ways[i].height)]
    parts: list[Part] = []
    for way, center in zip(ways, at, strict=True):
        y = top + (tall - way.height) / 2
        parts += way.at(center, y)
        end = y if way.height else bottom
        fork: list[Point] = [(axis, 0)] if center == axis else [(axis, 0), (axis, FORK), (center, FORK)]
        if way.height:
            parts.append(Wire((*fork, (center, end)), way.arrow))
            start: list[Point] = [(center, y + way.height)]
        else:
            start = fork
        parts.append(Wire((*start, *_into(join, axis, center, bottom, wide))))
    parts += join.at(axis, bottom)
    left = min(0.0, axis - join.axis)
    right = max(width, axis - join.axis + join.width)
    moved = tuple(part.moved(-left, 0) for part in parts)
    return Piece(right - left, bottom + join.height, axis - left, moved, arrow=False)


def _into(join: Piece, middle: float, center: float, y: float, wide: bool) -> list[Point]:
    """The last piece of a way's wire: from above, or from the side of a narrow join."""
    if wide or abs(center - middle) < join.width / 2:
        return [(center, y)]
    side = middle - join.width / 2 if center < middle else middle + join.width / 2
    return [(center, y + join.height / 2), (side, y + join.height / 2)]


def _tangle(item: Tangle, named: bool) -> Piece:
    """Boxes one below the other, and wires around them at the right."""
    pieces = [pill(leaf) if leaf.is_join else box(leaf, leaf.name if named else "") for leaf in item.leaves]
    left = max(piece.axis for piece in pieces)
    right = max(piece.width - piece.axis for piece in pieces)
    y, tops = FORK, list[float]()
    for piece in pieces:
        y += NEAR
        tops.append(y)
        y += piece.height + 6
    around = [(a, i) for i, reads in enumerate(item.reads) for a in reads if a != i - 1]
    lanes = _lanes(around)
    parts: list[Part] = []
    for i, (piece, top) in enumerate(zip(pieces, tops, strict=True)):
        parts += piece.at(left, top)
        if i - 1 in item.reads[i]:
            start = tops[i - 1] + pieces[i - 1].height if i else 0.0
            parts.append(Wire(((left, start), (left, top))))
    for source, end in around:
        x = left + right + LANE * (1 + lanes[source, end])
        leave = tops[source] + pieces[source].height + 3 if source >= 0 else FORK - 4
        enter = tops[end] - 8
        begin = (left, leave - 3 if source >= 0 else 0.0)
        way = (begin, (left, leave), (x, leave), (x, enter), (left, enter), (left, tops[end]))
        parts.append(Wire(way))
    width = left + right + LANE * (1 + max(lanes.values(), default=-1)) + 4
    last = tops[-1] + pieces[-1].height
    return Piece(width, last, left, tuple(parts), arrow=False)


def _lanes(wires: Sequence[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """Beside the boxes, a lane for each wire that no other has at the same height."""
    lanes: dict[tuple[int, int], int] = {}
    for wire in sorted(wires, key=lambda w: (w[1] - w[0], w)):
        taken = {lane for other, lane in lanes.items() if other[0] < wire[1] and wire[0] < other[1]}
        lanes[wire] = next(lane for lane in range(len(lanes) + 1) if lane not in taken)
    return lanes


def _fold(item: Fold, kinds: dict[str, str]) -> Piece:
    """What is repeated, once, with a count."""
    frames = [one[0] for one in item.all if len(one) == 1 and isinstance(one[0], Frame)]
    if not frames:
        return _bordered(_inside(item.chain, kinds), f"{len(item.all)}x", "", repeated=True)
    first, last = frames[0].name, frames[-1].name
    title = f"{first} to {last}: {len(frames)}x {kinds.get(first, '')}".rstrip()
    return _bordered(_inside(frames[0].chain, kinds), title, _amount((item,)), repeated=True)


def _frame(item: Frame, kinds: dict[str, str]) -> Piece:
    """What has one name, the count beside it where it is one thing several times."""
    only = item.chain[0] if len(item.chain) == 1 else None
    kind, amount = kinds.get(item.name, ""), _amount(item.chain)
    if isinstance(only, Fold):
        title = f"{item.name}: {len(only.all)}x {kind}".rstrip()
        return _bordered(_inside(only.chain, kinds), title, amount, repeated=True)
    title = item.name if not kind or item.name.startswith(kind) else f"{item.name}: {kind}"
    return _bordered(_inside(item.chain, kinds), title, amount)


def _inside(chain: Chain, kinds: dict[str, str]) -> Piece:
    return _stack([_piece(item, kinds) for item in chain], NEAR)


def _amount(chain: Chain) -> str:
    """What all of it has in parameters, or in layers where it has none."""
    rows = [row for leaf in leaves_in(chain) for row in leaf.rows]
    params = sum(row.param_count for row in rows)
    return f"{params:,} parameters" if params else f"{len(rows)} layers"


def _bordered(inner: Piece, title: str, below: str, repeated: bool = False) -> Piece:
    """A border around a piece; title and what is said below it stand beside the wire that comes in."""
    labels = [Label(0, 14, title, 11.0, bold=True, color=INK)]
    labels += [Label(0, 27, below)] if below else []
    wide = max(label.width for label in labels)
    before, behind = INSIDE + inner.axis, INSIDE + inner.width - inner.axis
    # Beside the wire, where there is more room.
    if before > behind:
        before = max(before, wide + 16)
        x = before - wide - 8
    else:
        behind = max(behind, wide + 16)
        x = before + 8
    top = 22.0 + (13.0 if below else 0.0)
    height = top + inner.height + INSIDE
    parts: list[Part] = [Border(0, 0, before + behind, height, repeated), *(label.moved(x, 0) for label in labels)]
    parts.append(Wire(((before, 0), (before, top)), inner.arrow))
    parts.append(Wire(((before, top + inner.height), (before, height)), arrow=False))
    return Piece(before + behind, height, before, (*parts, *inner.at(before, top)), arrow=False)


def _columns(pieces: Sequence[Piece], sizes: Sequence[str], n: int) -> Layout:
    """Side by side in ``n`` columns or fewer, as level as can be."""
    parts: list[Part] = []
    x, tall, at = MARGIN, 0.0, 0
    ends: list[tuple[Point, float, bool]] = []  # of each column the end, the right border, and: does a box begin it?
    for count in _parted([piece.height + FAR for piece in pieces], n):
        chosen = slice(at, at + count)
        last = at + count == len(pieces)
        column = _stack(pieces[chosen], FAR, sizes[chosen])
        at += count
        note = Label(0, 0, sizes[at - 1]) if sizes[at - 1] else None
        right = max(column.width, column.axis + 7 + note.width if note else 0.0)
        axis = x + column.axis
        parts += column.at(axis, TITLE + MARGIN)
        bottom = TITLE + MARGIN + column.height
        if last:
            parts.append(Wire(((axis, bottom), (axis, bottom + FAR))))
        if note:
            parts.append(note.moved(axis + 7, bottom + FAR / 2 + 3.5))
        ends.append(((axis, bottom), x + right, column.arrow))
        tall = max(tall, bottom + FAR)
        x += right + GUTTER
    for ((x0, y0), right, _), ((x1, _), _, arrow) in pairwise(ends):
        between, low, high = right + GUTTER / 2, y0 + FAR - 4, TITLE + 6
        way = ((x0, y0), (x0, low), (between, low), (between, high), (x1, high), (x1, TITLE + MARGIN))
        parts.append(Wire(way, arrow))
    return Layout(x - GUTTER + MARGIN, tall + MARGIN, tuple(parts))


def _parted(heights: Sequence[float], n: int) -> list[int]:
    """How many neighbours go into each of at most ``n`` columns, so that the tallest is as low as can be."""
    low, high = max(heights), sum(heights)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if len(_filled(heights, middle)) <= n else (middle, high)
    return _filled(heights, high)


def _filled(heights: Sequence[float], most: float) -> list[int]:
    counts, tall = [0], 0.0
    for height in heights:
        if counts[-1] and tall + height > most:
            counts.append(0)
            tall = 0.0
        counts[-1] += 1
        tall += height
    return counts
