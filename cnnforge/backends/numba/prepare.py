"""Compiling many kernels at once, in processes of their own: within one process Numba compiles one after another.

Each process is asked for one kernel after another over its standard input and answers with object code; only the one
that asks writes to the cache. They are started anew, never forked, and end with the one that asks, whatever ends that.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib import import_module
from random import random
from subprocess import DEVNULL, PIPE, Popen

from cnnforge.backends.base import Report
from cnnforge.backends.numba import cache
from cnnforge.backends.numba.rules.base import THREADS
from cnnforge.backends.numba.signature import Kernel

#: Kernels for which it pays to start a process, which takes 0.6 seconds until it compiles; a kernel takes 0.2.
WORTH = 4

_SERVE = "from cnnforge.backends.numba.prepare import serve; serve()"


def prepare(kernels: Iterable[Kernel], report: Report) -> None:
    """Compile those that the cache does not have. ``report(done, in all)`` before the first and after each of them.

    Long ones first, so that none is left alone at the end. Processes that begin together go through them in different
    orders, and each leaves out what another has done.
    """
    missing = [kernel for kernel in dict.fromkeys(kernels) if not kernel.ready]
    if not missing:
        return
    report(0, len(missing))
    missing.sort(key=lambda kernel: (-(len(kernel.function.__code__.co_code) // 1000), random()))
    processes = min(THREADS, len(missing) // WORTH)
    for done, kernel in enumerate(_compiled(missing, processes) if processes > 1 else missing, 1):
        assert kernel.address
        report(done, len(missing))


def _compiled(kernels: list[Kernel], processes: int) -> Iterator[Kernel]:
    """Each of ``kernels`` as soon as it has an address, or is left to be compiled here."""
    from concurrent.futures import ThreadPoolExecutor, as_completed
    from queue import SimpleQueue

    workers = _started(processes)
    if not workers:
        yield from kernels
        return
    idle: SimpleQueue[_Worker] = SimpleQueue()
    for worker in workers:
        idle.put(worker)

    def ask(kernel: Kernel) -> tuple[Kernel, bytes]:
        worker = idle.get()
        try:
            return kernel, b"" if cache.kept(kernel.name) else worker.compiled(kernel)
        finally:
            idle.put(worker)

    pool = ThreadPoolExecutor(len(workers))
    try:
        for answer in as_completed([pool.submit(ask, kernel) for kernel in kernels]):
            kernel, code = answer.result()
            if code:
                kernel.take(code)
            yield kernel
    finally:
        for worker in workers:
            worker.process.kill()
        pool.shutdown(cancel_futures=True)
        for worker in workers:
            worker.close()


def _started(processes: int) -> list[_Worker]:
    if "python" not in os.path.basename(sys.executable or "").lower():
        return []  # Python is inside another program
    try:
        return [_Worker() for _ in range(processes)]
    except OSError:
        return []


class _Worker:
    """A process that compiles."""

    def __init__(self) -> None:
        path = os.pathsep.join(os.path.abspath(place) for place in sys.path)
        self.process = Popen(
            [sys.executable, "-P", "-W", "ignore", "-c", _SERVE], stdin=PIPE, stdout=PIPE, stderr=DEVNULL,
            env=os.environ | {"PYTHONPATH": path}, start_new_session=True,
        )  # fmt: skip

    def compiled(self, kernel: Kernel) -> bytes:
        """Its object code; nothing where the process is gone, does not find the kernel or cannot compile it."""
        asked, answer = self.process.stdin, self.process.stdout
        assert asked is not None
        assert answer is not None
        try:
            asked.write(f"{kernel.function.__module__} {kernel.name}\n".encode())
            asked.flush()
            return answer.read(int.from_bytes(answer.read(8), "little"))
        except OSError:
            return b""

    def close(self) -> None:
        """Let go of a process that was killed."""
        with suppress(OSError), self.process:  # what was asked for last may not have been sent
            pass


def serve() -> None:
    """Be such a process."""
    gc.set_threshold(200_000)  # Numba makes millions of objects: a tenth of the time
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        for line in sys.stdin:
            code = _asked(*line.split())
            answers.write(len(code).to_bytes(8, "little") + code)
            answers.flush()


def _asked(module: str, name: str) -> bytes:
    try:
        import_module(module)
        return next((kernel.compile() for kernel in tuple(Kernel.made) if kernel.name == name), b"")
    except Exception:  # it is the process that asked which has to say what is wrong
        return b""
