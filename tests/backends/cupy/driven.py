"""NVIDIA's driver for tests, with cards that are not there."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any


class Library:
    """NVIDIA's driver, which fills what it is given a reference to.  cards: (name, bytes, (major, minor))"""

    def __init__(self, release: int, cards: Sequence[tuple[str, int, tuple[int, int]]], broken: int = 0) -> None:
        self.release, self.cards, self.broken = release, cards, broken

    def cuDriverGetVersion(self, into: Any) -> int:  # noqa: N802
        into._obj.value = self.release
        return 0

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return self.broken

    def cuDeviceGetCount(self, into: Any) -> int:  # noqa: N802
        into._obj.value = len(self.cards)
        return 0

    def cuDeviceGet(self, into: Any, number: int) -> int:  # noqa: N802
        into._obj.value = 40 + number
        return 0

    def cuDeviceGetName(self, into: Any, size: int, device: ctypes.c_int) -> int:  # noqa: N802
        into.value = self.cards[device.value - 40][0].encode()[: size - 1]
        return 0

    def cuDeviceTotalMem_v2(self, into: Any, device: ctypes.c_int) -> int:  # noqa: N802
        into._obj.value = self.cards[device.value - 40][1]
        return 0

    def cuDeviceGetAttribute(self, into: Any, which: int, device: ctypes.c_int) -> int:  # noqa: N802
        into._obj.value = self.cards[device.value - 40][2][{75: 0, 76: 1}[which]]
        return 0


TWO = (("NVIDIA H100 80GB HBM3", 80 << 30, (9, 0)), ("NVIDIA T4", 15 << 30, (7, 5)))


def loads(library: Library | None) -> Callable[[str], Library]:
    def load(name: str) -> Library:
        if library is None or name != "libcuda.so.1":
            raise OSError(name)
        return library

    return load
