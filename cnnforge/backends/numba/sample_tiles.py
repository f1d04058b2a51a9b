"""Blocks of sums for convolutions whose lanes are samples, held in registers and written as LLVM code.

A lane is a sample: what lies at one position of one channel is a vector of 16 samples, and a weight is one number for
all of them. So no filter count, kernel or stride leaves lanes empty. All addresses and steps count bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from cnnforge.backends.numba.cpu import WIDE
from cnnforge.backends.numba.language import intrinsic, types
from cnnforge.backends.numba.pack import prefetched
from cnnforge.backends.numba.vectors import (
    FLAGS,
    FLOAT,
    INTS,
    LANES,
    VECTOR,
    WIDTH,
    WORD,
    pointer,
    put_some_floats,
    some_floats,
    spread,
)  # fmt: skip

#: Sums that one block may hold in registers: 32 registers of a vector each, or 16 of half a vector.
_HELD = 24 if WIDE else 6
#: Forward: positions x filters. Of four positions at most, because a 2x2 pool takes four.
POSITIONS, FILTERS = 4, max(1, _HELD // 4)
#: Kernel widths that ``slide`` knows, and positions that it takes at a time.
SLIDING, _UNROLLED = (3, 5), 4
#: Weights' gradient: neighbours along a kernel's row x filters.
RUN, OUTPUTS = (6, 4) if WIDE else (3, 2)

_NONE = ir.Constant(VECTOR, None)


def parts(n: int, most: int) -> int:
    """Into how many parts of nearly the same size ``n`` is cut so that none is larger than ``most``."""
    return -(-n // most)


class _Loop:
    """Code of ``for _ in range(count)`` whose state (pointers and sums) stays in registers."""

    def __init__(self, builder: ir.IRBuilder, count: ir.Value, state: Sequence[ir.Value]) -> None:
        self._builder = builder
        before = builder.block
        self._head, body, self._end = (builder.append_basic_block(name) for name in ("head", "body", "end"))
        builder.branch(self._head)
        builder.position_at_end(self._head)
        self._done = builder.phi(WORD)
        self._done.add_incoming(ir.Constant(WORD, 0), before)
        self.state: list[ir.Value] = []
        for value in state:
            phi = builder.phi(value.type)
            phi.add_incoming(value, before)
            self.state.append(phi)
        builder.cbranch(builder.icmp_signed("<", self._done, count), body, self._end)
        builder.position_at_end(body)

    def close(self, state: Sequence[ir.Value]) -> Sequence[ir.Value]:
        """End of the body; ``state`` goes to the next round, and out of the loop."""
        builder = self._builder
        self._done.add_incoming(builder.add(self._done, ir.Constant(WORD, 1)), builder.block)
        for phi, value in zip(self.state, state, strict=True):
            phi.add_incoming(value, builder.block)
        builder.branch(self._head)
        builder.position_at_end(self._end)
        return self.state


def _add(builder: ir.IRBuilder, address: ir.Value, step: ir.Value | int) -> ir.Value:
    return builder.add(address, ir.Constant(WORD, step) if isinstance(step, int) else step)


def _vector(builder: ir.IRBuilder, address: ir.Value, offset: int = 0) -> ir.Value:
    return builder.load(pointer(builder, _add(builder, address, offset), VECTOR), align=4)


def _number(builder: ir.IRBuilder, address: ir.Value, offset: int = 0) -> ir.Value:
    return spread(builder, builder.load(pointer(builder, _add(builder, address, offset), FLOAT), align=4))


def _multiplied(builder: ir.IRBuilder, s: ir.Value, x: ir.Value, y: ir.Value) -> ir.Value:
    return builder.fadd(s, builder.fmul(x, y, FLAGS), FLAGS)


def _chosen(
    builder: ir.IRBuilder, rows: ir.Value, columns: ir.Value, sizes: Sequence[tuple[int, int]],
    code: Callable[[int, int], None],
) -> None:  # fmt: skip
    """``code(r, c)`` for the sizes that come at run time, one of ``sizes``: each has its own unrolled code."""
    end = builder.append_basic_block("chosen")
    key = builder.add(builder.mul(rows, ir.Constant(WORD, 64)), columns)
    switch = builder.switch(key, end)
    for r, c in sizes:
        block = builder.append_basic_block(f"sums.{r}x{c}")
        switch.add_case(ir.Constant(WORD, 64 * r + c), block)
        builder.position_at_end(block)
        code(r, c)
        builder.branch(end)
    builder.position_at_end(end)


def _up_to(rows: int, columns: int) -> list[tuple[int, int]]:
    return [(r, c) for r in range(1, rows + 1) for c in range(1, columns + 1)]


@intrinsic
def convolve(
    typing_context: Any, p: Any, q: Any, x: Any, o1: Any, o2: Any, o3: Any, rows: Any, down: Any, run: Any,
    w: Any, w_down: Any, step: Any, b: Any, floor: Any, y: Any, across: Any,
) -> Any:  # fmt: skip
    """Sums of ``p`` positions and ``q`` filters over a window of ``rows`` runs.

    x: the first position's window; o1, o2, o3: how far behind it the others' are;  down: from one row to the next
    run: vectors of a row that lie side by side
    w: weights, filters side by side, ``step`` from one vector's to the next, ``w_down`` from one row's to the next
    b: what the sums begin with, one number a filter;  floor: least result
    y: the result, filters side by side, ``across`` from one position to the next
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        p, q, x, o1, o2, o3, rows, down, run, w, w_down, step, b, floor, y, across = arguments
        least = spread(builder, floor)

        def sums(p: int, q: int) -> None:
            starts = [x, *(builder.add(x, o) for o in (o1, o2, o3)[: p - 1])]
            begin = [_number(builder, b, 4 * j) for j in range(q)]
            outer = _Loop(builder, rows, [*starts, w, *(begin * p)])
            inner = _Loop(builder, run, outer.state)
            at, weights, held = inner.state[:p], inner.state[p], list(inner.state[p + 1 :])
            vectors = [_vector(builder, a) for a in at]
            for j in range(q):
                number = _number(builder, weights, 4 * j)
                for i in range(p):
                    held[i * q + j] = _multiplied(builder, held[i * q + j], vectors[i], number)
            after = inner.close([*(_add(builder, a, WIDTH) for a in at), _add(builder, weights, step), *held])
            below = [_add(builder, a, down) for a in outer.state[:p]]
            weights = _add(builder, outer.state[p], w_down)
            held = list(outer.close([*below, weights, *after[p + 1 :]]))[p + 1 :]
            into = y
            for i in range(p):
                for j in range(q):
                    s = held[i * q + j]
                    s = builder.select(builder.fcmp_ordered("<", s, least), least, s)
                    builder.store(s, pointer(builder, _add(builder, into, WIDTH * j), VECTOR), align=4)
                into = _add(builder, into, across)

        _chosen(builder, p, q, _up_to(POSITIONS, FILTERS), sums)
        return context.get_dummy_value()

    word = types.intp
    return types.void(*[word] * 13, types.float32, word, word), generate


@intrinsic
def correlate(
    typing_context: Any, r: Any, q: Any, x: Any, x_row: Any, x_step: Any, z: Any, z_row: Any, z_step: Any,
    rows: Any, run: Any, dw: Any, step: Any,
) -> Any:  # fmt: skip
    """Sums over ``rows`` x ``run`` positions and all lanes of ``r`` neighbours in x with ``q`` neighbours in z.

    x_row, x_step, z_row, z_step: from one row, and from one position, to the next
    dw: float32, the ``q`` side by side, ``step`` from one of the ``r`` to the next; the sums are added
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        r, q, x, x_row, x_step, z, z_row, z_step, rows, run, dw, step = arguments

        def sums(r: int, q: int) -> None:
            outer = _Loop(builder, rows, [x, z, *[_NONE] * (r * q)])
            inner = _Loop(builder, run, outer.state)
            a, d, *held = inner.state
            vectors = [_vector(builder, a, WIDTH * i) for i in range(r)]
            for j in range(q):
                gradient = _vector(builder, d, WIDTH * j)
                for i in range(r):
                    held[i * q + j] = _multiplied(builder, held[i * q + j], vectors[i], gradient)
            after = inner.close([_add(builder, a, x_step), _add(builder, d, z_step), *held])
            below = [_add(builder, outer.state[0], x_row), _add(builder, outer.state[1], z_row)]
            held = list(outer.close([*below, *after[2:]]))[2:]
            into = dw
            for i in range(r):
                _add_totals(builder, held[i * q : (i + 1) * q], into)
                into = _add(builder, into, step)

        _chosen(builder, r, q, _up_to(RUN, OUTPUTS), sums)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 12), generate


@intrinsic
def slide(
    typing_context: Any, kw: Any, q: Any, x: Any, x_row: Any, x_step: Any, z: Any, z_row: Any, z_step: Any,
    rows: Any, run: Any, dw: Any, step: Any,
) -> Any:  # fmt: skip
    """As ``correlate`` for a kernel's row of ``kw`` positions (3 or 5) that moves by one position at a time: what one
    position reads the next ones read again, so x comes out of registers.

    dw: the ``q`` side by side, ``step`` from one position of the kernel's row to the next
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kw, q, x, x_row, x_step, z, z_row, z_step, rows, run, dw, step = arguments
        whole = builder.sdiv(run, ir.Constant(WORD, _UNROLLED))
        rest = builder.srem(run, ir.Constant(WORD, _UNROLLED))

        def sums(taps: int, q: int) -> None:
            def pieces(count: ir.Value, positions: int, state: Sequence[ir.Value]) -> Sequence[ir.Value]:
                loop = _Loop(builder, count, state)
                a, d, *held = loop.state
                vectors, at = [], a
                for i in range(positions + taps - 1):
                    vectors.append(_vector(builder, at))
                    at = _add(builder, at, x_step)
                    a = at if i + 1 == positions else a
                for n in range(positions):
                    for j in range(q):
                        gradient = _vector(builder, d, WIDTH * j)
                        for i in range(taps):
                            held[i * q + j] = _multiplied(builder, held[i * q + j], vectors[n + i], gradient)
                    d = _add(builder, d, z_step)
                return loop.close([a, d, *held])

            outer = _Loop(builder, rows, [x, z, *[_NONE] * (taps * q)])
            after = pieces(rest, 1, pieces(whole, _UNROLLED, outer.state))
            below = [_add(builder, outer.state[0], x_row), _add(builder, outer.state[1], z_row)]
            held = list(outer.close([*below, *after[2:]]))[2:]
            into = dw
            for i in range(taps):
                _add_totals(builder, held[i * q : (i + 1) * q], into)
                into = _add(builder, into, step)

        _chosen(builder, kw, q, [(taps, n) for taps in SLIDING for n in range(1, OUTPUTS + 1)], sums)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 12), generate


def _add_totals(builder: ir.IRBuilder, vectors: Sequence[ir.Value], into: ir.Value) -> None:
    """The sum of each vector's lanes, added to floats side by side: pairs of vectors share their additions."""
    count, width, held = len(vectors), LANES, list(vectors)
    held += [_NONE] * (2 ** (count - 1).bit_length() - count)
    while len(held) > 1:
        # Of two vectors one: halves of a's stretches of ``width`` lanes are added, then b's lie behind them.
        half = width // 2
        low = ir.Constant(INTS, [i if i % width < half else LANES + i - half for i in range(LANES)])
        high = ir.Constant(INTS, [i + half if i % width < half else LANES + i for i in range(LANES)])
        held = [
            builder.fadd(builder.shuffle_vector(a, b, low), builder.shuffle_vector(a, b, high), FLAGS)
            for a, b in zip(held[::2], held[1::2], strict=True)
        ]
        width = half
    (v,) = held
    while width > 1:
        half = width // 2
        upper = ir.Constant(INTS, [i + half if i % width < half else i for i in range(LANES)])
        v = builder.fadd(v, builder.shuffle_vector(v, v, upper), FLAGS)
        width = half
    places = _places(count)
    side_by_side = ir.Constant(INTS, [*places, *[places[-1]] * (LANES - count)])
    n = ir.Constant(WORD, count)
    sums = builder.fadd(some_floats(builder, into, n), builder.shuffle_vector(v, v, side_by_side), FLAGS)
    put_some_floats(builder, into, sums, n)


def _places(count: int) -> list[int]:
    """The lane in which each of ``count`` vectors' sum ends."""
    places, number, half = [0] * count, 1, LANES // 2
    while number < count:
        places = [place + (half if i & number else 0) for i, place in enumerate(places)]
        number, half = 2 * number, half // 2
    return places


#: Bytes ahead of what is turned that are asked for: rows of sixteen samples are more streams than a processor follows.
_AHEAD = 256


def _turn(masked: bool) -> Callable[..., None]:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, x_step, rows, columns, y, y_step, down, across, *mask = arguments
        full = ir.Constant(WORD, LANES)
        whole = builder.and_(
            builder.and_(builder.icmp_signed("==", rows, full), builder.icmp_signed("==", columns, full)),
            builder.and_(builder.icmp_signed("==", down, full), builder.icmp_signed("==", across, full)),
        )
        zero = ir.Constant(WORD, 0)

        def kept(v: ir.Value, other: ir.Value) -> ir.Value:
            return builder.select(builder.fcmp_ordered(">", other, _NONE), v, _NONE)

        with builder.if_else(whole) as (plain, partial):
            with plain:
                at, vectors = x, []
                for _ in range(LANES):
                    v = _vector(builder, at)
                    prefetched(builder, _add(builder, at, _AHEAD))
                    if masked:
                        other = _add(builder, at, mask[0])
                        prefetched(builder, _add(builder, other, _AHEAD))
                        v = kept(v, _vector(builder, other))
                    vectors.append(v)
                    at = _add(builder, at, x_step)
                at = y
                for v in _transposed(builder, vectors):
                    builder.store(v, pointer(builder, at, VECTOR), align=4)
                    at = _add(builder, at, y_step)
            with partial:
                at, vectors = x, []
                for i in range(LANES):
                    inside = builder.icmp_signed(">", rows, ir.Constant(WORD, i))
                    count = builder.select(inside, columns, zero)
                    v = some_floats(builder, at, count)
                    vectors.append(kept(v, some_floats(builder, _add(builder, at, mask[0]), count)) if masked else v)
                    at = _add(builder, at, x_step)
                at = y
                for j, v in enumerate(_transposed(builder, vectors)):
                    inside = builder.icmp_signed(">", down, ir.Constant(WORD, j))
                    put_some_floats(builder, at, v, builder.select(inside, across, zero))
                    at = _add(builder, at, y_step)
        return context.get_dummy_value()

    return generate


@intrinsic
def turn(
    typing_context: Any, x: Any, x_step: Any, rows: Any, columns: Any, y: Any, y_step: Any, down: Any, across: Any
) -> Any:
    """Transpose a block of at most 16 x 16 floats: y[j, i] = x[i, j].

    Of x the first ``rows`` and ``columns`` are read, and the rest is 0; of y the first ``down`` and ``across`` are
    written. Both matrices may lie anywhere, with ``x_step`` and ``y_step`` from one row to the next.
    """
    return types.void(*[types.intp] * 8), _turn(masked=False)


@intrinsic
def turn_kept(
    typing_context: Any, x: Any, x_step: Any, rows: Any, columns: Any, y: Any, y_step: Any, down: Any, across: Any,
    behind: Any,
) -> Any:  # fmt: skip
    """The same of those numbers of x that have one above 0 ``behind`` them, in a matrix that lies alike; else 0."""
    return types.void(*[types.intp] * 9), _turn(masked=True)


def _transposed(builder: ir.IRBuilder, vectors: Sequence[ir.Value]) -> Sequence[ir.Value]:
    """Sixteen rows to sixteen columns: in each of four rounds, blocks of 1, 2, 4, 8 off the diagonal change places."""
    for size in (1, 2, 4, 8):
        low = ir.Constant(INTS, [i if not i & size else LANES + (i ^ size) for i in range(LANES)])
        high = ir.Constant(INTS, [i | size if not i & size else LANES + i for i in range(LANES)])
        changed = list(vectors)
        for i in range(LANES):
            if not i & size:
                a, b = vectors[i], vectors[i | size]
                changed[i] = builder.shuffle_vector(a, b, low)
                changed[i | size] = builder.shuffle_vector(a, b, high)
        vectors = changed
    return vectors
