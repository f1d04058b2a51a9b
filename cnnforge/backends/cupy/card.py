"""One of a machine's cards, and the one place where CUDA's errors become ours."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from cnnforge.backends.cupy.failures import LibraryError, failed
from cnnforge.errors import BackendError


class Card:
    """``with`` it: what is asked for goes to this card, and what CUDA answers instead becomes a BackendError.

    Everything that calls CUDA is inside of one, so that no such error ends in a traceback.
    """

    def __init__(self, cupy: Any, number: int) -> None:
        """``cupy``: the module"""
        cuda = cupy.cuda
        self._device = cuda.Device(number)
        self._kinds: tuple[type[BaseException], ...] = (
            cuda.runtime.CUDARuntimeError, cuda.driver.CUDADriverError, cuda.memory.OutOfMemoryError,
            cuda.compiler.CompileException, cuda.nvrtc.NVRTCError, LibraryError,
        )  # fmt: skip
        self.number, self.name = number, "a GPU"
        with self:  # asked once: after an error there is no answer
            about = cuda.runtime.getDeviceProperties(number)
        self.name, self.uuid = about["name"].decode(), bytes(about["uuid"])

    def __enter__(self) -> None:
        try:
            self._device.__enter__()
        except self._kinds as error:
            raise self._failed(error) from None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            self._device.__exit__(kind, error, tb)
        except self._kinds as later:  # the same, once more
            error = error or later
        if isinstance(error, self._kinds):
            raise self._failed(error) from None

    def _failed(self, error: BaseException) -> BackendError:
        return failed(f"{self.name} (device {self.number})", error)
