"""Sums that each channel has for itself, held in registers and written as LLVM code: lanes are channels.

Addresses and steps count bytes; tables are of words.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from cnnforge.backends.numba.cpu import WIDE
from cnnforge.backends.numba.language import intrinsic, types
from cnnforge.backends.numba.pack import prefetched
from cnnforge.backends.numba.tiles import Loop, bounded, entry, load, word
from cnnforge.backends.numba.vectors import LANES, VECTOR, called, pointer, put_some_floats, some_floats

#: Positions that memory is asked for dy ahead of time.
AHEAD = 32
#: Sums side by side: enough to hide the latency of a multiply-add where there are registers for them.
OUTPUTS, TAPS = (8, 9) if WIDE else (4, 5)


def _fma(builder: ir.IRBuilder, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
    return called(builder, f"llvm.fma.v{LANES}f32", VECTOR, [x, y, z])


def _plus(builder: ir.IRBuilder, start: ir.Value, *offsets: ir.Value) -> ir.Value:
    for offset in offsets:
        start = builder.add(start, offset)
    return start


@intrinsic
def gather(
    typing_context: Any, x: Any, rows: Any, n: Any, taps: Any, count: Any, w: Any, step: Any, start: Any, y: Any,
    places: Any, columns: Any, bounds: Any,
) -> Any:  # fmt: skip
    """y[i] = start + sum over taps t < count of x[i, t] * w[t], for i < n and the first ``columns`` lanes.

    x, rows, taps: i and t meet at ``x + rows[i] + taps[t]``;  w, step: from one tap to the next
    y, places: i lies at ``y + places[i]``;  bounds: see ``tiles.along``
    Whole vectors are read of x and w. Reading x limits it: nine vectors for eight multiply-adds.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, rows, n, taps, count, w, step, start, y, places, columns, bounds = arguments
        last = builder.sub(n, word(1))
        first_sum = some_floats(builder, start, columns)
        blocks = Loop(builder, [word(0)], builder.icmp_signed(">", n, word(0)))
        (begin,) = blocks.values
        # The last block begins earlier; where there are fewer positions the last is computed several times.
        late = builder.sub(n, word(OUTPUTS))
        begin = builder.select(builder.icmp_signed("<", begin, late), begin, late)
        begin = builder.select(builder.icmp_signed("<", begin, word(0)), word(0), begin)
        numbers = [builder.add(begin, word(i)) for i in range(OUTPUTS)]
        numbers = [builder.select(builder.icmp_signed("<", i, last), i, last) for i in numbers]
        sources = [builder.add(x, entry(builder, rows, i)) for i in numbers]
        loop = Loop(builder, [word(0), w, *[first_sum] * OUTPUTS], builder.icmp_signed(">", count, word(0)))
        t, at_w, *sums = loop.values
        weights, tap = load(builder, at_w, VECTOR), entry(builder, taps, t)
        sums = [
            _fma(builder, load(builder, builder.add(at, tap), VECTOR), weights, s)
            for at, s in zip(sources, sums, strict=True)
        ]
        t = builder.add(t, word(1))
        _, _, *sums = loop.close(builder.icmp_signed("<", t, count), [t, builder.add(at_w, step), *sums])
        into = [builder.add(y, entry(builder, places, i)) for i in numbers]
        sums = bounded(builder, sums, bounds)
        with builder.if_else(builder.icmp_signed("==", columns, word(LANES))) as (whole, cut):
            with whole:
                for s, at in zip(sums, into, strict=True):
                    builder.store(s, pointer(builder, at, VECTOR), align=4)
            with cut:
                for s, at in zip(sums, into, strict=True):
                    put_some_floats(builder, at, s, columns)
        after = builder.add(begin, word(OUTPUTS))
        blocks.close(builder.icmp_signed("<", after, n), [after])
        return context.get_dummy_value()

    return types.void(*[types.intp] * 12), generate


@intrinsic
def correlate(
    typing_context: Any, x: Any, rows: Any, n: Any, taps: Any, dy: Any, step: Any, columns: Any, sums: Any,
    sums_step: Any, keep: Any,
) -> Any:  # fmt: skip
    """sums[t] = sum over positions i < n of x[i, t] * dy[i], for TAPS taps t.

    x, rows, taps: see ``gather``;  dy, step, columns: from one position to the next, whose first lanes are read
    keep: what sums holds is added where it is not 0
    Reading limits it: ten vectors for nine multiply-adds.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, rows, n, taps, dy, step, columns, sums, sums_step, keep = arguments
        places = [builder.add(sums, builder.mul(word(t), sums_step)) for t in range(TAPS)]
        offsets = [entry(builder, taps, word(t)) for t in range(TAPS)]
        zero = ir.Constant(VECTOR, None)
        held = Loop(builder, [zero] * TAPS, builder.icmp_signed("!=", keep, word(0)))
        begin = held.close(ir.Constant(ir.IntType(1), 0), [load(builder, at, VECTOR) for at in places])
        loop = Loop(builder, [word(0), dy, *begin], builder.icmp_signed(">", n, word(0)))
        i, at, *totals = loop.values
        prefetched(builder, builder.add(at, builder.mul(step, word(AHEAD))))
        source, right = builder.add(x, entry(builder, rows, i)), some_floats(builder, at, columns)
        totals = [
            _fma(builder, load(builder, builder.add(source, offset), VECTOR), right, total)
            for offset, total in zip(offsets, totals, strict=True)
        ]
        i = builder.add(i, word(1))
        _, _, *totals = loop.close(builder.icmp_signed("<", i, n), [i, builder.add(at, step), *totals])
        for total, at in zip(totals, places, strict=True):
            builder.store(total, pointer(builder, at, VECTOR), align=4)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 10), generate
