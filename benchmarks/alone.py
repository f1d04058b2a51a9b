"""One process, one library, some training steps: what start-up and memory are measured with.

    python -m benchmarks.alone ours NET BATCH STEPS [--backend numba] [--threads 2] [--since SECONDS]
    python -m benchmarks.alone torch RECIPE BATCH STEPS [--channels-last] [--threads 2] [--since SECONDS]

RECIPE is a JSON file (see ``recipe``): PyTorch's process loads nothing of ours. Prints JSON: ``imported_bytes`` were
resident once the library was loaded, ``peak_bytes`` at most, ``first_step_seconds`` passed from ``--since`` (when the
command was given, in seconds since the epoch) to the end of the first step.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import time
from typing import Any

ROOT = Path(__file__).parents[1]
if not __package__:  # run as a file
    sys.path[0] = str(ROOT)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", choices=("ours", "torch"))
    parser.add_argument("net")
    parser.add_argument("batch", type=int)
    parser.add_argument("steps", type=int)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--since", type=float, default=0.0)
    args = parser.parse_args(words)
    step, imported = _ours(args) if args.library == "ours" else _torch(args)
    step()
    first = time() - args.since
    for _ in range(args.steps - 1):
        step()
    print(json.dumps({"first_step_seconds": first, "imported_bytes": imported, "peak_bytes": resident("VmHWM")}))


def _ours(args: argparse.Namespace) -> tuple[Callable[[], object], int]:
    from benchmarks import nets
    from benchmarks.engines import Ours
    from cnnforge.backends import create

    create(args.backend, args.threads)
    imported = resident("VmRSS")
    return Ours(nets.spec(args.net), nets.optimizer(args.net), args.batch, args.backend, args.threads), imported


def _torch(args: argparse.Namespace) -> tuple[Callable[[], object], int]:
    import numpy as np
    import torch

    from benchmarks.torch_engines import TrainingStep

    torch.set_num_threads(args.threads)
    imported = resident("VmRSS")
    recipe = json.loads(Path(args.net).read_text("utf-8"))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((args.batch, *recipe["input"]), np.float32)
    labels = rng.integers(0, recipe["classes"], args.batch)
    fused = {"fused": True} if recipe["optimizer"]["type"] != "rmsprop" else {}
    return TrainingStep(recipe, None, (x, labels), fused, channels_last=args.channels_last), imported


def resident(field: str) -> int:
    """Bytes by this name in the process's status: VmRSS now, VmHWM at most. Elsewhere than on Linux: at most."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith(f"{field}:"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def in_a_process(*words: object, env: dict[str, str] | None = None) -> dict[str, Any]:
    """What a process of its own printed. Raises RuntimeError with what it said where it failed."""
    command = [sys.executable, "-m", "benchmarks.alone", *map(str, words), "--since", repr(time())]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr.strip()}")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


if __name__ == "__main__":
    main()
