"""Running a single op on a backend, in memory that shows what it reads before writing and where it writes too far."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from cnnforge.backends.base import Backend
from cnnforge.ir.graph import Value
from tests.devices import create

#: Bytes on both sides of every array, and what they hold.
GUARD, PATTERN = 64, 0xA5
#: What outputs and workspace hold before a kernel runs: NaN as a float, nonsense as anything else.
POISON = 0xFF


class _Memory:
    """One guarded buffer on a device."""

    def __init__(self, backend: Backend, shape: tuple[int, ...], dtype: str) -> None:
        self.backend = backend
        nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        size = -(-nbytes // GUARD) * GUARD + 2 * GUARD
        buffer = backend.buffer(size)
        everything = backend.view(buffer, 0, (size,), "uint8")
        backend.put(np.full(size, PATTERN, np.uint8), everything)
        backend.put(np.full(nbytes, POISON, np.uint8), backend.view(buffer, GUARD, (nbytes,), "uint8"))
        self.array = backend.view(buffer, GUARD, shape, dtype)
        self._edges = (
            backend.view(buffer, 0, (GUARD,), "uint8"),
            backend.view(buffer, GUARD + nbytes, (size - GUARD - nbytes,), "uint8"),
        )

    def intact(self) -> bool:
        return all((self.backend.get(edge) == PATTERN).all() for edge in self._edges)


def run(
    op: str,
    ins: Sequence[Any],
    outs: Sequence[Any],
    attrs: dict[str, Any],
    backend: str = "numpy",
    twice: bool = True,
    way: str = "",
) -> list[Any]:
    """The outputs of ``op``.

    ins:  arrays
    outs: for each output its (shape, dtype), an array that it starts from, or the number of the input it overwrites
    way: by which of several ways; the backend's first guess where not given
    twice: run the bound kernel a second time where nothing is overwritten, and see that it gives the same
    """
    device = _device(backend)
    read = [_Memory(device, a.shape, str(a.dtype)) for a in ins]
    for memory, array in zip(read, ins, strict=True):
        device.put(array, memory.array)
    written = []
    for out in outs:
        if isinstance(out, int):
            written.append(read[out])
        elif isinstance(out, np.ndarray):
            written.append(_Memory(device, out.shape, str(out.dtype)))
            device.put(out, written[-1].array)
        else:
            written.append(_Memory(device, *out))
    values = [_value(a) for a in ins]
    results = [values[out] if isinstance(out, int) else _value(m.array) for out, m in zip(outs, written, strict=True)]
    ways = device.capabilities.ways(op, tuple(values), tuple(results), attrs)
    attrs = {**attrs, "way": way or ways[0]} if ways else attrs
    wanted = device.capabilities.scratch(op, tuple(values), tuple(results), attrs)
    space = [_Memory(device, s.shape, s.dtype) for s in wanted]

    step = device.kernel(op)(*(tuple(m.array for m in group) for group in (read, written, space)), **attrs)
    device.run([step])
    found = [device.get(m.array) for m in written]

    overwritten = {out for out in outs if isinstance(out, int)}
    for i, (memory, array) in enumerate(zip(read, ins, strict=True)):
        if i not in overwritten:
            _assert_same(device.get(memory.array), array, f"{op} changed its input {i}")
    assert all(m.intact() for m in (*read, *written, *space)), f"{op} wrote outside its memory"
    if twice and not overwritten and not any(isinstance(out, np.ndarray) for out in outs):
        device.run([step])
        for memory, first in zip(written, found, strict=True):
            _assert_same(device.get(memory.array), first, f"{op} gives something else the second time")
    return found


def _assert_same(found: Any, expected: Any, message: str) -> None:
    if found.dtype.kind == "V":  # bfloat16, whose nans NumPy does not find
        found, expected = found.view(np.uint16), expected.view(np.uint16)
    np.testing.assert_array_equal(found, expected, message)


@cache
def _device(name: str) -> Backend:
    return create(name)


def _value(array: Any) -> Value:
    return Value(0, "", tuple(array.shape), "act", str(array.dtype), True)
