"""Small transforms of matrices of vectors, written as LLVM code. Addresses count bytes, strides floats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from cnnforge.backends.numba.language import intrinsic, types
from cnnforge.backends.numba.tiles import bounded
from cnnforge.backends.numba.vectors import FLAGS, FLOAT, LANES, VECTOR, WORD, pointer

Matrix = Sequence[Sequence[float]]


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


def _place(builder: ir.IRBuilder, start: ir.Value, *steps: tuple[int, ir.Value]) -> ir.Value:
    """A pointer to a vector, so many steps of so many floats behind ``start``."""
    for i, step in steps:
        start = builder.add(start, builder.mul(ir.Constant(WORD, 4 * i), step))
    return pointer(builder, start, VECTOR)


def _sandwich(
    builder: ir.IRBuilder, matrices: Sequence[Matrix], arguments: Sequence[ir.Value],
    finish: Callable[[list[ir.Value]], list[ir.Value]],
) -> None:  # fmt: skip
    def apply(vectors: Sequence[ir.Value]) -> Sequence[ir.Value]:
        for matrix in reversed(matrices):
            vectors = [_combination(builder, factors, vectors) for factors in matrix]
        return vectors

    x, row, column, y, down, across = arguments
    size = range(len(matrices[-1][0]))
    columns = [
        apply([builder.load(_place(builder, x, (i, row), (j, column)), align=4) for i in size]) for j in size
    ]  # fmt: skip
    for i, of_row in enumerate(zip(*columns, strict=True)):
        for j, vector in enumerate(finish(list(apply(of_row)))):
            builder.store(vector, _place(builder, y, (i, down), (j, across)), align=4)


def transform(*matrices: Matrix) -> Any:
    """A function for kernels: Y = A X A', where A is the product of ``matrices`` and entries are vectors of LANES.

    (x, row, column, y, down, across): x[i, j] lies at i*row + j*column, y[i, j] at i*down + j*across.
    Given as factors with few entries each, A takes fewer operations.
    """

    @intrinsic
    def sandwich(context: Any, x: Any, row: Any, column: Any, y: Any, down: Any, across: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            _sandwich(builder, matrices, arguments, lambda vectors: vectors)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 6), generate

    return sandwich


def finished(*matrices: Matrix) -> Any:
    """The same with two arguments more: Y plus the vector at ``added``, between the two floats at ``bounds``."""

    @intrinsic
    def sandwich(
        context: Any, x: Any, row: Any, column: Any, y: Any, down: Any, across: Any, added: Any, bounds: Any
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            *usual, added, bounds = arguments
            more = builder.load(pointer(builder, added, VECTOR), align=4)

            def finish(vectors: list[ir.Value]) -> list[ir.Value]:
                return bounded(builder, [builder.fadd(v, more, FLAGS) for v in vectors], bounds)

            _sandwich(builder, matrices, usual, finish)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 8), generate

    return sandwich
