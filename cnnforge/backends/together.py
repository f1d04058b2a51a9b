"""The processes that train one net together, as a backend sees them. The training knows who they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from cnnforge.errors import CnnforgeError

T = TypeVar("T")
Error = TypeVar("Error", bound=CnnforgeError)


class Together(Protocol):
    """All make the same calls in the same order, each with its own. Arrays are NumPy's: they go by way of the host."""

    @property
    def rank(self) -> int:
        """This process's number."""

    @property
    def size(self) -> int:
        """How many there are."""

    @property
    def host(self) -> tuple[int, int]:
        """This process's number among those of its host, and how many these are."""

    @property
    def idle(self) -> bool:
        """Does it compute for company, so that what it gives counts nothing?"""

    def sum(self, array: Any) -> None:
        """Add ``array`` up over the processes, in place."""

    def collect(self, own: Any, into: Any) -> None:
        """Everybody's ``own`` (K,) into ``into`` (size, K), within a kernel; zeros of one that is idle."""

    def align(self, arrays: Mapping[str, Any]) -> None:
        """Take over what the first process has in these arrays."""

    def every(self, value: T) -> list[T]:
        """Everybody's value, the first process's first."""

    def wait(self, call: Callable[..., T], *arguments: object) -> T:
        """A call that returns only when all have done their part. One that takes too long ends them all."""

    def together(self, error: Error) -> Error:
        """``error``, which everybody is about to raise: nobody has to be told of it."""


class Single:
    """One process, which is all there is."""

    rank, size, host, idle = 0, 1, (0, 1), False

    def sum(self, array: Any) -> None:
        """Nobody has anything to add."""

    def collect(self, own: Any, into: Any) -> None:
        into[0] = own

    def align(self, arrays: Mapping[str, Any]) -> None:
        """There is nobody to agree with."""

    def every(self, value: T) -> list[T]:
        return [value]

    def wait(self, call: Callable[..., T], *arguments: object) -> T:
        return call(*arguments)

    def together(self, error: Error) -> Error:
        return error


SINGLE = Single()
