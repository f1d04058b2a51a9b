"""BLAS from compiled code: sgemm by address, so that a kernel on one thread calls it without Python.

The library is the one that NumPy brought (OpenBLAS, 64-bit integers), else the one behind SciPy. Both are
called by the Fortran interface, where every argument is an address; a library with 32-bit integers reads the lower half
of ours, which on little-endian machines is the same number. While steps run, the backend keeps BLAS to one thread. The
address comes as an argument of the kernel, because it differs from process to process and compiled kernels are kept.
"""

from __future__ import annotations

import ctypes
from functools import cache
from importlib import import_module
from typing import Any

from llvmlite import ir

from cnnforge.backends.numba.language import intrinsic, types

#: Names of sgemm in NumPy's own library, newest first.
_NAMES = ("scipy_sgemm_64_", "sgemm_64_")


@cache
def sgemm_address() -> int:
    """Where sgemm lies in this process."""
    library = ctypes.CDLL(import_module("numpy._core._multiarray_umath").__file__)
    for name in _NAMES:
        if hasattr(library, name):
            return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0
    return _scipy_address()


def _scipy_address() -> int:
    from scipy.linalg import cython_blas

    capsule = cython_blas.__pyx_capi__["sgemm"]
    name, pointer = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return int(pointer(capsule, name(capsule)))


@intrinsic
def sgemm(
    typing_context: Any, address: Any, ta: Any, tb: Any, m: Any, n: Any, k: Any, a: Any, lda: Any, b: Any, ldb: Any,
    beta: Any, c: Any, ldc: Any,
) -> Any:  # fmt: skip
    """C = A B + beta C for matrices that lie row by row.

    address: of sgemm;  ta, tb: 1 where A (m, k), B (k, n) lie transposed;  a, b, c: addresses of float32
    lda, ldb, ldc: elements from one row to the next, as the matrix lies;  beta: 0 or 1, an integer
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word, single, letter = ir.IntType(64), ir.FloatType(), ir.IntType(8)
        where, ta, tb, m, n, k, a, lda, b, ldb, beta, c, ldc = arguments
        with builder.goto_entry_block():
            room = {name: builder.alloca(word) for name in ("m", "n", "k", "lda", "ldb", "ldc")}
            scalars = [builder.alloca(single) for _ in range(2)]
            letters = [builder.alloca(letter) for _ in range(2)]

        def kept(value: Any, at: Any) -> Any:
            builder.store(value, at)
            return builder.ptrtoint(at, word)

        def order(flag: Any, at: Any) -> Any:
            transposed = builder.icmp_signed("!=", flag, word(0))
            return kept(builder.select(transposed, letter(ord("T")), letter(ord("N"))), at)

        number = {
            name: kept(value, room[name])
            for name, value in (("m", m), ("n", n), ("k", k), ("lda", lda), ("ldb", ldb), ("ldc", ldc))
        }
        one = kept(single(1.0), scalars[0])
        keep = kept(builder.sitofp(beta, single), scalars[1])
        # Fortran reads columns: C^T = B^T A^T. The two last arguments are the lengths of the letters.
        call = [
            order(tb, letters[0]), order(ta, letters[1]), number["n"], number["m"], number["k"], one,
            b, number["ldb"], a, number["lda"], keep, c, number["ldc"], word(1), word(1),
        ]  # fmt: skip
        pointer = ir.FunctionType(ir.VoidType(), [word] * len(call)).as_pointer()
        builder.call(builder.inttoptr(where, pointer), call)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 13), generate
