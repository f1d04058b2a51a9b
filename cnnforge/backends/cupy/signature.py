"""Kernels' source text, and what their parameters say of the arguments."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cnnforge.backends.cupy.tail import NOTHING, Function, Tail, declared

FOLDER = Path(__file__).parent / "source"

#: CUDA's word for a dtype that T can be; the last two are structs of ``source/base.cuh``.
REAL = {"float32": "float", "float64": "double", "bfloat16": "bf16", "float16": "f16"}
#: Those that are only kept in memory: P, which is computed in, is float for them.
HALVES = ("bfloat16", "float16")
#: dtypes that an argument of a type may have: the first is what a number is passed as.
DTYPES: Mapping[str, tuple[str, ...]] = {
    "float": ("float32",), "double": ("float64",), "int": ("int32",), "i64": ("int64",), "u32": ("uint32",),
    "u64": ("uint64",), "u8": ("uint8", "bool"),
}  # fmt: skip

#: Arrays that may be None, which is passed as a null pointer.
NULLABLE = frozenset({"device"})

_COMMENT = re.compile(r"//[^\n]*")
_INCLUDE = re.compile(r'^#include "(\w+)\.cuh"$', re.MULTILINE)
#: A macro that stands for something plain, such as parameters that several kernels share.
_MACRO = re.compile(r"^#define (\w+) (.*)$", re.MULTILINE)
_WORD = re.compile(r"\w+")
_KERNEL = re.compile(r"__global__\s+void\s+(?:__launch_bounds__\(\w+\)\s+)?(\w+)\s*\(([^)]*)\)")
_PARAMETER = re.compile(r"^(?:const\s+)?(\w+)\s*(\*?)\s*(?:__restrict__\s+)?(\w+)$")


@dataclass(frozen=True, slots=True)
class Parameter:
    """``const T* x``: type T, an array, named x."""

    type: str
    array: bool
    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """A kernel with checked arguments.

    dtype: what T is; of a kernel that has arrays of P alone, what P is
    arguments: (dtype, value); for an array the dtype is empty
    """

    dtype: str
    arguments: tuple[tuple[str, Any], ...]


def wide(dtype: str) -> str:
    """What is computed in, summed in and kept of parameters where activations are of ``dtype``: P's dtype."""
    return "float32" if dtype in HALVES else dtype


def sources() -> tuple[str, ...]:
    """The names of all files of kernels."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.cuh") if kernels(path.stem)))


@cache
def text(source: str, dtype: str, functions: tuple[Function, ...] = ()) -> str:
    """The CUDA C++ of a file of kernels, complete with what it includes, for T = ``dtype``.

    functions: of the tail that its kernels end with
    """
    included: set[str] = set()

    def read(name: str) -> str:
        if name in included:
            return ""
        included.add(name)
        return _INCLUDE.sub(lambda found: read(found[1]), (FOLDER / f"{name}.cuh").read_text(encoding="utf-8"))

    tail = f"{read('functions') if functions else ''}\n{declared(functions)}"
    return f"#define T {REAL[dtype]}\n#define P {REAL[wide(dtype)]}\n{read('base')}\n{tail}\n{read(source)}"


@cache
def kernels(source: str, functions: tuple[Function, ...] = ()) -> Mapping[str, tuple[Parameter, ...]]:
    """The kernels of a file and their parameters, a tail's among them."""
    found, whole = {}, text(source, "float32", functions)
    macros = {name: value for name, value in _MACRO.findall(whole) if name not in ("T", "P")}
    for name, listed in _KERNEL.findall(_COMMENT.sub("", whole)):
        parameters = []
        for words in _WORD.sub(lambda found: macros.get(found[0], found[0]), listed).split(","):
            match = _PARAMETER.match(words.strip())
            if match is None or match[1] not in ("T", "P", *DTYPES):
                raise TypeError(f"{source}.cuh: {name}: what is '{words.strip()}'?")
            parameters.append(Parameter(match[1], bool(match[2]), match[3]))
        found[name] = tuple(parameters)
    return found


def _real(parameters: Sequence[Parameter], args: Sequence[Any]) -> str:
    """The dtype of the first array that is given for T, or of the first for P where there is none."""
    for word in ("T", "P"):
        for parameter, value in zip(parameters, args, strict=True):
            if parameter.type == word and parameter.array and hasattr(value, "dtype"):
                return str(value.dtype)
    return "float32"


def call(source: str, kernel: str, args: Sequence[Any], tail: Tail = NOTHING) -> Call:
    """Arguments, and a tail's, checked against the kernel's parameters. Raises TypeError where they do not fit."""
    parameters, args = kernels(source, tail.functions)[kernel], (*args, *tail.args)
    if len(parameters) != len(args):
        raise TypeError(f"{kernel} takes {', '.join(p.name for p in parameters)}, got {len(args)} arguments")
    real = _real(parameters, args)
    types = {**DTYPES, "T": (real,), "P": (wide(real),)}
    arguments: list[tuple[str, Any]] = []
    for parameter, value in zip(parameters, args, strict=True):
        if value is None and parameter.array and parameter.name in NULLABLE:
            arguments.append(("uint64", 0))
            continue
        allowed = types[parameter.type]
        if parameter.array != hasattr(value, "dtype"):
            raise TypeError(f"{kernel}: {parameter.name} is {'an array' if parameter.array else 'a number'}")
        if parameter.array and str(value.dtype) not in allowed:
            raise TypeError(f"{kernel}: {parameter.name} is {value.dtype}, not {' or '.join(allowed)}")
        if not parameter.array and allowed[0] in HALVES:
            raise TypeError(
                f"{kernel}: {parameter.name} is a number, which {allowed[0]} is not computed in: P in place of T"
            )
        arguments.append(("" if parameter.array else allowed[0], value))
    return Call(real, tuple(arguments))
