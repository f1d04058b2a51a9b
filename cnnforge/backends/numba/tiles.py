"""Matrix products by blocks of sums that are held in registers, written as LLVM code.

A block is ``ROWS`` x ``PANELS`` vectors of sums. Each step reads a vector of B for every panel and a number of A for
every row: a block of 12 x 2 takes 24 multiply-adds for 14 reads, so that the multiply-add units limit it (Zen 5 with
AVX-512: 99% of their peak where a sum has a hundred terms), and 8 sums or more hide their latency. Goto and van de
Geijn, "Anatomy of high-performance matrix multiplication", TOMS 2008, say why B is packed.

Two products are compiled once, and kernels that have them among their arguments call them: ``along``, where the
numbers of a row of A lie side by side, and ``across``, where those of a column do. Addresses and steps count bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from cnnforge.backends.numba.cpu import WIDE
from cnnforge.backends.numba.language import intrinsic, types
from cnnforge.backends.numba.signature import callee
from cnnforge.backends.numba.vectors import (
    FLAGS,
    FLOAT,
    LANES,
    VECTOR,
    WIDTH,
    WORD,
    called,
    pointer,
    put_some_floats,
    some_floats,
    spread,
)  # fmt: skip

Values = list[ir.Value]


#: Rows and panels of a block: 24 of AVX-512's 32 registers, 12 of AVX2's 16, 24 of the 32 of NEON.
ROWS, PANELS = (12, 2) if WIDE else (6, 1)
#: Sums that hide the latency of multiply-adds: four cycles of two units.
HIDING = 8
#: Columns of a block.
COLUMNS = PANELS * LANES
#: Bounds that change nothing.
UNBOUNDED = (float("-inf"), float("inf"))


def word(n: int) -> ir.Constant:
    return ir.Constant(WORD, n)


def load(builder: ir.IRBuilder, at: ir.Value, kind: ir.Type) -> ir.Value:
    return builder.load(pointer(builder, at, kind), align=8 if kind is WORD else 4)


def entry(builder: ir.IRBuilder, table: ir.Value, i: ir.Value, j: int = 0) -> ir.Value:
    """Word ``i + j`` of a table."""
    return load(builder, builder.add(table, builder.shl(builder.add(i, word(j)), word(3))), WORD)


def _not_unrolled(module: ir.Module) -> ir.MDValue:
    """What tells LLVM to leave a loop as it is: a node that begins with itself."""
    off = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
    node = module.add_metadata([off])
    node.operands = (node, off)
    return node


class Loop:
    """A loop that carries values from turn to turn in registers; code is built inside until ``close``.

    Where ``enter`` is given the loop is left out when it does not hold. LLVM may not unroll it: bodies are long enough.
    """

    def __init__(self, builder: ir.IRBuilder, carried: Values, enter: ir.Value | None = None) -> None:
        self.builder, self.start, self.carried = builder, builder.block, carried
        self.body, self.end = builder.append_basic_block("loop"), builder.append_basic_block("loop.end")
        self.skipped = enter is not None
        builder.branch(self.body) if enter is None else builder.cbranch(enter, self.body, self.end)
        builder.position_at_end(self.body)
        self.values = [builder.phi(v.type) for v in carried]

    def close(self, again: ir.Value, values: Values) -> Values:
        """Turn again with ``values`` where ``again`` holds. What is carried behind the loop."""
        last = self.builder.block
        for phi, first, value in zip(self.values, self.carried, values, strict=True):
            phi.add_incoming(first, self.start)
            phi.add_incoming(value, last)
        turn = self.builder.cbranch(again, self.body, self.end)
        turn.set_metadata("llvm.loop", _not_unrolled(self.builder.module))
        self.builder.position_at_end(self.end)
        if not self.skipped:
            return values
        behind = []
        for first, value in zip(self.carried, values, strict=True):
            phi = self.builder.phi(value.type)
            phi.add_incoming(first, self.start)
            phi.add_incoming(value, last)
            behind.append(phi)
        return behind


def _blocks(builder: ir.IRBuilder, n: ir.Value, columns: ir.Value, block: Callable[[ir.Value, int, int], None]) -> None:
    """Cut ``n`` rows into blocks: ``block(first, rows, panels)`` builds the code of one size, chosen as it runs.

    What does not fill two blocks is halved: blocks of few rows do not reach the peak.
    """
    start, end = builder.block, builder.append_basic_block("product.end")
    heads = [builder.append_basic_block(f"product.{panels + 1}") for panels in range(PANELS)]
    choice = builder.switch(builder.sdiv(builder.sub(columns, word(1)), word(LANES)), end)
    for panels, head in enumerate(heads, 1):
        choice.add_case(word(panels - 1), head)
        builder.position_at_end(head)
        first = builder.phi(WORD)
        first.add_incoming(word(0), start)
        left = builder.sub(n, first)
        half = builder.ashr(builder.add(left, word(1)), word(1))
        fewer = builder.select(builder.icmp_signed("<=", left, word(ROWS)), left, half)
        size = builder.select(builder.icmp_signed(">=", left, word(2 * ROWS)), word(ROWS), fewer)
        sizes = builder.switch(size, end)
        for rows in range(1, ROWS + 1):
            sizes.add_case(word(rows), builder.append_basic_block(f"product.{rows}x{panels}"))
            builder.position_at_end(sizes.cases[-1][1])
            block(first, rows, panels)
            first.add_incoming(builder.add(first, word(rows)), builder.block)
            builder.branch(head)
    builder.position_at_end(end)


def _step(builder: ir.IRBuilder, sums: Values, left: Values, b: ir.Value) -> Values:
    """``sums`` plus the products of ``left`` (rows) and the vectors at ``b`` (panels)."""
    panels = len(sums) // len(left)
    right = [load(builder, builder.add(b, word(WIDTH * p)), VECTOR) for p in range(panels)]
    fma = f"llvm.fma.v{LANES}f32"
    return [
        called(builder, fma, VECTOR, [spread(builder, left[i // panels]), right[i % panels], s])
        for i, s in enumerate(sums)
    ]  # fmt: skip


def bounded(builder: ir.IRBuilder, vectors: Values, bounds: ir.Value) -> Values:
    """``vectors`` between the two floats at ``bounds``; nan stays."""
    floor, ceiling = (spread(builder, load(builder, builder.add(bounds, word(4 * i)), FLOAT)) for i in (0, 1))
    vectors = [builder.select(builder.fcmp_ordered("<", v, floor), floor, v) for v in vectors]
    return [builder.select(builder.fcmp_ordered(">", v, ceiling), ceiling, v) for v in vectors]


def _store(
    builder: ir.IRBuilder, sums: Values, into: Values, columns: ir.Value, keep: ir.Value, bounds: ir.Value | None
) -> None:
    """Write ``sums`` (rows x panels) to the rows at ``into``: see ``along``."""
    panels = len(sums) // len(into)
    places = [builder.add(at, word(WIDTH * p)) for at in into for p in range(panels)]
    counts = [builder.sub(columns, word(LANES * p)) for p in range(panels)] * len(into)
    adding = Loop(builder, sums, builder.icmp_signed("!=", keep, word(0)))
    held = [some_floats(builder, at, n) for at, n in zip(places, counts, strict=True)]
    more = [builder.fadd(s, h, FLAGS) for s, h in zip(adding.values, held, strict=True)]
    sums = adding.close(ir.Constant(ir.IntType(1), 0), more)
    if bounds is not None:
        sums = bounded(builder, sums, bounds)
    with builder.if_else(builder.icmp_signed("==", columns, word(LANES * panels))) as (whole, cut):
        with whole:
            for s, at in zip(sums, places, strict=True):
                builder.store(s, pointer(builder, at, VECTOR), align=4)
        with cut:
            for s, at, n in zip(sums, places, counts, strict=True):
                put_some_floats(builder, at, s, n)


def _run(
    builder: ir.IRBuilder, ends: Values, length: ir.Value, b: ir.Value, step: ir.Value, sums: Values
) -> tuple[ir.Value, Values]:
    """Products of the ``length`` bytes before the ``ends`` of rows of A with vectors at ``b``: behind it, new sums."""

    def turn(k: ir.Value, at: ir.Value, sums: Values) -> tuple[ir.Value, ir.Value, Values]:
        left = [builder.load(builder.bitcast(builder.gep(e, [k]), FLOAT.as_pointer()), align=4) for e in ends]
        return builder.add(k, word(4)), builder.add(at, step), _step(builder, sums, left, at)

    # Counts up to 0, so that one register is both the counter and every row's place.
    k, zero, several = builder.neg(length), word(0), HIDING // len(sums)
    if several < 2:
        loop = Loop(builder, [k, b, *sums])
        k, at, *sums = loop.values
        k, at, sums = turn(k, at, sums)
        _, at, *sums = loop.close(builder.icmp_signed("<", k, zero), [k, at, *sums])
        return at, sums
    # A few sums would wait for one another: each is made in several parts.
    size, stride = len(sums), word(-4 * several)
    spare = [ir.Constant(VECTOR, None)] * (size * (several - 1))
    loop = Loop(builder, [k, b, *sums, *spare], builder.icmp_signed("<=", k, stride))
    k, at, *sums = loop.values
    parts = []
    for i in range(several):
        k, at, part = turn(k, at, sums[i * size : (i + 1) * size])
        parts += part
    k, at, *parts = loop.close(builder.icmp_signed("<=", k, stride), [k, at, *parts])
    sums = parts[:size]
    for i in range(size, len(parts)):
        sums[i % size] = builder.fadd(sums[i % size], parts[i], FLAGS)
    rest = Loop(builder, [k, at, *sums], builder.icmp_signed("<", k, zero))
    k, at, *sums = rest.values
    k, at, sums = turn(k, at, sums)
    _, at, *sums = rest.close(builder.icmp_signed("<", k, zero), [k, at, *sums])
    return at, sums


@intrinsic
def _along(
    typing_context: Any, n: Any, columns: Any, a: Any, rows: Any, taps: Any, count: Any, run: Any, b: Any, step: Any,
    c: Any, places: Any, start: Any, keep: Any, bounds: Any,
) -> Any:  # fmt: skip
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        n, columns, a, rows, taps, count, run, b, step, c, places, start, keep, bounds = arguments
        length = builder.shl(run, word(2))
        # Masked reads that read nothing still are slow where there is no memory, so they go somewhere.
        nothing = builder.icmp_signed("==", start, word(0))
        first_from = builder.select(nothing, b, start)

        def block(first: ir.Value, size: int, panels: int) -> None:
            offsets = [entry(builder, rows, first, i) for i in range(size)]
            begin = [
                some_floats(
                    builder, builder.add(first_from, word(WIDTH * p)),
                    builder.select(nothing, word(0), builder.sub(columns, word(LANES * p))),
                )
                for p in range(panels)
            ]  # fmt: skip
            outer = Loop(builder, [word(0), b, *begin * size], builder.icmp_signed(">", count, word(0)))
            t, at, *sums = outer.values
            base = builder.add(builder.add(a, length), entry(builder, taps, t))
            ends = [pointer(builder, builder.add(base, offset), ir.IntType(8)) for offset in offsets]
            at, sums = _run(builder, ends, length, at, step, sums)
            t = builder.add(t, word(1))
            _, _, *sums = outer.close(builder.icmp_signed("<", t, count), [t, at, *sums])
            into = [builder.add(c, entry(builder, places, first, i)) for i in range(size)]
            _store(builder, sums, into, columns, keep, bounds)

        _blocks(builder, n, columns, block)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 14), generate


@intrinsic
def _across(
    typing_context: Any, n: Any, columns: Any, a: Any, b: Any, segments: Any, count: Any, run: Any, a_step: Any,
    b_step: Any, c: Any, c_step: Any, keep: Any,
) -> Any:  # fmt: skip
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        n, columns, a, b, segments, count, run, a_step, b_step, c, c_step, keep = arguments

        def block(first: ir.Value, size: int, panels: int) -> None:
            from_a = builder.add(a, builder.shl(first, word(2)))
            zeros = [ir.Constant(VECTOR, None)] * (size * panels)
            outer = Loop(builder, [word(0), *zeros], builder.icmp_signed(">", count, word(0)))
            t, *sums = outer.values
            pair = builder.shl(t, word(1))
            at_a, at_b = builder.add(from_a, entry(builder, segments, pair)), entry(builder, segments, pair, 1)
            inner = Loop(builder, [run, at_a, builder.add(b, at_b), *sums])
            k, at_a, at_b, *sums = inner.values
            left = [load(builder, builder.add(at_a, word(4 * i)), FLOAT) for i in range(size)]
            sums = _step(builder, sums, left, at_b)
            k = builder.sub(k, word(1))
            _, _, _, *sums = inner.close(
                builder.icmp_signed(">", k, word(0)),
                [k, builder.add(at_a, a_step), builder.add(at_b, b_step), *sums],
            )  # fmt: skip
            t = builder.add(t, word(1))
            _, *sums = outer.close(builder.icmp_signed("<", t, count), [t, *sums])
            into = [builder.add(c, builder.mul(builder.add(first, word(i)), c_step)) for i in range(size)]
            _store(builder, sums, into, columns, keep, None)

        _blocks(builder, n, columns, block)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 12), generate


@callee(14)
def ALONG(n, columns, a, rows, taps, count, run, b, step, c, places, start, keep, bounds):  # type: ignore[no-untyped-def]  # noqa: N802
    _along(n, columns, a, rows, taps, count, run, b, step, c, places, start, keep, bounds)


@callee(12)
def ACROSS(n, columns, a, b, segments, count, run, a_step, b_step, c, c_step, keep):  # type: ignore[no-untyped-def]  # noqa: N802
    _across(n, columns, a, b, segments, count, run, a_step, b_step, c, c_step, keep)


def _called(arguments: Any) -> Any:
    """Call the product at the first argument with the others."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, *words = arguments
        kind = ir.FunctionType(ir.VoidType(), [WORD] * len(words)).as_pointer()
        builder.call(builder.inttoptr(address, kind), words)
        return context.get_dummy_value()

    return types.void(*arguments), generate


@intrinsic
def along(
    typing_context: Any, product: Any, n: Any, columns: Any, a: Any, rows: Any, taps: Any, count: Any, run: Any, b: Any,
    step: Any, c: Any, places: Any, start: Any, keep: Any, bounds: Any,
) -> Any:  # fmt: skip
    """c[i, j] = sum over taps t and k < run of a[i, t, k] * b[t*run + k, j], for i < n and j < columns.

    product: ``ALONG``;  columns: 1 ... COLUMNS
    a, rows, taps, count: row i of tap t < count begins at ``a + rows[i] + taps[t]``; both are tables of words
    b, step: vectors of all panels of k lie side by side, with zeros behind the columns; from one k to the next ``step``
    c, places: row i lies at ``c + places[i]``
    start: where the sums start from, the same for every row: ``columns`` floats, or no address for zeros
    keep: what c holds is added where it is not 0
    bounds: two floats; what is below the first or above the second becomes the bound, nan stays
    """
    return _called([types.intp] * 15)


@intrinsic
def across(
    typing_context: Any, product: Any, n: Any, columns: Any, a: Any, b: Any, segments: Any, count: Any, run: Any,
    a_step: Any, b_step: Any, c: Any, c_step: Any, keep: Any,
) -> Any:  # fmt: skip
    """c[i, j] = sum over segments s and k < run of a[s, k, i] * b[s, k, j], for i < n and j < columns.

    product: ``ACROSS``;  columns: 1 ... COLUMNS
    a, b, segments, count, run, a_step, b_step: k of segment s < count lies at ``a + segments[s, 0] + k*a_step`` and
    ``b + segments[s, 1] + k*b_step``; ``segments`` is a table of words. b is read in whole vectors
    c, c_step: row i lies at ``c + i*c_step``;  keep: what c holds is added where it is not 0
    """
    return _called([types.intp] * 13)
