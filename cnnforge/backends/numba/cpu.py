"""What of the CPU decides the shape of kernels."""

from __future__ import annotations

from functools import cache

import numba
from llvmlite import binding


@cache
def features() -> dict[str, bool]:
    """LLVM's names of what the CPU can do that Numba compiles for: this one, or what its settings name."""
    asked = numba.config.CPU_FEATURES
    if asked is None:
        return dict(binding.get_host_cpu_features())
    return {name[1:]: name[0] == "+" for name in asked.split(",") if name}


#: Are there 32 registers of 16 floats (AVX-512), or about 16 of 8 floats and fewer?
WIDE = features().get("avx512f", False)
