"""Blocks of a matrix product and small transforms on vectors, held in registers and written as LLVM code.

Addresses count bytes, strides floats.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from cnnforge.backends.numba.vectors import FLAGS, FLOAT, LANES, VECTOR, WORD, spread

Matrix = Sequence[Sequence[float]]


def _at(builder: ir.IRBuilder, address: ir.Value, floats: ir.Value, kind: ir.Type) -> ir.Value:
    """A pointer ``floats`` behind ``address``."""
    start = builder.inttoptr(address, FLOAT.as_pointer())
    return builder.bitcast(builder.gep(start, [floats]), kind.as_pointer())


def product(rows: int) -> Any:
    """A function for kernels: ``rows`` x LANES sums of ``depth`` products, held in registers.

    (a, row, step, b, across, c, depth, keep):
    c[i, lane] = sum over k < depth of a[i*row + k*step] * b[k*across + lane], added to what c holds where ``keep`` is
    not 0. c: (rows, LANES), side by side.
    Six rows take twelve of AVX2's sixteen registers; what limits is the multiply-add units.
    """

    @intrinsic
    def multiply(context: Any, a: Any, row: Any, step: Any, b: Any, across: Any, c: Any, depth: Any, keep: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            a, row, step, b, across, c, depth, keep = arguments
            before = builder.block
            head, body, end = (builder.append_basic_block(f"product.{name}") for name in ("head", "body", "end"))
            builder.branch(head)
            builder.position_at_end(head)
            k = builder.phi(WORD)
            sums = [builder.phi(VECTOR) for _ in range(rows)]
            k.add_incoming(ir.Constant(WORD, 0), before)
            for s in sums:
                s.add_incoming(ir.Constant(VECTOR, None), before)
            builder.cbranch(builder.icmp_signed("<", k, depth), body, end)

            builder.position_at_end(body)
            right = builder.load(_at(builder, b, builder.mul(k, across), VECTOR), align=4)
            for i, s in enumerate(sums):
                offset = builder.add(builder.mul(ir.Constant(WORD, i), row), builder.mul(k, step))
                left = spread(builder, builder.load(_at(builder, a, offset, FLOAT), align=4))
                s.add_incoming(builder.fadd(s, builder.fmul(left, right, FLAGS), FLAGS), body)
            k.add_incoming(builder.add(k, ir.Constant(WORD, 1)), body)
            builder.branch(head)

            builder.position_at_end(end)
            into = [_at(builder, c, ir.Constant(WORD, i * LANES), VECTOR) for i in range(rows)]
            with builder.if_else(builder.icmp_signed("!=", keep, ir.Constant(WORD, 0))) as (adding, writing):
                with adding:
                    for s, place in zip(sums, into, strict=True):
                        builder.store(builder.fadd(builder.load(place, align=4), s), place, align=4)
                with writing:
                    for s, place in zip(sums, into, strict=True):
                        builder.store(s, place, align=4)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 8), generate

    return multiply


def _combination(builder: ir.IRBuilder, factors: Sequence[float], vectors: Sequence[ir.Value]) -> ir.Value:
    """The sum of ``factors`` times ``vectors``, with no work for 0 and 1."""
    total = None
    for factor, vector in sorted(zip(factors, vectors, strict=True), key=lambda pair: pair[0] != 1):
        if factor == 0:
            continue
        if total is not None and factor == -1:
            total = builder.fsub(total, vector, FLAGS)
            continue
        if factor != 1:
            vector = builder.fmul(vector, ir.Constant(VECTOR, [ir.Constant(FLOAT, factor)] * LANES), FLAGS)
        total = vector if total is None else builder.fadd(total, vector, FLAGS)
    assert total is not None, "a row of zeros"
    return total


def transform(*matrices: Matrix) -> Any:
    """A function for kernels: Y = A X A', where A is the product of ``matrices`` and entries are vectors of LANES.

    (x, row, column, y, down, across): x[i, j] lies at i*row + j*column, y[i, j] at i*down + j*across.
    Given as factors with few entries each, A takes fewer operations.
    """

    def apply(builder: ir.IRBuilder, vectors: Sequence[ir.Value]) -> Sequence[ir.Value]:
        for matrix in reversed(matrices):
            vectors = [_combination(builder, factors, vectors) for factors in matrix]
        return vectors

    size = len(matrices[-1][0])

    @intrinsic
    def sandwich(context: Any, x: Any, row: Any, column: Any, y: Any, down: Any, across: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            def place(start: ir.Value, i: int, di: ir.Value, j: int, dj: ir.Value) -> ir.Value:
                offset = builder.add(builder.mul(ir.Constant(WORD, i), di), builder.mul(ir.Constant(WORD, j), dj))
                return _at(builder, start, offset, VECTOR)

            x, row, column, y, down, across = arguments
            columns = [
                apply(builder, [builder.load(place(x, i, row, j, column), align=4) for i in range(size)])
                for j in range(size)
            ]
            for i, of_row in enumerate(zip(*columns, strict=True)):
                for j, vector in enumerate(apply(builder, of_row)):
                    builder.store(vector, place(y, i, down, j, across), align=4)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 6), generate

    return sandwich
