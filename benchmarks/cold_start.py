"""How long from the command to the end of the first training step?

Fresh processes, in turn, medians. Ours is the command itself, with its run folder, data and checks
(``cnnforge train experiment=lenet_digits``, the time that its ``result.json`` states), and the bare step from Python;
PyTorch's is ``import torch`` alone, and the same net and one step of it on noise. Then ours with an empty cache folder:
what compiling the kernels that it needs and measuring their ways costs, once per installation.

    python -m benchmarks.cold_start [--rounds 5] [--threads 2]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks import options
from benchmarks.alone import ROOT, in_a_process
from benchmarks.table import Table

NET, BATCH = "lenet", 64
WARM = "cnnforge train experiment=lenet_digits"
COLD = f"{WARM}, empty cache"


def main(words: Sequence[str] | None = None) -> None:
    chosen = options.parsed(options.parser(__doc__, rounds=5), words)
    with tempfile.TemporaryDirectory() as scratch:
        measure(chosen, Path(scratch))


def measure(chosen: argparse.Namespace, scratch: Path) -> None:
    ours = ["ours", NET, BATCH, 1, "--backend", chosen.backend, "--threads", chosen.threads]
    starts: dict[str, Callable[[], float]] = {
        WARM: lambda: train(chosen, scratch, dict(os.environ)),
        "one step from Python": lambda: in_a_process(*ours)["first_step_seconds"],
    }
    if importlib.util.find_spec("torch"):
        starts |= theirs(chosen, scratch)
    else:
        print("PyTorch is not installed: only our own times (pip install torch==2.13.0)")
    for start in starts.values():  # files into memory, kernels into their cache
        start()
    times: dict[str, list[float]] = {name: [] for name in starts}
    for _ in range(chosen.rounds):
        for name, start in starts.items():
            times[name].append(start())
    times[COLD] = [train(chosen, scratch, empty_cache(scratch, i)) for i in range(1 if chosen.quick else 2)]
    print(f"seconds from the command to the end of the first step; {NET}, batch {BATCH}, {chosen.threads} threads")
    table = Table({"command": 52, "seconds": 7, "fastest": 7, "slowest": 7}, markdown=chosen.markdown)
    for name, seconds in times.items():
        table.row(name, median(seconds), min(seconds), max(seconds))


def theirs(chosen: argparse.Namespace, scratch: Path) -> dict[str, Callable[[], float]]:
    from benchmarks import nets
    from benchmarks.recipe import recipe

    file = scratch / "recipe.json"
    file.write_text(json.dumps(recipe(nets.spec(NET), nets.optimizer(NET))), "utf-8")

    def imported() -> float:
        began = perf_counter()
        subprocess.run([sys.executable, "-c", "import torch"], check=True, cwd=scratch)
        return perf_counter() - began

    words = ["torch", file, BATCH, 1, "--threads", chosen.threads]
    return {
        'python -c "import torch", no step': imported,
        "PyTorch, one step": lambda: in_a_process(*words)["first_step_seconds"],
        "PyTorch, one step, channels_last": lambda: in_a_process(*words, "--channels-last")["first_step_seconds"],
    }


def train(chosen: argparse.Namespace, scratch: Path, env: dict[str, str]) -> float:
    """Seconds to the first step, as the run states them."""
    folder = Path(tempfile.mkdtemp(dir=scratch))
    command = [
        sys.executable, "-m", "cnnforge", "train", "experiment=lenet_digits", f"trainer.batch_size={BATCH}",
        "trainer.max_steps=1", "tracking.enabled=false", f"run.dir={folder}", "run.name=run",
        f"trainer.backend={chosen.backend}", f"trainer.threads={chosen.threads}",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr.strip()}")
    return float(json.loads((folder / "run" / "result.json").read_text("utf-8"))["first_step_seconds"])


def empty_cache(scratch: Path, number: int) -> dict[str, str]:
    """The environment with a new, empty cache folder (see ``cnnforge.folders``)."""
    cache = scratch / f"cache-{number}"
    cache.mkdir()
    return os.environ | {"XDG_CACHE_HOME": str(cache)}


if __name__ == "__main__":
    options.run(main)
