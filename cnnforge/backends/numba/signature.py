"""The one signature of every compiled kernel, and how it reaches its arrays.

``kernel(block, lo, hi, thread)``: the address of an argument block of int64 (addresses of arrays, sizes, and the
addresses of constants), the part ``lo <= i < hi`` of the kernel's range that this call does, and which thread does it.
One signature lets one driver run every kernel from a table, and sizes that come at run time let each kernel be compiled
once per installation.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from importlib import import_module
from types import FunctionType
from typing import Any, ClassVar
from weakref import WeakSet

from llvmlite import ir

from cnnforge.backends.numba import cache
from cnnforge.backends.numba.language import FAST_MATH, Later, intrinsic, resolved, types
from cnnforge.backends.numba.objects import loaded


class Kernel:
    """A Python function, compiled where the cache does not have it when it is first needed."""

    #: All there are, for a process that compiles for another.
    made: ClassVar[WeakSet[Kernel]] = WeakSet()

    def __init__(self, function: Callable[..., None], words: int = 4) -> None:
        """``words``: how many arguments it takes; four is the uniform signature."""
        assert isinstance(function, FunctionType)
        self.function, self.words = function, words
        self._address = 0
        self.made.add(self)

    @cached_property
    def name(self) -> str:
        return cache.name_of(self.function)

    @property
    def ready(self) -> bool:
        """Whether it has an address without compilation."""
        if not self._address and (code := cache.kept(self.name)) is not None:
            self._address = loaded(code, self.name)
        return bool(self._address)

    def compile(self) -> bytes:
        """Object code, compiled here and now."""
        from cnnforge.backends.numba.compilation import object_code

        return object_code(self.function, self.words, self.name)

    def take(self, code: bytes) -> None:
        """Use ``code`` and keep it."""
        cache.keep(self.name, code)
        self._address = loaded(code, self.name)

    @property
    def address(self) -> int:
        if not self.ready:
            self.take(self.compile())
        return self._address


def callee(words: int) -> Callable[[Callable[..., None]], Kernel]:
    """A function of so many words that kernels call by its address: compiled once for all of them."""
    return lambda function: Kernel(function, words)


def part(function: Any) -> Any:
    """A piece of kernels, compiled into them."""
    # Nothing but kernels calls it, so it needs no entry for Python or C: a fifth of its compilation.
    options = {"fastmath": FAST_MATH, "error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return Later(lambda: import_module("numba").njit(**options)(resolved(function)), function)


def _pointer(bits: Callable[[], ir.Type], kind: str) -> Any:
    @intrinsic
    def cast(typing_context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], bits().as_pointer())

        return types.CPointer(getattr(types, kind))(types.intp), generate

    return cast


#: In a kernel: ``floats(address)`` is a pointer, ``carray(floats(address), (n, c))`` an array.
floats = _pointer(ir.FloatType, "float32")
doubles = _pointer(ir.DoubleType, "float64")
longs = _pointer(lambda: ir.IntType(64), "int64")
ints = _pointer(lambda: ir.IntType(32), "int32")
bytes_at = _pointer(lambda: ir.IntType(8), "uint8")


@intrinsic
def call(typing_context: Any, address: Any, block: Any, lo: Any, hi: Any, thread: Any) -> Any:
    """Call the kernel at ``address``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)
        pointer = ir.FunctionType(ir.VoidType(), [word] * 4).as_pointer()
        builder.call(builder.inttoptr(arguments[0], pointer), arguments[1:])
        return context.get_dummy_value()

    return types.void(*[types.intp] * 5), generate
