"""The one signature of every compiled kernel, and how it reaches its arrays.

``kernel(block, lo, hi, thread)``: the address of an argument block of int64 (addresses of arrays, sizes, and the
addresses of constants), the part ``lo <= i < hi`` of the kernel's range that this call does, and which thread does it.
One signature lets one driver run every kernel from a table, and sizes that come at run time let each kernel be compiled
once per installation.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from cnnforge.backends.numba.cache import compiled

_SIGNATURE = types.void(types.intp, types.intp, types.intp, types.intp)
#: Sums may be taken in another order and products contracted; nan and inf stay what they are, because a loss that is
#: not finite has to be seen.
FAST_MATH = {"reassoc", "contract", "arcp", "nsz"}


class Kernel:
    """A Python function of the uniform signature, compiled when its address is first asked for."""

    def __init__(self, function: Callable[[int, int, int, int], None]) -> None:
        self._function = function

    @cached_property
    def _compiled(self) -> Any:
        def make(cache: bool) -> Any:
            return numba.cfunc(_SIGNATURE, cache=cache, fastmath=FAST_MATH, error_model="numpy")(self._function)

        return compiled(make)

    @property
    def address(self) -> int:
        return int(self._compiled.address)


def part(function: Any) -> Any:
    """A piece of kernels, compiled into them."""
    return numba.njit(fastmath=FAST_MATH, error_model="numpy")(function)


def _pointer(bits: Callable[[], ir.Type], kind: Any) -> Any:
    @intrinsic
    def cast(typing_context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], bits().as_pointer())

        return types.CPointer(kind)(types.intp), generate

    return cast


#: In a kernel: ``floats(address)`` is a pointer, ``carray(floats(address), (n, c))`` an array.
floats = _pointer(ir.FloatType, types.float32)
doubles = _pointer(ir.DoubleType, types.float64)
longs = _pointer(lambda: ir.IntType(64), types.int64)
ints = _pointer(lambda: ir.IntType(32), types.int32)
bytes_at = _pointer(lambda: ir.IntType(8), types.uint8)


@intrinsic
def call(typing_context: Any, address: Any, block: Any, lo: Any, hi: Any, thread: Any) -> Any:
    """Call the kernel at ``address``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)
        pointer = ir.FunctionType(ir.VoidType(), [word] * 4).as_pointer()
        builder.call(builder.inttoptr(arguments[0], pointer), arguments[1:])
        return context.get_dummy_value()

    return types.void(*[types.intp] * 5), generate
