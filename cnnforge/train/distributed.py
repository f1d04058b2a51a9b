"""One training over many processes, by MPI: the only door to mpi4py.

A process is one of several only where an MPI launcher started it; anywhere else nothing of MPI is loaded. The first,
rank 0, reads the config, leads and writes; the others are told what to do (``cnnforge.train.follow``) and are silent.

How a job ends: what ends all ranks alike (a request to stop, divergence, a mistake that rank 0 found) they raise
together, and rank 0 says it. What happens to one alone ends the job: it says so, and aborts. One that is killed is the
launcher's business, which ends the others; where it does not, they wait for ``PATIENCE`` seconds at most.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from threading import Event, Thread
from time import monotonic, sleep
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from cnnforge.backends.together import Error, T
from cnnforge.errors import BackendError, CnnforgeError, ConfigError, InterruptedRun, TerminatedRun
from cnnforge.train.launcher import Launch, launched
from cnnforge.train.metrics import Sums
from cnnforge.train.ranks import ALONE, Alone, Ranks, shard

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

#: Seconds that a rank waits for the others in a step, unless this variable says otherwise.
PATIENCE, PATIENCE_VARIABLE = 600.0, "CNNFORGE_MPI_TIMEOUT"
#: Seconds in which the others must fail too, or the error is this rank's alone.
FAREWELL = 5.0
#: Seconds that launchers get to pass on what was said last: with the end of the job they drop it.
PASSING_ON = 0.5
#: Seconds between two looks for somebody who may take long.
GLANCE = 0.005


def led(lead: Callable[[Ranks], int]) -> int:
    """Let rank 0 ``lead`` a training, and the others follow it. Returns the exit code."""
    with job() as ranks:
        if ranks.rank == 0:
            return lead(ranks)
        from cnnforge.train.follow import follow

        follow(ranks)
        return 0


def job() -> Job | Alone:
    """The job that this process belongs to. Raises BackendError where a launcher started it and MPI does not work."""
    launch = launched()
    if launch is None:
        return ALONE
    patience = _patience(launch)
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # the second where there is no MPI library to load
        raise _of_first(launch, _no_mpi(launch, error)) from None
    found = Job(MPI.COMM_WORLD, patience)
    if found.size == 1 and launch.size is None:
        return ALONE
    if found.size != (launch.size or found.size):
        raise _of_first(launch, _another_mpi(launch, found.size, MPI.Get_library_version()))
    return found


def _patience(launch: Launch) -> float:
    text = os.environ.get(PATIENCE_VARIABLE) or f"{PATIENCE:.0f}"
    if text.isdecimal() and int(text):
        return float(text)
    error = ConfigError(
        f"{PATIENCE_VARIABLE}={text} is no time", where="the environment", why="it is a number of seconds above 0",
        fix=f"{PATIENCE_VARIABLE}={PATIENCE:.0f}, or leave it out",
    )  # fmt: skip
    raise _of_first(launch, error)


def _of_first(launch: Launch, error: CnnforgeError) -> BaseException:
    """The error on rank 0; on others, which have the same, only its exit code."""
    return error if launch.rank == 0 else SystemExit(error.exit_code)


def _no_mpi(launch: Launch, error: Exception) -> BackendError:
    missing = isinstance(error, ModuleNotFoundError)
    count = f"{launch.size} processes" if launch.size else "several processes"
    return BackendError(
        "mpi4py is not installed" if missing else "mpi4py does not work",
        where=f"an MPI launcher started {count} of this command",
        why="they train one net together through it"
        if missing
        else (str(error).strip() or repr(error)).splitlines()[0],
        fix="pip install 'cnnforge[mpi]', or start the command without mpiexec",
    )


def _another_mpi(launch: Launch, size: int, library: str) -> BackendError:
    return BackendError(
        f"the launcher started {launch.size or 'several'} processes, and each sees {size}",
        where="mpiexec",
        why=f"mpi4py talks to another MPI than the launcher: {library.split(chr(10))[0].strip()[:60]}",
        fix="the mpiexec that comes with that MPI (of pip's mpich it lies beside python)",
    )


class Job:
    """A ``Ranks`` of several processes. Leave it by the ``with`` statement, however that is left."""

    def __init__(self, comm: Intracomm, patience: float) -> None:
        from mpi4py import MPI
        from numpy import zeros

        self._mpi, self._comm, self._farewell = MPI, comm, comm.Dup()
        self.rank, self.size = comm.rank, comm.size
        self.idle = False
        self._agreed: BaseException | None = None
        self._told = self._training = False
        self._sums, self._code = zeros(3), zeros(1, "int64")
        self.host, self._threads = self._on_this_host()
        self._watch = _Watch(self, patience)

    def __enter__(self) -> Job:
        self._watch.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._watch.over.set()
        if error is None:
            return
        code = _exit_code(error)
        if error is not self._agreed:
            if self.rank == 0 and not self._told:  # the others wait for their orders
                self._tell(None, code)
            elif not self._all_leave():
                self._leave_alone(error, code)
        if self.rank != 0:
            raise SystemExit(code) from None

    def threads(self, wanted: int | None) -> int | None:
        return wanted or self._threads

    def shard(self, n: int, unit: int = 1) -> range:
        return shard(n, self.rank, self.size, unit)

    def take(self, shard: range) -> int:
        self.idle = not shard
        return max(1, len(shard))

    def sum(self, array: Any) -> None:
        self._watch.wait(self._comm.Allreduce, self._mpi.IN_PLACE, array)

    def every(self, value: T) -> list[T]:
        found: list[T] = self._comm.allgather(value)
        return found

    def wait(self, call: Callable[..., T], *arguments: object) -> T:
        return self._watch.wait(call, *arguments)

    def total(self, part: Sums) -> Sums:
        self._sums[:] = part.loss, part.hits, part.samples
        self.sum(self._sums)
        return Sums(float(self._sums[0]), float(self._sums[1]), int(self._sums[2]))

    def collect(self, own: Any, into: Any) -> None:
        if self.idle:
            own[...] = 0
        self._watch.wait(self._comm.Allgather, own, into)

    def first(self, value: T) -> T:
        """Raises on all other ranks where rank 0 fails instead."""
        return self._tell(value, 0)

    def _tell(self, value: T, code: int) -> T:
        self._meet()
        self._told = True
        code, value = self._comm.bcast((code, value))
        if code and self.rank != 0:
            self._agreed = SystemExit(code)
            raise self._agreed
        return value

    def _meet(self) -> None:
        """Wait for all ranks without keeping a core busy: one of them may have a lot to do, before the first step."""

        def waiting() -> None:
            request = self._comm.Ibarrier()
            while not request.Test():
                sleep(GLANCE)

        if self._training:
            self._watch.wait(waiting)
        else:
            waiting()

    def earliest(self, found: T | None, place: int) -> T | None:
        every = [pair for pair in self._comm.allgather((place, found)) if pair[1] is not None]
        return min(every, key=lambda pair: pair[0])[1] if every else None

    def differing(self, value: str) -> list[int]:
        every = self.every(value)
        return [rank for rank, theirs in enumerate(every) if theirs != every[0]]

    def align(self, arrays: Mapping[str, Any]) -> None:
        for name in sorted(arrays):
            self._watch.wait(self._comm.Bcast, arrays[name])

    def in_order(self, work: Callable[[], T]) -> T:
        if self.rank != 0:
            self.first(None)
            return work()
        try:
            done = work()
        except CnnforgeError as error:
            self._tell(None, error.exit_code)
            raise self.together(error) from None
        self.first(None)
        return done

    def stopping(self, reason: InterruptedRun | None) -> InterruptedRun | None:
        self._training = True
        self._code[0] = reason.exit_code if reason is not None else 0
        self._watch.wait(self._comm.Allreduce, self._mpi.IN_PLACE, self._code, self._mpi.MAX)
        code = int(self._code[0])
        if not code:
            return None
        kind, what = (
            (TerminatedRun, "terminated") if code == TerminatedRun.exit_code else (InterruptedRun, "interrupted")
        )
        return self.together(reason or kind(what, why="another process of the job was asked to stop"))

    def together(self, error: Error) -> Error:
        self._agreed = error
        return error

    def _on_this_host(self) -> tuple[tuple[int, int], int]:
        """``Together.host``, and threads for this process."""
        here = self._comm.Split_type(self._mpi.COMM_TYPE_SHARED)
        every = here.allgather(_cores())
        place = here.rank, here.size
        here.Free()
        return place, share_of_cores(_cores(), every)

    def _all_leave(self) -> bool:
        """Do all others fail too?"""
        request, until = self._farewell.Ibarrier(), monotonic() + FAREWELL
        while not (met := request.Test()) and monotonic() < until:
            sleep(GLANCE)
        return bool(met)

    def _leave_alone(self, error: BaseException, code: int) -> None:
        """Say what happened here, and end the job: the others wait for this rank."""
        known = isinstance(error, CnnforgeError | KeyboardInterrupt)
        said = str(error) or "interrupted" if known else "".join(traceback.format_exception(error)).rstrip()
        self.abort(f"process {self.rank} of {self.size} failed, which ends the others\n{said}", code)

    def abort(self, said: str, code: int) -> NoReturn:
        """Say something, then end all processes."""
        print(said, file=sys.stderr, flush=True)
        sleep(PASSING_ON)
        self._comm.Abort(code)
        os._exit(code)  # MPICH comes back, and there is nothing left to say


class _Watch(Thread):
    """Ends the job where a rank waits too long for the others: one of them is gone or stuck."""

    def __init__(self, ranks: Job, patience: float) -> None:
        super().__init__(name="cnnforge-ranks", daemon=True)
        self._ranks, self._patience, self._since = ranks, patience, 0.0
        self.over = Event()

    def wait(self, call: Callable[..., T], *arguments: object) -> T:
        """A call that returns when all ranks have made it."""
        self._since = monotonic()
        try:
            return call(*arguments)
        finally:
            self._since = 0.0

    def run(self) -> None:
        while not self.over.wait(min(1.0, self._patience / 4)):
            since = self._since
            if since and monotonic() - since > self._patience:
                self._ranks.abort(str(self._error()), 1)

    def _error(self) -> BackendError:
        return BackendError(
            f"process {self._ranks.rank} of {self._ranks.size} has waited {self._patience:g} s for the others",
            where="between two steps",
            why="one of them is gone, stuck, or far behind",
            fix=f"cnnforge resume goes on from the last checkpoint; {PATIENCE_VARIABLE}=SECONDS waits longer",
        )


def share_of_cores(mine: Collection[int], every: Sequence[Collection[int]]) -> int:
    """Threads for a rank that may use the cores ``mine``, of which ``every`` rank on its host may use some: at least 1.

    Launchers either give all cores to all ranks, or to each its own: a core counts for its users in equal parts.
    """
    parts = sum(1 / sum(core in cores for cores in every) for core in mine)
    return max(1, int(parts + 1e-6))


def _cores() -> set[int]:
    """The cores that this process may use."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _exit_code(error: BaseException) -> int:
    if isinstance(error, CnnforgeError):
        return error.exit_code
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    return InterruptedRun.exit_code if isinstance(error, KeyboardInterrupt) else 1
