"""Moves of blocks of memory: copies, and matrices brought into panels. Addresses and steps count bytes."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from cnnforge.backends.numba.language import intrinsic, types
from cnnforge.backends.numba.signature import part
from cnnforge.backends.numba.vectors import (
    BIT,
    BYTE,
    INT,
    INTS,
    LANES,
    VECTOR,
    WIDTH,
    WORD,
    called,
    lanes,
    pointer,
    put,
    some,
    some_floats,
)  # fmt: skip


@intrinsic
def copy(typing_context: Any, into: Any, source: Any, size: Any) -> Any:
    """Copy ``size`` bytes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        into, source, size = arguments
        ends = [pointer(builder, at, BYTE) for at in (into, source)]
        called(builder, "llvm.memcpy.p0.p0.i64", ir.VoidType(), [*ends, size, ir.Constant(BIT, 0)])
        return context.get_dummy_value()

    return types.void(*[types.intp] * 3), generate


@intrinsic
def clear(typing_context: Any, into: Any, size: Any) -> Any:
    """Set ``size`` bytes to 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        into, size = arguments
        zero, fixed = ir.Constant(BYTE, 0), ir.Constant(BIT, 0)
        called(builder, "llvm.memset.p0.i64", ir.VoidType(), [pointer(builder, into, BYTE), zero, size, fixed])
        return context.get_dummy_value()

    return types.void(*[types.intp] * 2), generate


def prefetched(builder: ir.IRBuilder, at: ir.Value, write: bool = False) -> None:
    """LLVM code of ``prefetch``."""
    kind, everywhere, data = ir.Constant(INT, int(write)), ir.Constant(INT, 3), ir.Constant(INT, 1)
    called(builder, "llvm.prefetch.p0", ir.VoidType(), [pointer(builder, at, BYTE), kind, everywhere, data])


def _prefetching(write: bool) -> Any:
    @intrinsic
    def prefetch(typing_context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            prefetched(builder, arguments[0], write)
            return context.get_dummy_value()

        return types.void(types.intp), generate

    return prefetch


#: (address): ask for the cache line there, to read it or to write it soon. There need not be any memory.
prefetch, prefetch_to_write = _prefetching(False), _prefetching(True)


@intrinsic
def turn(typing_context: Any, source: Any, down: Any, rows: Any, columns: Any, into: Any, step: Any) -> Any:
    """into[j, i] = source[i, j] for i < LANES and j < columns <= LANES; 0 for i >= rows (at least 1).

    source[i] lies at i*down, into[j] at j*step. Each of four rounds puts the halves of the vectors into one another.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, down, rows, columns, into, step = arguments

        def row(i: int) -> ir.Value:
            here = builder.icmp_signed("<", ir.Constant(WORD, i), rows)
            at = builder.add(source, builder.mul(ir.Constant(WORD, i), down))
            zero = ir.Constant(WORD, 0)
            return some_floats(builder, builder.select(here, at, source), builder.select(here, columns, zero))

        vectors = [row(i) for i in range(LANES)]
        half = LANES // 2
        masks = [
            ir.Constant(INTS, [i // 2 + (LANES if i % 2 else 0) + start for i in range(LANES)]) for start in (0, half)
        ]  # fmt: skip
        for _ in range(4):
            pairs = [(vectors[i], vectors[i + half]) for i in range(half)]
            vectors = [builder.shuffle_vector(*pair, mask) for pair in pairs for mask in masks]
        for j, vector in enumerate(vectors):
            with builder.if_then(builder.icmp_signed("<", ir.Constant(WORD, j), columns)):
                at = builder.add(into, builder.mul(ir.Constant(WORD, j), step))
                builder.store(vector, pointer(builder, at, VECTOR), align=4)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 6), generate


@part
def pack(source: int, down: int, rows: int, columns: int, into: int, step: int) -> None:
    """into[i, j] = source[i, j] for i < rows and j < columns, then 0 up to a whole number of vectors.

    source[i] lies at i*down, into[i] at i*step.
    """
    for i in range(rows):
        at, to = source + i * down, into + i * step
        for j in range(0, columns - LANES + 1, LANES):
            put(to + 4 * j, lanes(at + 4 * j))
        rest = columns % LANES
        if rest:
            put(to + 4 * (columns - rest), some(at + 4 * (columns - rest), rest))


@part
def pack_turned(source: int, down: int, rows: int, columns: int, into: int, step: int) -> None:
    """into[i, j] = source[j, i] for i < rows and j < columns, then 0 up to a whole number of vectors.

    source[j] lies at j*down, into[i] at i*step.
    """
    for j in range(0, columns, LANES):
        for i in range(0, rows, LANES):
            turn(
                source + j * down + 4 * i, down, columns - j, min(LANES, rows - i),
                into + i * step + (WIDTH // LANES) * j, step,
            )  # fmt: skip


@part
def pad(x: int, h: int, w: int, c: int, top: int, left: int, rows: int, columns: int, into: int) -> None:
    """into (rows, columns, c) = the part of x (h, w, c) that begins at (top, left), with zeros where x is not."""
    start, stop = min(max(-left, 0), columns), max(min(w - left, columns), 0)
    for i in range(rows):
        to = into + 4 * i * columns * c
        if 0 <= top + i < h and start < stop:
            clear(to, 4 * start * c)
            copy(to + 4 * start * c, x + 4 * ((top + i) * w + left + start) * c, 4 * (stop - start) * c)
            clear(to + 4 * stop * c, 4 * (columns - stop) * c)
        else:
            clear(to, 4 * columns * c)
