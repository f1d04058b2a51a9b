"""What of the CPU decides the shape of kernels."""

from __future__ import annotations

from cnnforge.backends.numba.objects import cpu

#: Are there 32 registers of 16 floats (AVX-512), or about 16 of 8 floats and fewer?
WIDE = "+avx512f" in cpu()[1].split(",")
