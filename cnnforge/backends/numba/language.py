"""What kernels are written with: Numba's names, found when a kernel is compiled.

Importing Numba takes a fifth of a second and compiling with it 80 MB, and a process whose kernels are all kept needs
neither. So the names here stand for Numba's until a kernel is compiled; files of kernels take them from here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dis import get_instructions
from functools import cached_property
from importlib import import_module
from types import CellType, CodeType, FunctionType
from typing import Any

#: Sums may be taken in another order and products contracted; nan and inf stay what they are, because a loss that is
#: not finite has to be seen.
FAST_MATH = {"reassoc", "contract", "arcp", "nsz"}


class Later:
    """A stand-in for what ``find`` returns, which is asked for at the first use."""

    def __init__(self, find: Callable[[], Any], function: FunctionType | None = None) -> None:
        """``function``: the Python function behind it, where there is one."""
        self._find, self.function = find, function

    @cached_property
    def found(self) -> Any:
        return self._find()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.found(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.found, name)


def later(name: str, module: str = "numba") -> Any:
    """A stand-in for what ``module`` calls ``name``."""
    return Later(lambda: getattr(import_module(module), name))


carray, types = later("carray"), later("types")
float32, float64 = later("float32"), later("float64")
int8, int16, int32, int64 = (later(f"int{bits}") for bits in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (later(f"uint{bits}") for bits in (8, 16, 32, 64))


def intrinsic(function: Any) -> Any:
    """A piece of a kernel written as LLVM code: ``numba.extending.intrinsic``."""
    return Later(lambda: import_module("numba.extending").intrinsic(resolved(function)), function)


def resolved(function: FunctionType) -> FunctionType:
    """``function`` with Numba's own objects in place of stand-ins, as Numba has to see it."""
    names = dict(function.__globals__)
    for name in _names(function.__code__):
        if isinstance(names.get(name), Later):
            names[name] = names[name].found
    contents = (cell.cell_contents for cell in function.__closure__ or ())
    closure = tuple(CellType(c.found if isinstance(c, Later) else c) for c in contents)
    made = FunctionType(function.__code__, names, function.__name__, function.__defaults__, closure or None)
    made.__qualname__, made.__kwdefaults__ = function.__qualname__, function.__kwdefaults__
    made.__dict__.update(function.__dict__)
    return made


def _names(code: CodeType) -> Iterator[str]:
    yield from (i.argval for i in get_instructions(code) if i.opname == "LOAD_GLOBAL")
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
