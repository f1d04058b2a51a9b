"""What this machine could do at best: fused multiply-adds per second, and bytes per second from memory.

Both are loops of vector instructions, written down in LLVM's language, so that no compiler's choice is in the way:

* peak: as many independent chains of float32 fused multiply-adds as hide each one's latency, all in registers.
* bandwidth: ``a = b + s * c`` over arrays that no cache holds (the triad of McCalpin's STREAM), three arrays counted,
  though the processor reads the line of ``a`` as well before it writes it.
* clock: a chain of dependent integer additions and exclusive ors, one cycle each, which gives the cycles to compare
  the peak with: one or two vectors of multiply-adds per cycle is what processors have.

    python -m benchmarks.machine [--threads 2]
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks import options
from benchmarks.table import Table, share

#: Bytes of each of the triad's three arrays.
ARRAY = 64 << 20
#: How long one try takes, about, and how many there are: the best counts. On a busy machine a short one has a chance.
SECONDS, TRIES = 0.004, 60


def main(words: Sequence[str] | None = None) -> None:
    chosen = options.parsed(options.parser(__doc__), words)
    counts = sorted({1, chosen.threads})
    ghz = clock() / 1e9
    table = Table({"threads": 7, "GFLOP/s": 8, "FMA per cycle": 13, "GB/s": 6}, words=0, markdown=chosen.markdown)
    for threads in counts:
        rate = flops(threads)
        per_cycle = rate / threads / (2 * lanes() * ghz * 1e9)
        table.row(threads, rate / 1e9, f"{per_cycle:.2f} x {lanes()}", bandwidth(threads) / 1e9)
    pipes = max(1, round(flops(1) / (2 * lanes() * ghz * 1e9)))
    theory = pipes * 2 * lanes() * ghz * 1e9
    table.notes(
        f"{ghz:.2f} GHz by a chain of additions; vectors of {lanes()} float32; the best of {TRIES} tries",
        f"{pipes} a cycle would be {theory / 1e9:.0f} GFLOP/s a thread: {share(flops(1) / theory)} reached",
    )


@cache
def flops(threads: int) -> float:
    """Float32 operations per second, a fused multiply-add counted as two."""
    chains = _chains()
    run = _function("peak", ctypes.c_float, ctypes.c_int64)
    n = _sized(lambda n: run(n), 1 << 16)
    return threads * n * chains * lanes() * 2 / _fastest(threads, lambda _: run(n))


@cache
def bandwidth(threads: int) -> float:
    """Bytes per second of ``a = b + s * c``."""
    import numpy as np

    a, b, c = (np.ones(ARRAY // 4, np.float32) for _ in range(3))
    run = _function("triad", None, *[ctypes.c_void_p] * 3, ctypes.c_int64)
    part = len(a) // threads // lanes() * lanes()
    at = [part * t * 4 for t in range(threads)]

    def triad(t: int) -> None:
        run(a.ctypes.data + at[t], b.ctypes.data + at[t], c.ctypes.data + at[t], part)

    return threads * part * 12 / _fastest(threads, triad)


@cache
def clock() -> float:
    """Cycles per second of a busy core."""
    run = _function("chain", ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
    n = _sized(lambda n: run(n, 3, 5), 1 << 14)
    return n * CHAIN / _fastest(1, lambda _: run(n, 3, 5))


def _fastest(threads: int, work: Callable[[int], object]) -> float:
    """Seconds of the fastest try of ``work(0) … work(threads - 1)``, all at once. ctypes lets them run together."""
    best = float("inf")
    for _ in range(TRIES):
        ready = threading.Barrier(threads)
        times: list[float] = []

        def one(t: int, ready: threading.Barrier = ready, times: list[float] = times) -> None:
            ready.wait()
            began = perf_counter()
            work(t)
            times.extend((began, perf_counter()))

        workers = [threading.Thread(target=one, args=(t,)) for t in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        best = min(best, max(times) - min(times))
    return best


def _sized(work: Callable[[int], object], n: int) -> int:
    """Repetitions that take about ``SECONDS``, trying from ``n``."""
    work(n)
    began = perf_counter()
    work(n)
    return max(1, int(n * SECONDS / (perf_counter() - began)))


# The loops.

#: Dependent instructions in one turn of the clock's loop.
CHAIN = 64


@cache
def lanes() -> int:
    """Float32 numbers in the widest vector register."""
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    return 16 if features.get("avx512f") else 8 if features.get("fma") else 4


def _chains() -> int:
    """Independent multiply-adds at a time: two pipes of four or five cycles need ten; 16 registers hold no more."""
    return 12 if lanes() == 8 else 24


@cache
def _engine() -> Any:
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    features = binding.get_host_cpu_features().flatten()
    target = binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(), features=features, opt=3, jit=True
    )
    module = binding.parse_assembly(_peak() + _triad() + _chain())
    module.verify()
    engine = binding.create_mcjit_compiler(module, target)
    engine.finalize_object()
    return engine


def _function(name: str, result: Any, *arguments: Any) -> Any:
    return ctypes.CFUNCTYPE(result, *arguments)(_engine().get_function_address(name))


def _loop(name: str, head: str, phis: str, body: str, step: int, end: str) -> str:
    return f"""
define {head} {{
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
{phis}{body}
  %next = add i64 %i, {step}
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %done
done:
{end}}}
"""


def _peak() -> str:
    """x <- 0.5 x + 1 in every chain, from different numbers."""
    vector, fma = f"<{lanes()} x float>", f"@llvm.fma.v{lanes()}f32"

    def all_of(number: str) -> str:
        return "<" + ", ".join([f"float {number}"] * lanes()) + ">"

    phis = body = ""
    for k in range(_chains()):
        phis += f"  %x{k} = phi {vector} [ {all_of(f'{k}.0')}, %entry ], [ %y{k}, %loop ]\n"
        body += f"  %y{k} = call {vector} {fma}({vector} %x{k}, {vector} {all_of('0.5')}, {vector} {all_of('1.0')})\n"
    end, total = "", "%y0"
    for k in range(1, _chains()):
        end += f"  %s{k} = fadd {vector} {total}, %y{k}\n"
        total = f"%s{k}"
    end += f"  %r = extractelement {vector} {total}, i32 0\n  ret float %r\n"
    declaration = f"declare {vector} {fma}({vector}, {vector}, {vector})\n"
    return declaration + _loop("peak", "float @peak(i64 %n)", phis, body, 1, end)


def _triad() -> str:
    vector = f"<{lanes()} x float>"
    half = "<" + ", ".join(["float 0.5"] * lanes()) + ">"
    body = f"""  %pb = getelementptr float, ptr %b, i64 %i
  %pc = getelementptr float, ptr %c, i64 %i
  %pa = getelementptr float, ptr %a, i64 %i
  %vb = load {vector}, ptr %pb, align 4
  %vc = load {vector}, ptr %pc, align 4
  %va = call {vector} @llvm.fma.v{lanes()}f32({vector} %vc, {vector} {half}, {vector} %vb)
  store {vector} %va, ptr %pa, align 4
"""
    return _loop("triad", "void @triad(ptr %a, ptr %b, ptr %c, i64 %n)", "", body, lanes(), "  ret void\n")


def _chain() -> str:
    body, last = "", "%v"
    for k in range(0, CHAIN, 2):
        body += f"  %a{k} = add i64 {last}, %p\n  %b{k} = xor i64 %a{k}, %q\n"
        last = f"%b{k}"
    phis = f"  %v = phi i64 [ %p, %entry ], [ {last}, %loop ]\n"
    head = "i64 @chain(i64 %n, i64 %p, i64 %q)"
    return _loop("chain", head, phis, body, 1, f"  ret i64 {last}\n")


if __name__ == "__main__":
    options.run(main)
