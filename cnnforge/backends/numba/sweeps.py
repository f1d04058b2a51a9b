"""Passes over memory: the loops of a kernel around a formula on vectors.

The loops treat arrays whole vector by whole vector, and what is left over by a mask: no formula has to think of edges,
and nothing outside an array is touched. A row is ``row_width(C)`` floats: all channels, of few channels several
positions of them, in whole vectors. Addresses count bytes, lengths floats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from cnnforge.backends.numba.formulas import Code, Vector, passage, tree
from cnnforge.backends.numba.vectors import BYTE, FLOAT, INTS, LANES, WIDTH, pointer


def _cut(arguments: Sequence[Any], sizes: Sequence[int]) -> list[Sequence[Any]]:
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [arguments[end - size : end] for end, size in zip(ends, sizes, strict=True)]


#: Vectors of a row that are taken together. Measured: two with four rows, eight where nothing is written.
ACROSS = 2


def sweep(
    formula: Callable[..., Sequence[Vector]],
    *,
    streams: int, rows: int = 0, sums: int = 0, outs: int = 0, scalars: int = 0, group: int = 4,
) -> Any:  # fmt: skip
    """A function for kernels: a pass over n floats of arrays as they lie.

    Its arguments: (streams…, rows…, sums…, outs…, scalars…, n, width). formula(*streams, *rows, *scalars) gives what
    each sum grows by, then what is written to each out.  rows, sums: a row each, met again and again. ``group`` rows of
    the arrays are taken together, and their terms added up before a sum in memory is touched.
    """
    parts = (streams, rows, sums, outs, scalars)
    count = sum(parts)

    def generate(code: Code, *arguments: Any) -> None:
        read, constant, summed, put, spreads = _cut(arguments, parts)
        row, end = code.times(arguments[-1], 4), code.times(arguments[-2], 4)

        def body(p: ir.Value, v: ir.Value, size: int, across: int = 1, left: ir.Value | None = None) -> None:
            """``size`` rows of ``across`` vectors from p + v."""
            vs = [code.sum(v, WIDTH * i) for i in range(across)]
            fixed = [[code.load(code.sum(r, v)) for r in constant] for v in vs]
            before = [[code.load(code.sum(s, v)) for s in summed] for v in vs]
            terms: list[list[Sequence[Vector]]] = [[] for _ in vs]
            for _ in range(size):
                for v, known, made in zip(vs, fixed, terms, strict=True):
                    q = code.sum(p, v)
                    values = formula(*(code.load(code.sum(s, q), left) for s in read), *known, *spreads)
                    made.append(values[:sums])
                    for out, value in zip(put, values[sums:], strict=True):
                        code.store(code.sum(out, q), value, left)
                p = code.sum(p, row)
            for v, old, made in zip(vs, before, terms, strict=True):
                for s, value, of_sum in zip(summed, old, zip(*made, strict=True), strict=True):
                    code.store(code.sum(s, v), value + code.masked(tree(of_sum), left))

        together, strip = code.times(row, group), WIDTH * ACROSS
        whole = code.times(code.quotient(end, together), together)
        strips = code.times(code.quotient(row, strip), strip)
        with code.loop(0, whole, together) as p:
            with code.loop(0, strips, strip) as v:
                body(p, v, group, ACROSS)
            with code.loop(strips, row, WIDTH) as v:
                body(p, v, group)
        with code.loop(whole, end, row) as p:
            left = code.less(end, p)
            with code.loop(0, code.smaller(left, row), WIDTH) as v:
                body(p, v, 1, left=code.quotient(code.less(left, v), 4))

    return passage(count + 2, generate, range(count - scalars, count))


#: Positions of a 2x2 window, by rows: how many picture rows and positions each lies behind the first.
CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))


def windows(
    formula: Callable[..., Sequence[Any]],
    *,
    pictures: int = 0, pooled: int = 0, winners: int = 0, rows: int = 0, sums: int = 0, outs: int = 0,
    painted: int = 0, scalars: int = 0,
) -> Any:  # fmt: skip
    """A function for kernels: a pass over one row of 2x2 windows that do not overlap.

    Its arguments: (pictures…, pooled…, winners…, rows…, sums…, outs…, painted…, scalars…, line, ow, c), addresses of
    the row's first window.  pictures, painted: arrays of pictures, read and written, whose rows are ``line`` floats;
    pooled: arrays of windows;  winners: the same of bytes;  outs: arrays of windows, floats or bytes.
    formula(*(four Vectors of each picture), *pooled, *winners, *rows, *scalars) gives what each sum grows by, each out,
    and four Vectors for each painted. What a sum holds behind C is nobody's.
    """
    parts = (pictures, pooled, winners, rows, sums, outs, painted, scalars)
    count = sum(parts)
    together = 2 if sums else 1  # positions whose terms are added up before a sum in memory is touched

    def generate(code: Code, *arguments: Any) -> None:
        seen, small, bytes_, constant, summed, put, paint, spreads = _cut(arguments, parts)
        line, ow, c = arguments[-3:]

        def body(o: ir.Value, k: ir.Value, size: int, left: ir.Value | None) -> None:
            fixed = [code.load(code.sum(r, code.times(k, 4))) for r in constant]
            places = [code.sum(s, code.times(k, 4)) for s in summed]
            before = [code.load(p) for p in places]
            made: list[Sequence[Any]] = []
            for i in range(size):
                window = code.times(code.sum(o, i), c)
                here = code.sum(window, k)
                corners = [
                    code.times(code.sum(here, window, code.times(line, down), code.times(c, across)), 4)
                    for down, across in CORNERS
                ]
                values = formula(
                    *([code.load(code.sum(s, corner), left) for corner in corners] for s in seen),
                    *(code.load(code.sum(s, code.times(here, 4)), left) for s in small),
                    *(code.load(code.sum(s, here), left, BYTE) for s in bytes_),
                    *fixed,
                    *spreads,
                )
                of_sums, of_outs, of_painted = _cut(values, (sums, outs, painted))
                made.append(of_sums)
                for out, value in zip(put, of_outs, strict=True):
                    kind, size_of = (BYTE, 1) if value.value.type == INTS else (FLOAT, 4)
                    code.store(code.sum(out, code.times(here, size_of)), value, left, kind)
                for out, four in zip(paint, of_painted, strict=True):
                    for corner, value in zip(corners, four, strict=True):
                        code.store(code.sum(out, corner), value, left)
            for i, (place, old) in enumerate(zip(places, before, strict=True)):
                code.store(place, old + tree([m[i] for m in made]))

        def channels(o: ir.Value, size: int) -> None:
            whole = code.times(code.quotient(c, LANES), LANES)
            with code.loop(0, whole, LANES) as k:
                body(o, k, size, None)
            with code.if_more(c, whole):
                body(o, whole, size, code.less(c, whole))

        def along(start: ir.Value | int, stop: ir.Value, do: Callable[[ir.Value, int], None]) -> None:
            """Windows start to stop, ``together`` at a time as long as that goes."""
            pairs = code.sum(start, code.times(code.quotient(code.less(stop, code.sum(start)), together), together))
            with code.loop(start, pairs, together) as o:
                do(o, together)
            if together > 1:
                with code.loop(pairs, stop, 1) as o:
                    do(o, 1)

        # Of fewer channels than a vector has lanes, the other lanes belong to the next windows, which come after.
        room = code.larger(code.less(ow, code.quotient(code.word(LANES - 1), c)), 0)
        quick = code.builder.select(code.builder.icmp_signed("<", c, code.word(LANES)), room, code.word(0))
        along(0, quick, lambda o, size: body(o, code.word(0), size, None))
        along(quick, ow, channels)

    return passage(count + 3, generate, range(count - scalars, count))


def largest(corners: Sequence[Vector]) -> tuple[Vector, Vector]:
    """The largest of a window, nan where one is, and its number: the first of equal ones."""
    best = corners[0]
    number = best.whole(0)
    for i, v in enumerate(corners[1:], start=1):
        better = (v > best) | v.is_nan()
        best, number = better.where(v, best), better.where(v.whole(i), number)
    return best, number


def at_winner(winner: Vector, value: Vector) -> list[Vector]:
    """A window whose winner is ``value``, else 0."""
    return [winner.equals(i).where(value, 0.0) for i in range(len(CORNERS))]


def of_winner(winner: Vector, corners: Sequence[Vector]) -> Vector:
    """What a window holds at its winner."""
    v = corners[0]
    for i, other in enumerate(corners[1:], start=1):
        v = winner.equals(i).where(other, v)
    return v


def _clear(code: Code, start: ir.Value, n: ir.Value) -> None:
    def body(k: ir.Value, vectors: int, left: ir.Value | None) -> None:
        for i in range(vectors):
            code.store(code.sum(start, code.times(k, 4), WIDTH * i), code.zero(), left)

    code.channels(n, body)


def _copy(code: Code, x: ir.Value, y: ir.Value, n: ir.Value) -> None:
    def body(k: ir.Value, vectors: int, left: ir.Value | None) -> None:
        for i in range(vectors):
            at = code.sum(code.times(k, 4), WIDTH * i)
            code.store(code.sum(y, at), code.load(code.sum(x, at), left), left)

    code.channels(n, body)


def _fold(code: Code, row: ir.Value, c: ir.Value, width: ir.Value) -> None:
    b = code.builder
    with code.loop(c, width, c) as start, code.loop(0, c, 1) as j:
        place = pointer(b, code.sum(row, code.times(j, 4)), FLOAT)
        other = pointer(b, code.sum(row, code.times(code.sum(start, j), 4)), FLOAT)
        b.store(b.fadd(b.load(place), b.load(other)), place)


def _repeat(code: Code, row: ir.Value, c: ir.Value, width: ir.Value) -> None:
    b = code.builder
    with code.loop(c, width, 1) as j:
        one = b.load(pointer(b, code.sum(row, code.times(code.less(j, c), 4)), FLOAT))
        b.store(one, pointer(b, code.sum(row, code.times(j, 4)), FLOAT))


#: (start, n): n zeros.
clear = passage(2, _clear)
#: (x, y, n): n floats at x to y.
copy = passage(3, _copy)
#: (row, c, width): the sum of a row's positions, into its first c floats.
fold = passage(3, _fold)
#: (row, c, width): the first c floats of a row, again and again.
repeat = passage(3, _repeat)
