"""The threads that kernels run on, and how they meet.

Python starts the threads; from then on they stay in compiled code and wait there for rounds. In a round all of them
walk one table of kernels, each does its part of every kernel's range, and they meet before the next. The thread that
asks for the round is one of them.

Waiting is a loop: first on the processor's pause, then giving the core to whoever wants it; between rounds it ends in
the system's sleep. Where two threads have two cores a meeting takes 0.1 to 0.2 microseconds; where they have to share
one, because other processes take the rest, 4. (GNU OpenMP, as Numba uses it: 1.3 and, with all cores taken, 80 to
20,000; Numba's own threads: 150.) Who has waited a millisecond for a round sleeps, and is awake again after 50 to 100
microseconds; before that a round begins in 2.

There is one team for each number of threads. A process that is forked has none of its parent's threads and makes its
own.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from cnnforge.backends.numba.language import intrinsic, types
from cnnforge.backends.numba.signature import Kernel, call, longs, part

#: Columns of a table: address of the kernel, address of its arguments, how many parts its range has.
COLUMNS = 3

# Words of a team's memory. What is written while others wait has a cache line for itself.
_ROUND = 0  # how many rounds were begun
_SLEEPING = 8  # how many threads sleep
_MET = 16  # how many times a thread came to a meeting
_TABLE, _ROWS, _THREADS, _BEFORE = range(24, 28)  # of this round; what _MET was before it
_YIELD, _LOCK, _UNLOCK, _SLEEP, _WAKE = range(28, 33)  # addresses of the system's functions
_PATIENCE = 33  # turns of the loop that waits for a round before it sleeps
_MUTEX, _CONDITION = 40, 56
_WORDS = 72

#: Turns of a waiting loop on ``pause``, a microsecond; turns of half a microsecond each until a thread sleeps.
_PAUSES, PATIENCE = 20, 2000

_NATIVE = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 4)


@intrinsic
def _load(typing_context: Any, address: Any) -> Any:
    """The word at ``address``, as the other threads left it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(builder.inttoptr(arguments[0], ir.IntType(64).as_pointer()), "seq_cst", 8)

    return types.intp(types.intp), generate


@intrinsic
def _add(typing_context: Any, address: Any, n: Any) -> Any:
    """Add to the word at ``address``: the others see it, and all that was written before."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", place, arguments[1], "seq_cst")

    return types.intp(types.intp, types.intp), generate


@intrinsic
def _pause(typing_context: Any) -> Any:
    """Tell the processor that this is a waiting loop, where it can be told."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        architecture = builder.module.triple.partition("-")[0]
        nothing, number = ir.VoidType(), ir.IntType(32)
        if architecture in ("x86_64", "i686"):
            kind = ir.FunctionType(nothing, [])
            builder.call(builder.module.declare_intrinsic("llvm.x86.sse2.pause", (), kind), [])
        elif architecture in ("aarch64", "arm64"):
            kind = ir.FunctionType(nothing, [number])
            builder.call(builder.module.declare_intrinsic("llvm.aarch64.hint", (), kind), [number(1)])
        return context.get_dummy_value()

    return types.void(), generate


@part
def _walk(team: int, thread: int) -> None:
    """This thread's part of a round. Kernels whose range has one part are the first thread's, without a meeting."""
    a = longs(team)
    table, rows, threads, met = longs(a[_TABLE]), a[_ROWS], a[_THREADS], a[_BEFORE]
    for k in range(rows):
        count = table[k * COLUMNS + 2]
        parts = min(threads, count)
        if thread < parts:
            kernel, block = table[k * COLUMNS], table[k * COLUMNS + 1]
            call(kernel, block, thread * count // parts, (thread + 1) * count // parts, thread)
        if parts > 1 or k + 1 == rows or table[(k + 1) * COLUMNS + 2] > 1:
            met += threads
            _add(team + 8 * _MET, 1)
            turns = 0
            while _load(team + 8 * _MET) < met:
                turns += 1
                if turns < _PAUSES:
                    _pause()
                else:
                    call(a[_YIELD], 0, 0, 0, 0)


@Kernel
def _lead(team: int, table: int, rows: int, thread: int) -> None:
    """Begin a round and take part in it. The others have all left the one before, so what they read may be written."""
    a = longs(team)
    a[_TABLE], a[_ROWS], a[_BEFORE] = table, rows, _load(team + 8 * _MET)
    _add(team + 8 * _ROUND, 1)
    if _load(team + 8 * _SLEEPING) > 0:
        call(a[_LOCK], team + 8 * _MUTEX, 0, 0, 0)
        call(a[_WAKE], team + 8 * _CONDITION, 0, 0, 0)
        call(a[_UNLOCK], team + 8 * _MUTEX, 0, 0, 0)
    _walk(team, 0)


@Kernel
def _follow(team: int, rounds: int, none: int, thread: int) -> None:
    """Take part in every round after the first ``rounds``, for ever."""
    a = longs(team)
    while True:
        turns = 0
        while _load(team + 8 * _ROUND) == rounds and turns < a[_PATIENCE]:
            turns += 1
            if turns < _PAUSES:
                _pause()
            else:
                call(a[_YIELD], 0, 0, 0, 0)
        if turns == a[_PATIENCE]:
            call(a[_LOCK], team + 8 * _MUTEX, 0, 0, 0)
            _add(team + 8 * _SLEEPING, 1)
            while _load(team + 8 * _ROUND) == rounds:
                call(a[_SLEEP], team + 8 * _CONDITION, team + 8 * _MUTEX, -1, 0)
            _add(team + 8 * _SLEEPING, -1)
            call(a[_UNLOCK], team + 8 * _MUTEX, 0, 0, 0)
        rounds += 1
        _walk(team, thread)


#: What a team needs compiled.
KERNELS = (_lead, _follow)


class Team:
    """``threads`` threads, the caller's included. They last as long as the process."""

    def __init__(self, threads: int) -> None:
        self._asked = threading.Lock()
        memory = np.zeros(_WORDS + 8, np.int64)
        self._words = memory[-memory.ctypes.data % 64 // 8 :][:_WORDS]
        self._address = self._words.ctypes.data
        self._words[_YIELD : _WAKE + 1] = _system(self._address + 8 * _MUTEX, self._address + 8 * _CONDITION)
        self._words[_PATIENCE] = PATIENCE
        self._lead = _NATIVE(_lead.address)
        self.threads = 1
        for thread in range(1, threads):
            try:
                threading.Thread(target=self._wait, args=(_follow.address, thread), daemon=True).start()
            except RuntimeError:  # the system gives no more
                break
            self.threads += 1
        self._words[_THREADS] = self.threads

    def _wait(self, follow: int, thread: int) -> None:
        # It never returns, and so keeps ``self``: the memory where it waits has to outlast everything else.
        _NATIVE(follow)(self._address, 0, 0, thread)

    def walk(self, table: NDArray[np.int64]) -> None:
        """Run every kernel of ``table``, one after another, each spread over the threads."""
        with self._asked:
            self._lead(self._address, table.ctypes.data, len(table), 0)


def team(threads: int) -> Team:
    """The team of ``threads`` of this process."""
    return _team(os.getpid(), threads)


@cache
def _team(process: int, threads: int) -> Team:
    return Team(threads)


def _system(mutex: int, condition: int) -> tuple[int, ...]:
    """Make a lock and a condition there, and return the addresses of what gives the core away, locks, unlocks, waits
    for the condition, and wakes all. All are called with as many arguments as the longest takes, which is
    SleepConditionVariableSRW(condition, lock, for ever, 0).
    """
    if sys.platform == "win32":
        library = ctypes.WinDLL("kernel32")
        make = ("InitializeSRWLock", "InitializeConditionVariable")
        names = (
            "SwitchToThread", "AcquireSRWLockExclusive", "ReleaseSRWLockExclusive", "SleepConditionVariableSRW",
            "WakeAllConditionVariable",
        )  # fmt: skip
    else:
        library = ctypes.CDLL(None)
        make = ("pthread_mutex_init", "pthread_cond_init")
        names = (
            "sched_yield", "pthread_mutex_lock", "pthread_mutex_unlock", "pthread_cond_wait", "pthread_cond_broadcast",
        )  # fmt: skip
    for name, place in zip(make, (mutex, condition), strict=True):
        getattr(library, name)(ctypes.c_void_p(place), None)
    return tuple(ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0 for name in names)
