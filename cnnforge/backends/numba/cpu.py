"""The CPU that kernels are compiled and shaped for: this one, or what Numba's own variables name in its place."""

from __future__ import annotations

import os
from functools import cache

from llvmlite import binding


@cache
def target() -> tuple[str, str]:
    """(LLVM's name, its features as ``+avx2,-avx512f``)."""
    name, features = os.environ.get("NUMBA_CPU_NAME"), os.environ.get("NUMBA_CPU_FEATURES")
    if features is None:
        features = "" if (name or "").lower() == "generic" else binding.get_host_cpu_features().flatten()
    return name or binding.get_host_cpu_name(), features


@cache
def features() -> frozenset[str]:
    """LLVM's names of what this CPU can do."""
    return frozenset(feature[1:] for feature in target()[1].split(",") if feature.startswith("+"))


#: Are there 32 registers of 16 floats (AVX-512), or about 16 of 8 floats and fewer?
WIDE = "avx512f" in features()
