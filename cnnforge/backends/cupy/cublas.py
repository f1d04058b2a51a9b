"""cuBLAS's matrix products on a stream, called by address: CuPy's own calls cannot be captured into a graph."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cnnforge.backends.cupy.failures import LibraryError

#: Of one handle; given by us, because cuBLAS would allocate, which a capture forbids. NVIDIA's advice for Hopper.
WORKSPACE = 32 << 20
_PLAIN, _TURNED = 0, 1
#: What its statuses mean.
_STATUS = {
    1: "not initialized", 3: "allocation failed", 7: "invalid value", 8: "architecture mismatch", 11: "mapping error",
    13: "execution failed", 14: "internal error", 15: "not supported",
}  # fmt: skip
#: cublasMath_t: half types are added up in float32, the parts of a sum as well. TF32 is asked for call by call.
_EXACT_SUMS = 16
#: cudaDataType of arrays, and cublasComputeType_t.
_TYPES: Mapping[str, int] = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}
_SINGLE, _DOUBLE, _TF32 = 68, 70, 77
_DEFAULT_ALGORITHM = -1


@dataclass(frozen=True, slots=True)
class Gemm:
    """Arguments of ``cublasGemmEx``, which sees columns one after another: every row-major matrix is its transpose.

    So it is asked for out^T = b^T a^T.  first, second: are b and a turned?
    """

    first: int
    second: int
    m: int
    n: int
    k: int
    b_step: int
    a_step: int
    out_step: int


def arguments(a: tuple[int, int], b: tuple[int, int], out: tuple[int, int], turn_a: bool, turn_b: bool) -> Gemm:
    """Shapes as they lie in memory: a (M, K), turned (K, M); b (K, U), turned (U, K); out (M, U)."""
    return Gemm(
        _TURNED if turn_b else _PLAIN, _TURNED if turn_a else _PLAIN, out[1], out[0], a[0 if turn_a else 1],
        b[1], a[1], out[1],
    )  # fmt: skip


class Cublas:
    """A handle on one stream. Two products of the same shapes add up in the same order."""

    def __init__(self, path: str, stream: int, workspace: int) -> None:
        """``path``: of the library;  ``stream``: its address;  ``workspace``: WORKSPACE bytes on the device"""
        self._library, self._handle = ctypes.CDLL(path), ctypes.c_void_p()
        self._checked(self._library.cublasCreate_v2(ctypes.byref(self._handle)))
        self._checked(self._library.cublasSetStream_v2(self._handle, ctypes.c_void_p(stream)))
        self._checked(
            self._library.cublasSetWorkspace_v2(self._handle, ctypes.c_void_p(workspace), ctypes.c_size_t(WORKSPACE))
        )
        self._checked(self._library.cublasSetMathMode(self._handle, _EXACT_SUMS))

    def gemm(self, dtype: str, tf32: bool, how: Gemm, a: int, b: int, out: int) -> Callable[[], None]:
        """A call with these addresses, to be made as often as wanted.

        dtype: of all three matrices;  tf32: may float32's mantissas be cut to 10 bits before they are multiplied?
        """
        function, kind = self._library.cublasGemmEx, _TYPES[dtype]
        double = dtype == "float64"
        computed = _DOUBLE if double else _TF32 if tf32 and dtype == "float32" else _SINGLE
        one, zero = (ctypes.c_double(n) if double else ctypes.c_float(n) for n in (1, 0))
        call = (
            self._handle, how.first, how.second, how.m, how.n, how.k,
            ctypes.byref(one), ctypes.c_void_p(b), kind, how.b_step, ctypes.c_void_p(a), kind, how.a_step,
            ctypes.byref(zero), ctypes.c_void_p(out), kind, how.out_step, computed, _DEFAULT_ALGORITHM,
        )  # fmt: skip

        def run() -> None:
            self._checked(function(*call))

        return run

    @staticmethod
    def fits(how: Gemm) -> bool:
        """Its sizes are C ints."""
        return max(how.m, how.n, how.k, how.a_step, how.b_step, how.out_step) < 2**31

    @staticmethod
    def _checked(status: int) -> None:
        if status:
            raise LibraryError(f"cuBLAS: {status} ({_STATUS.get(status, 'unknown')})")
