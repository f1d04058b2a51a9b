"""Pickles of plain data, read without running anything.

A pickle is a program that may call any function. Here its instructions are only followed as far as they build
dictionaries, lists, tuples, numbers, texts, bytes, and NumPy arrays of bytes; at the first that asks for more, reading
stops and says what it was.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass, field
from typing import Any

import numpy as np


class RefusedError(Exception):
    """The pickle asks for something else than plain data, or is no whole pickle."""


@dataclass(frozen=True)
class _Named:
    """A function or class that the pickle names. It is never looked up."""

    name: str


@dataclass
class _Array:
    """An array whose state comes later."""

    made: Any = None


class _Mark:
    pass


#: What plain data name: how NumPy spells an array of bytes, and Python 3 the bytes of Python 2.
_RECONSTRUCT = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")
_NDARRAY, _DTYPE, _ENCODE = "numpy ndarray", "numpy dtype", "_codecs encode"
_NAMES = frozenset({*_RECONSTRUCT, _NDARRAY, _DTYPE, _ENCODE})
_BYTES = frozenset({"u1", "|u1", "uint8"})
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_VALUES = frozenset({
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES",
    "SHORT_BINBYTES", "BINBYTES8", "INT", "LONG", "UNICODE",
})  # fmt: skip
#: Texts of Python 2, which are bytes.
_OLD_TEXTS = frozenset({"SHORT_BINSTRING", "BINSTRING", "STRING"})


@dataclass
class _Machine:
    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def since_mark(self) -> list[Any]:
        for at in range(len(self.stack) - 1, -1, -1):
            if isinstance(self.stack[at], _Mark):
                items = self.stack[at + 1 :]
                del self.stack[at:]
                return items
        raise RefusedError("a mark is missing")


def loads(content: bytes) -> Any:
    """The plain data that a pickle holds. Raises RefusedError."""
    machine = _Machine()
    try:
        for code, argument, _ in pickletools.genops(content):
            if code.name == "STOP":
                return _plain(machine.stack.pop())
            _step(machine, code.name, argument)
    except RefusedError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, UnicodeError) as error:
        raise RefusedError(f"not a whole pickle: {error}") from None
    raise RefusedError("not a whole pickle: it does not end")


def _step(m: _Machine, name: str, argument: Any) -> None:
    stack = m.stack
    if name in ("PROTO", "FRAME"):
        return
    if name in _VALUES:
        stack.append(argument)
    elif name in _OLD_TEXTS:
        stack.append(argument.encode("latin-1"))
    elif name in _CONSTANTS:
        stack.append(_CONSTANTS[name])
    elif name in _EMPTY:
        stack.append(_EMPTY[name]())
    elif name == "MARK":
        stack.append(_Mark())
    elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
        m.memo[argument] = stack[-1]
    elif name == "MEMOIZE":
        m.memo[len(m.memo)] = stack[-1]
    elif name in ("BINGET", "LONG_BINGET", "GET"):
        stack.append(m.memo[argument])
    elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
        count = int(name[-1])
        stack[-count:] = [tuple(stack[-count:])]
    elif name == "TUPLE":
        stack.append(tuple(m.since_mark()))
    elif name == "APPEND":
        value = stack.pop()
        _as(list, stack[-1]).append(value)
    elif name == "APPENDS":
        values = m.since_mark()
        _as(list, stack[-1]).extend(values)
    elif name == "SETITEM":
        value, key = stack.pop(), stack.pop()
        _as(dict, stack[-1])[key] = value
    elif name == "SETITEMS":
        items = m.since_mark()
        _as(dict, stack[-1]).update(zip(items[::2], items[1::2], strict=True))
    elif name == "GLOBAL":
        stack.append(_named(argument))
    elif name == "STACK_GLOBAL":
        what, module = stack.pop(), stack.pop()
        stack.append(_named(f"{module} {what}"))
    elif name == "REDUCE":
        arguments, function = stack.pop(), stack.pop()
        stack.append(_called(function, arguments))
    elif name == "BUILD":
        state = stack.pop()
        _built(stack[-1], state)
    else:
        raise RefusedError(f"it uses {name}, which plain data do not need")


def _as(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise RefusedError(f"a {kind.__name__} is wanted where it has a {type(value).__name__}")
    return value


def _named(name: str) -> _Named:
    if name not in _NAMES:
        raise RefusedError(f"it names {name.replace(' ', '.')}, which is no plain data")
    return _Named(name)


def _called(function: Any, arguments: Any) -> Any:
    name = function.name if isinstance(function, _Named) else ""
    if name in _RECONSTRUCT and arguments and arguments[0] == _Named(_NDARRAY):
        return _Array()
    if name == _DTYPE and arguments and _text(arguments[0]) in _BYTES:
        return _Named(_DTYPE)
    if name == _ENCODE and len(arguments) == 2 and arguments[1] in ("latin1", b"latin1"):
        return _as(str, arguments[0]).encode("latin-1")
    raise RefusedError(f"it calls {name.replace(' ', '.') or function!r} with {arguments!r:.60}")


def _built(thing: Any, state: Any) -> None:
    if thing == _Named(_DTYPE):
        return  # byte order and the like, of which bytes have none
    if not isinstance(thing, _Array):
        raise RefusedError(f"it changes the state of a {type(thing).__name__}")
    _, shape, dtype, by_columns, data = state
    if dtype != _Named(_DTYPE) or type(data) is not bytes:
        raise RefusedError("an array is not of bytes")
    thing.made = np.frombuffer(data, np.uint8).reshape(shape, order="F" if by_columns else "C")


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _plain(value: Any) -> Any:
    """The finished data: arrays in place of what stood for them."""
    if isinstance(value, _Array):
        return value.made
    if isinstance(value, _Named | _Mark):
        raise RefusedError("it ends with something that is no data")
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(inner) for inner in value)
    return value
