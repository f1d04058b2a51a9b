"""What of the CPU decides the shape of kernels."""

from __future__ import annotations

from functools import cache

from llvmlite import binding


@cache
def features() -> dict[str, bool]:
    """LLVM's names of what this CPU can do."""
    return dict(binding.get_host_cpu_features())


#: Are there 32 registers of 16 floats (AVX-512), or about 16 of 8 floats and fewer?
WIDE = features().get("avx512f", False)
