"""How fast are predictions beside PyTorch's?

The same net with the same weights and statistics (those of ten training steps), class probabilities for one batch of
pictures in memory, float32. ``ours`` is the plan that predictions run, its input in place already; ``predict`` is
``Model.predict`` on a NumPy array, with its checks and copies. PyTorch's module is in eval mode under inference_mode:
eager with contiguous and with channels_last tensors, compiled where that works, and, as columns that do not count, by
the deprecated torch.jit (traced, frozen, with or without optimize_for_inference, whichever is faster) and in bfloat16.
Before anything is timed the probabilities must agree.

ratio: the best float32 time of PyTorch that counts / ours, of the medians; smallest and largest within a round in
brackets. of traced: the same for torch.jit's.

    python -m benchmarks.inference [--net lenet resnet20 …] [--batch 1 64] [--rounds 5] [--threads 2]
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks import options
from benchmarks.table import Table, milliseconds, share

#: Training steps before, on so many pictures: running statistics that fit the weights.
STEPS, BATCH = 10, 16


def main(words: Sequence[str] | None = None) -> None:
    parser = options.parser(__doc__, rounds=5)
    parser.add_argument("--net", nargs="+", help="instead of every row (with --quick: of lenet)")
    parser.add_argument("--batch", nargs="+", type=options.positive, help="instead of each row's own")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    chosen = options.parsed(parser, words)
    os.environ["NUMBA_NUM_THREADS"] = str(chosen.threads)  # Model takes as many as there are

    from benchmarks import machine, nets
    from benchmarks.engines import Rival

    rival = Rival(chosen.threads, compiled=not (chosen.no_compile or chosen.quick))
    peak = machine.flops(chosen.threads)
    print(
        f"inference, float32, {chosen.threads} threads, ms; medians of {chosen.rounds} rounds; this machine: "
        f"{peak / 1e9:.0f} GFLOP/s"
    )
    columns = {"net": 18, "batch": 5, "ours": 8, "predict": 8} | dict.fromkeys(rival.inference_columns, 8)
    columns |= {"ratio": 19, "of traced": 9, "at least": 8, "aim": 4, "GFLOP/s": 7, "of peak": 7}
    table = Table(columns, markdown=chosen.markdown)
    named = chosen.net or (["lenet"] if chosen.quick else list(dict.fromkeys(net for net, _ in nets.INFERENCE)))
    notes: dict[str, None] = {}
    for net in named:
        for batch in chosen.batch or (1, 64):
            notes |= dict.fromkeys(measure(net, batch, chosen, rival, table, peak))
    table.notes(*notes)


def measure(net: str, batch: int, chosen: argparse.Namespace, rival: Any, table: Table, peak: float) -> list[str]:
    """One row of the table; returns what is to be said below it."""
    from benchmarks import nets, timing
    from benchmarks.engines import FLOAT32, TRACED, OurInference, Ours, model_with
    from benchmarks.recipe import noise

    spec, optimizer = nets.spec(net), nets.optimizer(net)
    trained = Ours(spec, optimizer, BATCH, chosen.backend, chosen.threads)
    for _ in range(STEPS):
        trained()
    start = trained.arrays()
    x, _ = noise(spec.input, spec.output[-1], batch)
    model = model_with(spec, start, chosen.backend)
    ours = OurInference(model, x)
    ours()
    wanted = ours.result()
    sides = rival.inference(spec, optimizer, start, x, wanted)
    turn = timing.TURN / 10 if chosen.quick else timing.TURN
    engines = {"ours": ours, "predict": lambda: model.predict(x)} | sides.engines
    times = timing.interleaved(engines, chosen.rounds, turn=turn)
    mine = median(times["ours"])
    winner = timing.best(times, FLOAT32)
    goal = nets.INFERENCE.get((net, batch))
    rate = nets.inference_flops(spec, batch) / mine
    table.row(
        spec.name if net.endswith((".yaml", ".yml")) else net,
        batch,
        milliseconds(mine),
        milliseconds(median(times["predict"])),
        *(milliseconds(median(times[name])) if name in times else None for name in rival.inference_columns),
        str(timing.ratio(times[winner], times["ours"])) if winner else None,
        median(times[TRACED]) / mine if TRACED in times else None,
        goal.least if goal else None,
        goal.aim if goal else None,
        rate / 1e9,
        share(rate / peak),
    )
    return sides.notes


if __name__ == "__main__":
    options.run(main)
