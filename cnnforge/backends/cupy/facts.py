"""What measured times depend on here: the card and the libraries. Imports neither CuPy nor cuDNN."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from cnnforge.backends.cupy.driver import driver, release

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
    """What the first card that CUDA shows calls itself, and the driver's CUDA version; empty where there is none."""
    there = driver()
    if there is None or not there.cards:
        return ""
    return f"{there.cards[0].name}, CUDA {release(there.release)}"


def _version(names: tuple[str, ...]) -> str:
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return ""
