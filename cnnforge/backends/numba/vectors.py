"""Pieces of kernels on vectors of ``LANES`` neighbouring floats, written as LLVM code.

LLVM leaves loops over many arrays unvectorised, because it cannot see that none of them overlaps another. Here the
vectors are stated, and LLVM only maps them to the registers that the CPU has. Addresses count bytes, strides floats.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from cnnforge.backends.numba.language import intrinsic, types

#: Floats of a vector: a cache line.
LANES = 16

_WORD, _FLOAT = ir.IntType(64), ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)
#: Products and sums may be contracted; nothing else.
_FLAGS = ("contract",)

Matrix = Sequence[Sequence[float]]


def _at(builder: ir.IRBuilder, address: ir.Value, floats: ir.Value, kind: ir.Type) -> ir.Value:
    """A pointer ``floats`` behind ``address``."""
    start = builder.inttoptr(address, _FLOAT.as_pointer())
    return builder.bitcast(builder.gep(start, [floats]), kind.as_pointer())


def _splat(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


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
            k = builder.phi(_WORD)
            sums = [builder.phi(_VECTOR) for _ in range(rows)]
            k.add_incoming(ir.Constant(_WORD, 0), before)
            for s in sums:
                s.add_incoming(ir.Constant(_VECTOR, None), before)
            builder.cbranch(builder.icmp_signed("<", k, depth), body, end)

            builder.position_at_end(body)
            right = builder.load(_at(builder, b, builder.mul(k, across), _VECTOR), align=4)
            for i, s in enumerate(sums):
                offset = builder.add(builder.mul(ir.Constant(_WORD, i), row), builder.mul(k, step))
                left = _splat(builder, builder.load(_at(builder, a, offset, _FLOAT), align=4))
                s.add_incoming(builder.fadd(s, builder.fmul(left, right, _FLAGS), _FLAGS), body)
            k.add_incoming(builder.add(k, ir.Constant(_WORD, 1)), body)
            builder.branch(head)

            builder.position_at_end(end)
            into = [_at(builder, c, ir.Constant(_WORD, i * LANES), _VECTOR) for i in range(rows)]
            with builder.if_else(builder.icmp_signed("!=", keep, ir.Constant(_WORD, 0))) as (adding, writing):
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
            total = builder.fsub(total, vector, _FLAGS)
            continue
        if factor != 1:
            vector = builder.fmul(vector, ir.Constant(_VECTOR, [ir.Constant(_FLOAT, factor)] * LANES), _FLAGS)
        total = vector if total is None else builder.fadd(total, vector, _FLAGS)
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
                offset = builder.add(builder.mul(ir.Constant(_WORD, i), di), builder.mul(ir.Constant(_WORD, j), dj))
                return _at(builder, start, offset, _VECTOR)

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
