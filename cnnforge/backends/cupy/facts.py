"""What measured times depend on here: the card and the libraries. Imports neither CuPy nor cuDNN."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

#: The driver's library.
DRIVERS = ("libcuda.so.1", "nvcuda.dll")
#: Packages of which at most one of each kind is installed.
PACKAGES: Mapping[str, tuple[str, ...]] = {
    "cupy": ("cupy-cuda12x", "cupy-cuda13x", "cupy"),
    "cudnn": ("nvidia-cudnn-cu12", "nvidia-cudnn-cu13"),
    "cudnn frontend": ("nvidia-cudnn-frontend",),
    "cublas": ("nvidia-cublas-cu12", "nvidia-cublas"),
}


def facts() -> dict[str, str]:
    """Names and versions; empty where something is not there."""
    return {"card": card(), **{what: _version(names) for what, names in PACKAGES.items()}}


def card() -> str:
    """What the first card that CUDA shows calls itself, and the driver's CUDA version; empty without a driver."""
    for library in DRIVERS:
        try:
            cuda: Any = ctypes.CDLL(library)
        except OSError:
            continue
        release, device, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(100)
        if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), 0):
            return ""
        cuda.cuDriverGetVersion(ctypes.byref(release))
        cuda.cuDeviceGetName(name, len(name), device)
        return f"{name.value.decode(errors='replace')}, CUDA {release.value // 1000}.{release.value % 1000 // 10}"
    return ""


def _version(names: tuple[str, ...]) -> str:
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return ""
