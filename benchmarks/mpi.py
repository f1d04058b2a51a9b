"""How does a training step grow with processes that share it by MPI?

Each process computes on one thread. Weak: every process has ``--batch`` samples, so a step should take as long as one
process's; efficiency is that time / this. Strong: the processes share ``--batch`` samples; efficiency is one process's
time / (processes x this). A step is forward, loss and backward, one sum of the gradients over the processes, update.
Batch norm takes each process's own statistics. Numbers of processes take turns, in processes of their own each time.

    python -m benchmarks.mpi [--net vgg_style] [--batch 64] [--ranks 2] [--rounds 3]

Needs mpi4py and an mpiexec (pip install mpi4py mpich); more processes than cores say nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks import options
from benchmarks.alone import ROOT
from benchmarks.table import Table, milliseconds, share

#: Seconds that one process measures, and steps before that.
TURN, WARM = 2.0, 3


def main(words: Sequence[str] | None = None) -> None:
    parser = options.parser(__doc__, rounds=3)
    parser.set_defaults(threads=1)
    parser.add_argument("--net", default="vgg_style")
    parser.add_argument("--batch", type=options.positive, default=64)
    parser.add_argument("--ranks", type=options.positive, nargs="+", default=[2], help="processes (%(default)s)")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)  # be one of the processes
    chosen = options.parsed(parser, words)
    if chosen.one:
        print_one(chosen)
        return
    if missing := unavailable():
        print(missing)
        return
    points = [(1, chosen.batch)]
    for ranks in chosen.ranks:
        points += [(ranks, chosen.batch), (ranks, max(1, chosen.batch // ranks))]
    times: dict[tuple[int, int], list[float]] = {point: [] for point in points}
    for _ in range(chosen.rounds):
        for ranks, batch in times:
            times[ranks, batch].append(measured(ranks, batch, chosen))
    print(
        f"{chosen.net}: training step, float32, {chosen.threads} threads in each process; "
        f"medians of {chosen.rounds} rounds"
    )
    table = Table(
        {"scaling": 8, "processes": 9, "batch of each": 13, "ms": 8, "samples/s": 9, "efficiency": 10},
        markdown=chosen.markdown,
    )
    alone = median(times[points[0]])
    table.row("-", 1, chosen.batch, milliseconds(alone), f"{chosen.batch / alone:,.0f}", share(1))
    for ranks in chosen.ranks:
        for name, batch in (("weak", chosen.batch), ("strong", max(1, chosen.batch // ranks))):
            step = median(times[ranks, batch])
            efficiency = alone / chosen.batch * batch / step
            table.row(name, ranks, batch, milliseconds(step), f"{ranks * batch / step:,.0f}", share(efficiency))


def unavailable() -> str:
    """Why there is nothing to measure; empty where there is."""
    from importlib.util import find_spec

    if find_spec("mpi4py") is None or mpiexec() is None:
        return "mpi4py or mpiexec is not installed: nothing to measure (pip install mpi4py mpich)"
    return ""


def mpiexec() -> str | None:
    """The launcher beside this Python, else the shell's."""
    from shutil import which

    beside = Path(sys.executable).parent / "mpiexec"
    return str(beside) if beside.exists() else which("mpiexec")


def measured(ranks: int, batch: int, chosen: argparse.Namespace) -> float:
    """Seconds of a step of so many processes with ``batch`` samples each. Raises RuntimeError where they fail."""
    launcher = [str(mpiexec()), "-n", str(ranks)] if ranks > 1 else []
    words = ["--net", chosen.net, "--batch", batch, "--backend", chosen.backend, "--threads", chosen.threads]
    flags = [f"--{name.replace('_', '-')}" for name in ("quick", "exact_conv") if getattr(chosen, name)]
    command = [*launcher, sys.executable, "-m", "benchmarks.mpi", "--one", *map(str, words), *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr.strip()}")
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])


def print_one(chosen: argparse.Namespace) -> None:
    """Train as one of the processes; the first prints the seconds of a step."""
    from benchmarks import nets
    from benchmarks.engines import Ours
    from cnnforge.train.distributed import job

    with job() as ranks:
        ours = Ours(
            nets.spec(chosen.net), nets.optimizer(chosen.net), chosen.batch, chosen.backend, chosen.threads,
            chosen.exact_conv, together=ranks,
        )  # fmt: skip

        def step() -> None:
            ours.set_step()
            if ranks.size == 1:
                ours.bound.run("forward", "loss", "backward", "update")
                return
            ours.bound.run("forward", "loss", "backward")
            ours.backend.sum(ours.executable.sums)
            ours.bound.run("update")

        for _ in range(WARM):
            step()
        began = perf_counter()
        step()
        # As many steps on all: those that the first has time for.
        steps = ranks.first(1 if chosen.quick else max(2, round(TURN / (perf_counter() - began))))
        began = perf_counter()
        for _ in range(steps):
            step()
        if ranks.rank == 0:
            print(json.dumps({"seconds": (perf_counter() - began) / steps}))


if __name__ == "__main__":
    options.run(main)
