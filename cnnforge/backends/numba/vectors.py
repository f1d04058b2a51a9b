"""Vectors of ``LANES`` neighbouring numbers as values of their own in kernels.

LLVM leaves loops over many arrays unvectorised, because it cannot see that none of them overlaps another, and a value
chosen by a condition is a branch to it. Here the vectors are stated, and LLVM only maps them to the registers that the
CPU has. A kernel is then ordinary arithmetic:

    x, y = lanes(a[0] + at), lanes(a[1] + at)
    put(a[2] + at, where(x > zero, x * factor + y, zero))

``Lanes`` are float32, ``Ints`` int32, ``Mask`` what a comparison gives. All addresses count bytes; what lies there need
not be aligned. ``some…(address, …, n)`` touch the first n lanes only (none where n < 1, all where n >= LANES), and the
others are 0; ``upto`` and ``put_upto`` do the same behind a branch, for loops that are whole vectors but for the last.
Products and sums may be contracted to multiply-adds, nothing else: what is not finite stays so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from cnnforge.backends.numba.language import Later, intrinsic, later, types
from cnnforge.backends.numba.rules import base

LANES = base.LANES
#: Bytes of a vector of floats.
WIDTH = 4 * LANES

WORD, FLOAT, INT, BYTE, BIT = ir.IntType(64), ir.FloatType(), ir.IntType(32), ir.IntType(8), ir.IntType(1)
VECTOR, INTS, BYTES, BITS = (ir.VectorType(t, LANES) for t in (FLOAT, INT, BYTE, BIT))
FLAGS = ("contract",)


signature = later("signature", "numba.core.typing.templates")


def _kind(name: str) -> Any:
    from cnnforge.backends.numba import vector_types

    return getattr(vector_types, name)


Lanes, Ints, Mask = Later(lambda: _kind("Lanes")), Later(lambda: _kind("Ints")), Later(lambda: _kind("Mask"))


def pointer(builder: ir.IRBuilder, address: ir.Value, kind: ir.Type) -> ir.Value:
    """``address`` as a pointer to ``kind``."""
    return builder.inttoptr(address, kind.as_pointer())


def spread(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """A vector whose lanes are all ``value``."""
    kind = ir.VectorType(value.type, LANES)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(INT, 0))
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(INTS, [0] * LANES))


def first(builder: ir.IRBuilder, n: ir.Value) -> ir.Value:
    """A mask of the first ``n`` lanes."""
    numbers = ir.Constant(ir.VectorType(WORD, LANES), list(range(LANES)))
    return builder.icmp_signed("<", numbers, spread(builder, n))


def called(builder: ir.IRBuilder, name: str, result: ir.Type, arguments: list[ir.Value]) -> ir.Value:
    """A call of one of LLVM's intrinsics."""
    kind = ir.FunctionType(result, [a.type for a in arguments])
    known = builder.module.globals.get(name)
    return builder.call(ir.Function(builder.module, kind, name) if known is None else known, arguments)


def _function(result: Any, kinds: tuple[Any, ...], generate: Callable[..., Any]) -> tuple[Any, Any]:
    def lowered(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        made = generate(builder, *arguments)
        return context.get_dummy_value() if made is None else made

    return signature(result, *kinds), lowered


def _stored(builder: ir.IRBuilder, value: ir.Value, at: ir.Value, kind: ir.Type, align: int) -> None:
    builder.store(value, pointer(builder, at, kind), align=align)


@intrinsic
def lanes(typing_context: Any, address: Any) -> Any:
    """The floats at ``address``."""
    return _function(Lanes, (types.intp,), lambda b, at: b.load(pointer(b, at, VECTOR), align=4))


@intrinsic
def some(typing_context: Any, address: Any, n: Any) -> Any:
    """The first ``n`` floats at ``address``."""
    return _function(Lanes, (types.intp, types.intp), some_floats)


def some_floats(builder: ir.IRBuilder, at: ir.Value, n: ir.Value) -> ir.Value:
    """LLVM code of ``some``."""
    name = f"llvm.masked.load.v{LANES}f32.p0"
    align, rest = ir.Constant(INT, 4), ir.Constant(VECTOR, None)
    return called(builder, name, VECTOR, [pointer(builder, at, VECTOR), align, first(builder, n), rest])


@intrinsic
def put(typing_context: Any, address: Any, value: Any) -> Any:
    """Write ``value`` to ``address``."""
    return _function(types.void, (types.intp, Lanes), lambda b, at, v: _stored(b, v, at, VECTOR, 4))


@intrinsic
def put_some(typing_context: Any, address: Any, value: Any, n: Any) -> Any:
    """Write the first ``n`` of ``value`` to ``address``."""
    return _function(types.void, (types.intp, Lanes, types.intp), put_some_floats)


def put_some_floats(builder: ir.IRBuilder, at: ir.Value, value: ir.Value, n: ir.Value) -> None:
    """LLVM code of ``put_some``."""
    name = f"llvm.masked.store.v{LANES}f32.p0"
    where = pointer(builder, at, VECTOR)
    called(builder, name, ir.VoidType(), [value, where, ir.Constant(INT, 4), first(builder, n)])


@intrinsic
def upto(typing_context: Any, address: Any, left: Any) -> Any:
    """The first ``left`` floats at ``address``, whole vectors without a mask."""

    def generate(b: ir.IRBuilder, at: ir.Value, left: ir.Value) -> ir.Value:
        with b.if_else(_whole_vector(b, left), likely=True) as (whole, part):
            with whole:
                all_of = b.load(pointer(b, at, VECTOR), align=4)
                from_whole = b.block
            with part:
                some_of = some_floats(b, at, left)
                from_part = b.block
        found = b.phi(VECTOR)
        found.add_incoming(all_of, from_whole)
        found.add_incoming(some_of, from_part)
        return found

    return _function(Lanes, (types.intp, types.intp), generate)


@intrinsic
def put_upto(typing_context: Any, address: Any, value: Any, left: Any) -> Any:
    """Write the first ``left`` of ``value`` to ``address``, whole vectors without a mask."""

    def generate(b: ir.IRBuilder, at: ir.Value, value: ir.Value, left: ir.Value) -> None:
        with b.if_else(_whole_vector(b, left), likely=True) as (whole, part):
            with whole:
                _stored(b, value, at, VECTOR, 4)
            with part:
                put_some_floats(b, at, value, left)

    return _function(types.void, (types.intp, Lanes, types.intp), generate)


def _whole_vector(builder: ir.IRBuilder, left: ir.Value) -> ir.Value:
    return builder.icmp_signed(">=", left, ir.Constant(WORD, LANES))


@intrinsic
def leading(typing_context: Any, n: Any) -> Any:
    """A mask of the first ``n`` lanes."""
    return _function(Mask, (types.intp,), first)


@intrinsic
def splat(typing_context: Any, value: Any) -> Any:
    """A float32 (or what converts to one) in every lane."""
    return _function(Lanes, (types.float32,), spread)


@intrinsic
def splat_at(typing_context: Any, address: Any) -> Any:
    """The float at ``address`` in every lane."""
    return _function(Lanes, (types.intp,), lambda b, at: spread(b, b.load(pointer(b, at, FLOAT), align=4)))


@intrinsic
def fma(typing_context: Any, x: Any, y: Any, z: Any) -> Any:
    """x y + z, rounded once."""
    return _function(Lanes, (Lanes,) * 3, lambda b, *xyz: called(b, f"llvm.fma.v{LANES}f32", VECTOR, list(xyz)))


@intrinsic
def root(typing_context: Any, x: Any) -> Any:
    """The square root."""
    return _function(Lanes, (Lanes,), lambda b, v: called(b, f"llvm.sqrt.v{LANES}f32", VECTOR, [v]))


@intrinsic
def magnitude(typing_context: Any, x: Any) -> Any:
    """|x|."""
    return _function(Lanes, (Lanes,), lambda b, v: called(b, f"llvm.fabs.v{LANES}f32", VECTOR, [v]))


@intrinsic
def larger(typing_context: Any, x: Any, y: Any) -> Any:
    """x where x > y, else y: y where either is nan."""
    return _function(Lanes, (Lanes, Lanes), lambda b, x, y: b.select(b.fcmp_ordered(">", x, y), x, y))


@intrinsic
def smaller(typing_context: Any, x: Any, y: Any) -> Any:
    """x where x < y, else y: y where either is nan."""
    return _function(Lanes, (Lanes, Lanes), lambda b, x, y: b.select(b.fcmp_ordered("<", x, y), x, y))


@intrinsic
def unordered(typing_context: Any, x: Any) -> Any:
    """A mask of the lanes that are nan."""
    return _function(Mask, (Lanes,), lambda b, v: b.fcmp_unordered("uno", v, v))


@intrinsic
def where(typing_context: Any, mask: Any, x: Any, y: Any) -> Any:
    """x where the mask is set, else y: both Lanes or both Ints."""
    return _function(x, (Mask, x, x), lambda b, m, x, y: b.select(m, x, y))


@intrinsic
def total(typing_context: Any, x: Any) -> Any:
    """The sum of the lanes, by halves: a float32."""
    return _function(types.float32, (Lanes,), lambda b, v: _folded(b, v, lambda p, q: b.fadd(p, q)))


@intrinsic
def largest(typing_context: Any, x: Any) -> Any:
    """The largest lane."""
    return _function(
        types.float32, (Lanes,), lambda b, v: _folded(b, v, lambda p, q: b.select(b.fcmp_ordered(">", p, q), p, q))
    )


def _folded(builder: ir.IRBuilder, v: ir.Value, join: Callable[[ir.Value, ir.Value], ir.Value]) -> ir.Value:
    """The upper half joined to the lower, until one is left."""
    half = LANES // 2
    while half:
        upper = [(i + half) % LANES for i in range(LANES)]
        v = join(v, builder.shuffle_vector(v, v, ir.Constant(INTS, upper)))
        half //= 2
    return builder.extract_element(v, ir.Constant(INT, 0))


# Whole numbers.


@intrinsic
def ints(typing_context: Any, address: Any) -> Any:
    """The int32 at ``address``."""
    return _function(Ints, (types.intp,), lambda b, at: b.load(pointer(b, at, INTS), align=4))


@intrinsic
def put_ints(typing_context: Any, address: Any, value: Any) -> Any:
    """Write int32 to ``address``."""
    return _function(types.void, (types.intp, Ints), lambda b, at, v: _stored(b, v, at, INTS, 4))


@intrinsic
def octets(typing_context: Any, address: Any) -> Any:
    """The bytes at ``address`` as Ints."""
    return _function(Ints, (types.intp,), lambda b, at: b.zext(b.load(pointer(b, at, BYTES), align=1), INTS))


@intrinsic
def some_octets(typing_context: Any, address: Any, n: Any) -> Any:
    """The first ``n`` bytes at ``address`` as Ints."""

    def generate(b: ir.IRBuilder, at: ir.Value, n: ir.Value) -> ir.Value:
        arguments = [pointer(b, at, BYTES), ir.Constant(INT, 1), first(b, n), ir.Constant(BYTES, None)]
        return b.zext(called(b, f"llvm.masked.load.v{LANES}i8.p0", BYTES, arguments), INTS)

    return _function(Ints, (types.intp, types.intp), generate)


@intrinsic
def put_octets(typing_context: Any, address: Any, value: Any) -> Any:
    """Write the low byte of every lane."""
    return _function(types.void, (types.intp, Ints), lambda b, at, v: _stored(b, b.trunc(v, BYTES), at, BYTES, 1))


@intrinsic
def put_some_octets(typing_context: Any, address: Any, value: Any, n: Any) -> Any:
    """Write the low byte of the first ``n`` lanes."""

    def generate(b: ir.IRBuilder, at: ir.Value, v: ir.Value, n: ir.Value) -> None:
        arguments = [b.trunc(v, BYTES), pointer(b, at, BYTES), ir.Constant(INT, 1), first(b, n)]
        called(b, f"llvm.masked.store.v{LANES}i8.p0", ir.VoidType(), arguments)

    return _function(types.void, (types.intp, Ints, types.intp), generate)


@intrinsic
def splat_int(typing_context: Any, value: Any) -> Any:
    """A whole number in every lane."""
    return _function(Ints, (types.int32,), spread)


@intrinsic
def lane_numbers(typing_context: Any) -> Any:
    """0, 1, 2, …"""
    return _function(Ints, (), lambda b: ir.Constant(INTS, list(range(LANES))))


@intrinsic
def high(typing_context: Any, x: Any, y: Any) -> Any:
    """The upper halves of the products of 32-bit words without a sign."""

    def generate(b: ir.IRBuilder, *xy: ir.Value) -> ir.Value:
        product = b.mul(*(b.zext(v, ir.VectorType(WORD, LANES)) for v in xy))
        return b.trunc(b.lshr(product, spread(b, ir.Constant(WORD, 32))), INTS)

    return _function(Ints, (Ints, Ints), generate)


@intrinsic
def whole(typing_context: Any, x: Any) -> Any:
    """Lanes cut to Ints, towards 0."""
    return _function(Ints, (Lanes,), lambda b, v: b.fptosi(v, INTS))


@intrinsic
def real(typing_context: Any, x: Any) -> Any:
    """Ints as Lanes."""
    return _function(Lanes, (Ints,), lambda b, v: b.sitofp(v, VECTOR))


@intrinsic
def bits(typing_context: Any, x: Any) -> Any:
    """The bits of Lanes as Ints."""
    return _function(Ints, (Lanes,), lambda b, v: b.bitcast(v, INTS))


@intrinsic
def from_bits(typing_context: Any, x: Any) -> Any:
    """Ints as the bits of Lanes."""
    return _function(Lanes, (Ints,), lambda b, v: b.bitcast(v, VECTOR))
