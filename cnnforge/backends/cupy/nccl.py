"""NCCL's collectives on a stream, called by address as cuBLAS is.

A call returns when its work is queued, behind what the stream has to do and before what is queued next; nothing is
copied to the host. They stay out of captured graphs. A process that is gone or late shows where the device is next
waited for, which is done under ``Together.wait``.

Order of sums: all processes get the same bits, and for one number of processes, one array size and one machine NCCL
goes the same way every time. NVLS, which adds up in the NVLink switch, does not (NVIDIA/nccl#1497), so it is off unless
the environment says otherwise.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence

from cnnforge.backends.cupy.failures import LibraryError
from cnnforge.backends.together import Together

NVLS = "NCCL_NVLS_ENABLE"
_SUM, _BYTES = 0, 1
_DTYPES = {"float32": 7, "float64": 8}


class _Id(ctypes.Structure):
    """What processes find each other by; it is passed by value."""

    _fields_ = (("internal", ctypes.c_char * 128),)


class Nccl:
    """This process among others. Addresses are on the device; nothing is waited for once it is made.

    The communicator ends with the process: to end it earlier, all would have to be alive.
    """

    def __init__(self, path: str, together: Together, stream: int) -> None:
        """``path``: of the library;  ``stream``: its address. All processes are here at once. Raises LibraryError."""
        os.environ.setdefault(NVLS, "0")
        self._library = ctypes.CDLL(path)
        for name in ("ncclGetErrorString", "ncclGetLastError"):
            getattr(self._library, name).restype = ctypes.c_char_p
        self._rank, self._stream, self._comm = together.rank, ctypes.c_void_p(stream), ctypes.c_void_p()
        own, status = _Id(), 0
        if not together.rank:
            status = self._library.ncclGetUniqueId(ctypes.byref(own))
        # Told even where it failed: the others wait for it.
        status, found = together.every((status, bytes(own)))[0]
        self._checked(status)
        self._checked(
            together.wait(
                self._library.ncclCommInitRank, ctypes.byref(self._comm), together.size, _Id.from_buffer_copy(found),
                together.rank,
            )
        )  # fmt: skip

    def sum(self, address: int, size: int, dtype: str) -> None:
        """Add ``size`` numbers up over the processes, in place."""
        here = ctypes.c_void_p(address)
        self._checked(
            self._library.ncclAllReduce(
                here, here, ctypes.c_size_t(size), _DTYPES[dtype], _SUM, self._comm, self._stream
            )
        )

    def gather(self, address: int, nbytes: int) -> None:
        """Rows of ``nbytes``, one of each process one after another: each has its own there, and gets the others'."""
        own = ctypes.c_void_p(address + self._rank * nbytes)
        self._checked(
            self._library.ncclAllGather(
                own, ctypes.c_void_p(address), ctypes.c_size_t(nbytes), _BYTES, self._comm, self._stream
            )
        )

    def align(self, blocks: Sequence[tuple[int, int]]) -> None:
        """What the first process has in these blocks, (address, bytes), to all."""
        self._checked(self._library.ncclGroupStart())
        for address, nbytes in blocks:
            here = ctypes.c_void_p(address)
            self._checked(
                self._library.ncclBroadcast(here, here, ctypes.c_size_t(nbytes), _BYTES, 0, self._comm, self._stream)
            )
        self._checked(self._library.ncclGroupEnd())

    def _checked(self, status: int) -> None:
        if status:
            said = self._library.ncclGetErrorString(status).decode(errors="replace")
            more = (self._library.ncclGetLastError(self._comm) or b"").decode(errors="replace").strip()
            raise LibraryError(f"NCCL: {status} ({said})" + (f": {more.splitlines()[-1]}" if more else ""))
