"""What passes over memory are written with: LLVM code, made by Python functions when a kernel is compiled.

Formulas compute with ``Vector``s of LANES numbers as if these were numbers. ``Code`` has the loads, stores and loops
around them. Written so, a pass compiles several times faster than the same loops where Numba has to type every step.
Addresses count bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import Parameter, Signature
from typing import Any

from llvmlite import ir

from cnnforge.backends.numba.language import intrinsic, later, types
from cnnforge.backends.numba.vectors import (
    BYTE,
    BYTES,
    FLAGS,
    FLOAT,
    INT,
    INTS,
    LANES,
    VECTOR,
    WORD,
    called,
    first,
    pointer,
    spread,
)  # fmt: skip

cgutils = later("cgutils", "numba.core")


class Vector:
    """A vector of floats, of whole numbers or of truth values in the code that is being written."""

    def __init__(self, builder: ir.IRBuilder, value: ir.Value) -> None:
        self.builder, self.value = builder, value

    def _other(self, other: Vector | float) -> ir.Value:
        """``other`` as a value of the same type."""
        if isinstance(other, Vector):
            return other.value
        kind = self.value.type
        return ir.Constant(kind, [ir.Constant(kind.element, other)] * LANES)

    def _with(self, function: str, other: Vector | float) -> Vector:
        return Vector(self.builder, getattr(self.builder, function)(self.value, self._other(other), flags=FLAGS))

    def _compared(self, sign: str, other: Vector | float) -> Vector:
        """False where either is nan."""
        compare = self.builder.icmp_signed if self.value.type == INTS else self.builder.fcmp_ordered
        return Vector(self.builder, compare(sign, self.value, self._other(other)))

    def __add__(self, other: Vector | float) -> Vector:
        return self._with("fadd", other)

    def __sub__(self, other: Vector | float) -> Vector:
        return self._with("fsub", other)

    def __mul__(self, other: Vector | float) -> Vector:
        return self._with("fmul", other)

    def __truediv__(self, other: Vector | float) -> Vector:
        return self._with("fdiv", other)

    def __gt__(self, other: Vector | float) -> Vector:
        return self._compared(">", other)

    def __ge__(self, other: Vector | float) -> Vector:
        return self._compared(">=", other)

    def __lt__(self, other: Vector | float) -> Vector:
        return self._compared("<", other)

    def equals(self, other: Vector | float) -> Vector:
        return self._compared("==", other)

    def is_nan(self) -> Vector:
        return Vector(self.builder, self.builder.fcmp_unordered("uno", self.value, self.value))

    def __or__(self, other: Vector) -> Vector:
        return Vector(self.builder, self.builder.or_(self.value, other.value))

    def where(self, x: Vector | float, y: Vector | float) -> Vector:
        """x where this mask is set, else y; one of them a Vector."""
        one, other = (x.value, x._other(y)) if isinstance(x, Vector) else (y._other(x), y.value)  # type: ignore[union-attr]
        return Vector(self.builder, self.builder.select(self.value, one, other))

    def root(self) -> Vector:
        return Vector(self.builder, called(self.builder, f"llvm.sqrt.v{LANES}f32", VECTOR, [self.value]))

    def inverse(self) -> Vector:
        return Vector(self.builder, self.builder.fdiv(self._other(1.0), self.value, flags=FLAGS))

    def whole(self, number: int) -> Vector:
        """A whole number in every lane."""
        return Vector(self.builder, ir.Constant(INTS, [ir.Constant(INT, number)] * LANES))


def clamped(v: Vector, floor: Vector, ceiling: Vector) -> Vector:
    """v, at least ``floor`` and at most ``ceiling``; what is nan stays so."""
    v = (floor > v).where(floor, v)
    return (ceiling < v).where(ceiling, v)


def tree(terms: Sequence[Vector]) -> Vector:
    """Their sum, neighbours first."""
    while len(terms) > 1:
        terms = [terms[i] + terms[i + 1] if i + 1 < len(terms) else terms[i] for i in range(0, len(terms), 2)]
    return terms[0]


_NAMES = {FLOAT: "f32", INT: "i32", BYTE: "i8"}


class Code:
    """Words (addresses, lengths), loads, stores and loops in the code that is being written."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.builder = builder

    def word(self, number: int) -> ir.Value:
        return ir.Constant(WORD, number)

    def sum(self, *parts: ir.Value | int) -> ir.Value:
        total = self.word(sum(p for p in parts if isinstance(p, int)))
        for p in parts:
            if not isinstance(p, int):
                total = self.builder.add(total, p)
        return total

    def times(self, *parts: ir.Value | int) -> ir.Value:
        product = self.word(1)
        for p in parts:
            product = self.builder.mul(product, self.word(p) if isinstance(p, int) else p)
        return product

    def less(self, a: ir.Value | int, b: ir.Value) -> ir.Value:
        """a - b."""
        return self.builder.sub(self.word(a) if isinstance(a, int) else a, b)

    def quotient(self, a: ir.Value, b: ir.Value | int) -> ir.Value:
        """Of numbers that are not negative."""
        return self.builder.udiv(a, self.word(b) if isinstance(b, int) else b)

    def smaller(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.select(self.builder.icmp_signed("<", a, b), a, b)

    def larger(self, a: ir.Value, b: ir.Value | int) -> ir.Value:
        b = self.word(b) if isinstance(b, int) else b
        return self.builder.select(self.builder.icmp_signed(">", a, b), a, b)

    @contextmanager
    def loop(self, start: ir.Value | int, stop: ir.Value, step: ir.Value | int) -> Iterator[ir.Value]:
        start, step = (self.word(v) if isinstance(v, int) else v for v in (start, step))
        with cgutils.for_range_slice(self.builder, start, stop, step) as (index, _):
            yield index

    def folded(
        self,
        start: ir.Value | int,
        stop: ir.Value,
        initial: Sequence[Vector],
        step: Callable[..., Sequence[Vector]],
    ) -> list[Vector]:
        """What becomes of ``initial`` when ``step(i, *values)`` gives the next values for start <= i < stop."""
        b = self.builder
        start = self.word(start) if isinstance(start, int) else start
        before = b.block
        head, body, end = (b.append_basic_block(f"folded.{name}") for name in ("head", "body", "end"))
        b.branch(head)
        b.position_at_end(head)
        i, *values = (b.phi(v.type) for v in (start, *(v.value for v in initial)))
        b.cbranch(b.icmp_signed("<", i, stop), body, end)
        b.position_at_end(body)
        later = [b.add(i, self.word(1)), *(v.value for v in step(i, *(Vector(b, v) for v in values)))]
        first_values = [start, *(v.value for v in initial)]
        for phi, first_value, value in zip((i, *values), first_values, later, strict=True):
            phi.add_incoming(first_value, before)
            phi.add_incoming(value, b.block)
        b.branch(head)
        b.position_at_end(end)
        return [Vector(b, v) for v in values]

    def channels(self, c: ir.Value, body: Callable[[ir.Value, int, ir.Value | None], None]) -> None:
        """``body(k, vectors, left)`` from channel k on: four vectors, then one at a time, then the ``left`` last."""
        strip = 4 * LANES
        strips, whole = (self.times(self.quotient(c, size), size) for size in (strip, LANES))
        with self.loop(0, strips, strip) as k:
            body(k, 4, None)
        with self.loop(strips, whole, LANES) as k:
            body(k, 1, None)
        with self.if_more(c, whole):
            body(whole, 1, self.builder.sub(c, whole))

    def row_totals(
        self, c: ir.Value, count: int, terms: Callable[[ir.Value, ir.Value | None], Sequence[Vector]]
    ) -> list[Vector]:
        """The ``count`` sums, in every lane, of ``terms(k, left)`` over a row of c channels."""
        vectors = self.quotient(c, LANES)

        def add(i: ir.Value, *sums: Vector) -> list[Vector]:
            return [s + t for s, t in zip(sums, terms(self.times(i, LANES), None), strict=True)]

        sums = self.folded(0, vectors, [self.zero()] * count, add)
        whole = self.times(vectors, LANES)
        left = self.less(c, whole)

        def add_last(i: ir.Value, *sums: Vector) -> list[Vector]:
            return [s + self.masked(t, left) for s, t in zip(sums, terms(whole, left), strict=True)]

        return [self._lanes_added(s) for s in self.folded(0, self.smaller(left, self.word(1)), sums, add_last)]

    def _lanes_added(self, v: Vector) -> Vector:
        """The sum of the lanes in every lane."""
        half = LANES // 2
        while half:
            turned = ir.Constant(INTS, [(i + half) % LANES for i in range(LANES)])
            v = v + Vector(self.builder, self.builder.shuffle_vector(v.value, v.value, turned))
            half //= 2
        return v

    def if_more(self, a: ir.Value, b: ir.Value | int) -> Any:
        """``with code.if_more(a, b):`` what is done where a > b."""
        return self.builder.if_then(self.builder.icmp_signed(">", a, self.word(b) if isinstance(b, int) else b))

    def at(self, block: ir.Value, i: int) -> ir.Value:
        """Word i of an argument block."""
        return self.builder.load(pointer(self.builder, self.sum(block, 8 * i), WORD))

    def constant(self, address: ir.Value) -> Vector:
        """The float64 at an address, as a float in every lane."""
        number = self.builder.load(pointer(self.builder, address, ir.DoubleType()))
        return self.spread(self.builder.fptrunc(number, FLOAT))

    def whole(self, word: ir.Value) -> Vector:
        """A word as a whole number in every lane."""
        return self.spread(self.builder.trunc(word, INT))

    def real(self, word: ir.Value) -> Vector:
        """A word as a float in every lane."""
        return self.spread(self.builder.sitofp(word, FLOAT))

    def float_at(self, address: ir.Value) -> Vector:
        """The float at an address in every lane."""
        return self.spread(self.builder.load(pointer(self.builder, address, FLOAT), align=4))

    def zero(self) -> Vector:
        return Vector(self.builder, ir.Constant(VECTOR, None))

    def spread(self, value: ir.Value) -> Vector:
        return Vector(self.builder, spread(self.builder, value))

    def load(self, at: ir.Value, left: ir.Value | None = None, kind: ir.Type = FLOAT) -> Vector:
        """The floats at an address, or bytes or int32 as whole numbers; the first ``left`` where that is given."""
        b, shape = self.builder, ir.VectorType(kind, LANES)
        place, align = pointer(b, at, shape), 1 if kind is BYTE else 4
        if left is None:
            value = b.load(place, align=align)
        else:
            arguments = [place, ir.Constant(INT, align), first(b, left), ir.Constant(shape, None)]
            value = called(b, f"llvm.masked.load.v{LANES}{_NAMES[kind]}.p0", shape, arguments)
        return Vector(b, b.zext(value, INTS) if kind is BYTE else value)

    def store(self, at: ir.Value, v: Vector, left: ir.Value | None = None, kind: ir.Type = FLOAT) -> None:
        """Floats, or whole numbers as bytes or int32; the first ``left`` where that is given."""
        b, value = self.builder, v.value
        if kind is BYTE:
            value = b.trunc(value, BYTES)
        place, align = pointer(b, at, value.type), 1 if kind is BYTE else 4
        if left is None:
            b.store(value, place, align=align)
        else:
            name = f"llvm.masked.store.v{LANES}{_NAMES[kind]}.p0"
            called(b, name, ir.VoidType(), [value, place, ir.Constant(INT, align), first(b, left)])

    def masked(self, v: Vector, left: ir.Value | None) -> Vector:
        """0 behind the first ``left`` lanes."""
        return v if left is None else Vector(self.builder, first(self.builder, left)).where(v, 0.0)


def passage(count: int, generate: Callable[..., None], scalars: range = range(0)) -> Any:
    """A function for kernels of ``count`` arguments, written by ``generate(code, *arguments)``.

    Arguments are words; at the places ``scalars`` floats, which arrive in every lane of a vector.
    """

    def define(context: Any, *arguments: Any) -> Any:
        def lowered(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            code = Code(builder)
            generate(code, *(code.spread(v) if i in scalars else v for i, v in enumerate(values)))
            return context.get_dummy_value()

        return types.void(*(types.float32 if i in scalars else types.intp for i in range(count))), lowered

    names = ["context", *(f"a{i}" for i in range(count))]
    parameters = [Parameter(n, Parameter.POSITIONAL_OR_KEYWORD) for n in names]
    define.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return intrinsic(define)
