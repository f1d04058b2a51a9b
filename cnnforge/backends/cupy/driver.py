"""What NVIDIA's driver says of itself and of its cards. It is asked itself, so that CuPy need not be loaded."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: The driver's library on Linux and on Windows.
_LIBRARIES = ("libcuda.so.1", "nvcuda.dll")
#: Numbers of what ``cuDeviceGetAttribute`` is asked for.
_MAJOR, _MINOR = 75, 76


@dataclass(frozen=True)
class Card:
    """A GPU: its number, as ``trainer.device`` takes it, its memory in bytes, its compute capability."""

    number: int
    name: str
    memory: int
    capability: tuple[int, int]


@dataclass(frozen=True)
class Driver:
    """NVIDIA's: the newest CUDA that it knows, e.g. 12090, and the cards that it shows this process."""

    release: int
    cards: tuple[Card, ...]


def driver(load: Callable[[str], Any] = ctypes.CDLL) -> Driver | None:
    """What the NVIDIA driver says; None where there is none."""
    for library in _LIBRARIES:
        try:
            cuda = load(library)
        except OSError:
            continue
        release, count = ctypes.c_int(), ctypes.c_int()
        cuda.cuDriverGetVersion(ctypes.byref(release))
        if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)):
            return Driver(release.value, ())
        return Driver(release.value, tuple(_card(cuda, number) for number in range(count.value)))
    return None


def _card(cuda: Any, number: int) -> Card:
    device, memory, name = ctypes.c_int(), ctypes.c_size_t(), ctypes.create_string_buffer(100)
    major, minor = ctypes.c_int(), ctypes.c_int()
    cuda.cuDeviceGet(ctypes.byref(device), number)
    cuda.cuDeviceGetName(name, 100, device)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    cuda.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    return Card(number, name.value.decode(errors="replace"), memory.value, (major.value, minor.value))


def release(number: int) -> str:
    """12090 -> 12.9."""
    return f"{number // 1000}.{number % 1000 // 10}"
