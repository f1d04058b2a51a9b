"""Where a sweep's trials run, as its driver sees it: workers that are given a trial each and say how it goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from cnnforge.spec import SweepSpec
from cnnforge.sweep.trials import Trial


class Worker(Protocol):
    """One that trains one trial after another, in the words of ``worker.py``.

    trial: what it works on;  stopping: has it been asked to stop?
    """

    trial: Trial | None
    stopping: bool

    def order(self, trial: Trial, folders: Sequence[Path]) -> None:
        """Train the runs of a trial."""

    def tell(self, about: Mapping[str, Any]) -> None:
        """A reply to what it said."""

    def stop(self) -> None:
        """Let its run write a checkpoint and end."""


class Pool(Protocol):
    """As many workers as trials at a time. Left, they are gone."""

    count: int

    @property
    def busy(self) -> Sequence[Worker]:
        """Those that work on a trial."""

    def idle(self) -> Worker | None:
        """One that has nothing to do, started where there may be more; None where all are busy."""

    def next(self, timeout: float) -> tuple[Worker, Mapping[str, Any]] | None:
        """What a worker says next; None where none says anything for ``timeout`` seconds.

        Beside what ``worker.py`` says: ``{"kind": "died", "why": …}``, and this worker is no more.
        """


def pool_of(spec: SweepSpec, folder: Path) -> AbstractContextManager[Pool]:
    """The pool that ``sweep.executor`` names. Raises ConfigError where that is not installed."""
    if spec.executor == "ray":
        from cnnforge.sweep.ray import Actors

        return Actors(spec.parallel, spec.ray, folder)
    from cnnforge.sweep.workers import Processes

    return Processes(spec.parallel, folder / "workers.log")
