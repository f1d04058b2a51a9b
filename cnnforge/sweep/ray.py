"""Trials on the workers of a Ray cluster: on each an actor, which has a process like those of the driver's own host.

The sweep's folder must be on a disk that driver and workers share, under one path: runs are written there. The process
is killed with its actor, and goes on from its last checkpoint wherever it is begun again.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic, sleep
from typing import Any

from cnnforge.errors import ConfigError
from cnnforge.spec.sweep import Ray
from cnnforge.sweep.trials import Trial
from cnnforge.sweep.workers import STOPPING, Process

#: Seconds after which an actor answers although its process says nothing.
SILENCE = 10.0
#: Seconds that network disks take to show one host what another has written.
SHOWING = 60.0
#: Seconds without a place in the cluster after which a person should know.
PLACING = 60.0
#: Actors in a row that die before their processes are ready, after which none will live.
STILLBORN = 3
#: What a worker's last words on a trial may be.
_LAST = ("done", "pruned", "failed", "interrupted", "died")


class Host:
    """What runs as an actor on a cluster's worker: hands on words between the driver and a process.

    folder: the sweep's;  ours: the driver's version of cnnforge
    """

    def __init__(self, folder: str, ours: str) -> None:
        self._events: SimpleQueue[tuple[Process, Mapping[str, Any]]] = SimpleQueue()
        self._host = socket.gethostname()
        self._unfit: dict[str, str] = {}
        if not _appears(Path(folder)):
            self._unfit = self._blind(folder)
        elif (own := version("cnnforge")) != ours:
            self._unfit = {"what": f"the Ray worker {self._host} has cnnforge {own}", "why": f"the driver has {ours}",
                           "fix": "the same version on every host"}  # fmt: skip
        else:
            self._log = (Path(folder) / f"workers-{self._host}.log").open("ab")
            self._process = Process(self._events, self._log)

    def next(self) -> list[Mapping[str, Any]]:
        """What the process has said since; waits for a word, but not for long."""
        if self._unfit:
            return [{"kind": "unfit", **self._unfit}]
        try:
            said = [self._events.get(timeout=SILENCE)[1]]
            while not self._events.empty():
                said.append(self._events.get()[1])
        except Empty:
            return []
        return said

    def order(self, folders: Sequence[str]) -> None:
        """Train the runs of a trial."""
        for folder in folders:
            if not self._unfit and not _appears(Path(folder) / "config.yaml"):
                self._unfit = self._blind(folder)
        if not self._unfit:
            self._process.tell({"runs": list(folders)})

    def tell(self, about: Mapping[str, Any]) -> None:
        """A reply to what the process said."""
        self._process.tell(about)

    def stop(self) -> None:
        """Let the run write a checkpoint and end."""
        self._process.stop()

    def _blind(self, folder: str) -> dict[str, str]:
        return {
            "what": f"the Ray worker {self._host} does not see {folder}",
            "why": "runs are written there, by all hosts",
            "fix": "run.dir on a disk that all share, under one path",
        }


def _appears(path: Path) -> bool:
    until = monotonic() + SHOWING
    while not path.exists():
        if monotonic() > until:
            return False
        sleep(0.5)
    return True


class Actor:
    """An actor, as the driver sees it. ``placed``: has its process said that it is there?"""

    def __init__(self, pool: Actors, handle: Any) -> None:
        self.trial: Trial | None = None
        self.stopping = self.placed = False
        self.made = monotonic()
        self._pool, self._handle = pool, handle
        self.said = handle.next.remote()

    def order(self, trial: Trial, folders: Sequence[Path]) -> None:
        """Train the runs of a trial."""
        self.trial = trial
        self._handle.order.remote([str(folder.resolve()) for folder in folders])

    def tell(self, about: Mapping[str, Any]) -> None:
        """A reply to what it said; an actor that is dead says so by itself."""
        self._handle.tell.remote(dict(about))

    def stop(self) -> None:
        """Let its run write a checkpoint and end. One that still waits for a place has none."""
        self.stopping = True
        if self.placed:
            self._handle.stop.remote()
        else:
            self._pool.dismiss(self)

    def listen(self) -> None:
        """Ask for what it says next."""
        self.said = self._handle.next.remote()

    def kill(self) -> None:
        """It is no more."""
        self._pool.ray.kill(self._handle)


class Actors:
    """As many actors as trials at a time; a cluster that scales itself grows until all have a place."""

    def __init__(self, count: int, spec: Ray, folder: Path) -> None:
        self.count, self._spec, self._folder = count, spec, folder.resolve()
        self.all: list[Actor] = []
        self._heard: deque[tuple[Actor, Mapping[str, Any]]] = deque()
        self._stillborn = 0

    def __enter__(self) -> Actors:
        self.ray, self._began = _connected(self._spec.address)
        self._make = self.ray.remote(Host).options(
            num_cpus=self._spec.cpus_per_trial, num_gpus=self._spec.gpus_per_trial, max_concurrency=4
        )
        return self

    def __exit__(self, *_: object) -> None:
        for actor in self.busy:
            actor.stop()
        until = monotonic() + STOPPING
        while self.busy and monotonic() < until:
            if (heard := self.next(0.5)) is not None and heard[1]["kind"] in _LAST:
                heard[0].trial = None
        for actor in self.all:
            actor.kill()
        if self._began:
            self.ray.shutdown()

    @property
    def busy(self) -> list[Actor]:
        """Those that work on a trial, or wait for a place to do so."""
        waiting = [actor for actor, _ in self._heard if actor not in self.all and actor.trial is not None]
        return [actor for actor in self.all if actor.trial is not None] + waiting

    def idle(self) -> Actor | None:
        """One that has nothing to do, made where there may be more; None where all are busy."""
        for actor in self.all:
            if actor.trial is None:
                return actor
        if len(self.all) < self.count:
            self.all.append(Actor(self, self._make.remote(str(self._folder), version("cnnforge"))))
            return self.all[-1]
        return None

    def next(self, timeout: float) -> tuple[Actor, Mapping[str, Any]] | None:
        """What an actor says next; None where none says anything for ``timeout`` seconds.

        Raises ConfigError where a worker of the cluster cannot train what this driver orders.
        """
        if not self._heard:
            self._listen(timeout)
        if not self._heard:
            return None
        actor, said = self._heard.popleft()
        if said["kind"] == "unfit":
            raise ConfigError(said["what"], where="sweep.executor: ray", why=said["why"], fix=said["fix"])
        if said["kind"] == "ready":
            actor.placed, self._stillborn = True, 0
        return actor, said

    def dismiss(self, actor: Actor) -> None:
        """It has not begun and shall not."""
        actor.kill()
        self.all.remove(actor)
        self._heard.append((actor, {"kind": "interrupted"}))

    def _listen(self, timeout: float) -> None:
        by_word = {actor.said: actor for actor in self.all}
        if not by_word:
            sleep(timeout)
            return
        heard, _ = self.ray.wait(list(by_word), num_returns=1, timeout=timeout)
        for word in heard:
            actor = by_word[word]
            try:
                said = self.ray.get(word)
            except self.ray.exceptions.RayError as error:
                self._died(actor, error)
                continue
            self._heard.extend((actor, one) for one in said)
            if any(one["kind"] == "died" for one in said):
                self.all.remove(actor)
                actor.kill()
            else:
                actor.listen()
        self._note_waiting()

    def _died(self, actor: Actor, error: Exception) -> None:
        """Its process, its actor's or its node's is gone."""
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        self.all.remove(actor)
        actor.kill()  # one that cannot be reached may live on, over a trial that others take over
        self._heard.append((actor, {"kind": "died", "why": f"its Ray actor: {why}"}))
        self._stillborn += not actor.placed
        if self._stillborn > STILLBORN:
            raise ConfigError(
                "no worker of the Ray cluster can begin", where="sweep.executor: ray",
                why=str(error).strip().splitlines()[-1], fix="cnnforge must be installed on every host of the cluster",
            )  # fmt: skip

    def _note_waiting(self) -> None:
        waiting = [actor for actor in self.all if not actor.placed and monotonic() - actor.made > PLACING]
        if waiting:
            text = "the Ray cluster has no place yet for all trials at a time: sweep.parallel, sweep.ray.cpus_per_trial"
            self._heard.append((waiting[0], {"kind": "note", "text": text}))
            for actor in waiting:
                actor.made = monotonic()


def _connected(address: str) -> tuple[Any, bool]:
    """(the module, connected to the cluster; whether it was not before)."""
    # Read when the module is loaded.
    for name, value in {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # of actors that are dead, which say so by themselves
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise ConfigError(
            "executor: ray needs Ray", where="sweep.executor", why="it is not installed",
            fix="pip install 'cnnforge[ray]', or sweep.executor=local",
        ) from None  # fmt: skip
    if ray.is_initialized():
        return ray, False
    main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        _reached(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    except Exception as error:  # whatever the network brings forth
        raise ConfigError(
            f"there is no Ray cluster at {address!r}", where="sweep.ray.address",
            why=(str(error).strip().splitlines() or [type(error).__name__])[0],
            fix="ray start --head, HOST:PORT of one that runs, or sweep.ray.address=local",
        ) from None  # fmt: skip
    finally:
        if main:  # Ray's would end the driver without a word
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return ray, True


def _reached(address: str) -> None:
    """Raises OSError where nobody listens there, which Ray takes minutes to find."""
    host, mark, port = address.rpartition(":")
    if mark and port.isdigit():
        socket.create_connection((host.removeprefix("ray://"), int(port)), timeout=10.0).close()
