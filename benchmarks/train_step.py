"""How fast is a training step beside PyTorch's?

Same net, same starting weights, same batch, float32: forward, loss, backward and update, on as many threads. Engines
take turns, so that other work on the machine disturbs all alike. PyTorch runs eager with contiguous and with
channels_last tensors, by torch.compile where it works, and, as a column that does not count, in bfloat16 (autocast);
with whichever form of its optimizer is fastest. Before anything is timed the first losses must agree.

ratio: the best float32 time of PyTorch / ours, of the medians; smallest and largest within a round in brackets.
GFLOP/s: 2 for each multiply-accumulate of convolutions and products done directly, forward and backward. Winograd
    convolutions multiply less often, so ``of peak`` (the machine's rate of fused multiply-adds, measured just before)
    may be more than direct convolution could ever reach.
of bandwidth: what our kernels read and write, each array once, per second, beside what the memory gives; more than
    100% means that caches served it.

    python -m benchmarks.train_step [--net lenet resnet20 …] [--batch 64 128] [--rounds 7] [--threads 2]

NET is a row of the table, a shipped model, or the path of a YAML file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks import options
from benchmarks.table import Table, milliseconds, share


def main(words: Sequence[str] | None = None) -> None:
    parser = options.parser(__doc__, rounds=7)
    parser.add_argument("--net", nargs="+", help="instead of every row (with --quick: of lenet)")
    parser.add_argument("--batch", nargs="+", type=options.positive, help="instead of each row's own")
    parser.add_argument("--steps", type=options.positive, help="steps of a turn (as many as fit 0.2 s)")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out: it takes a minute per net")
    chosen = options.parsed(parser, words)

    from benchmarks import machine
    from benchmarks.engines import Rival

    rival = Rival(chosen.threads, compiled=not (chosen.no_compile or chosen.quick))
    peak, bandwidth = machine.flops(chosen.threads), machine.bandwidth(chosen.threads)
    print(
        f"training step, float32, {chosen.threads} threads, ms; medians of {chosen.rounds} rounds; this machine: "
        f"{peak / 1e9:.0f} GFLOP/s, {bandwidth / 1e9:.0f} GB/s"
    )
    columns = {"net": 18, "batch": 5, "ours": 8} | dict.fromkeys(rival.columns, 8)
    columns |= {"ratio": 19, "at least": 8, "aim": 4, "GFLOP/s": 7, "of peak": 7, "of bandwidth": 12}
    table = Table(columns, markdown=chosen.markdown)
    notes: dict[str, None] = {}
    for net, batch in rows(chosen):
        notes |= dict.fromkeys(measure(net, batch, chosen, rival, table, peak, bandwidth))
    table.notes(*notes)


def rows(chosen: argparse.Namespace) -> list[tuple[str, int]]:
    """The nets and batches to measure."""
    from benchmarks import nets

    named = chosen.net or (["lenet"] if chosen.quick else [row.net for row in nets.TRAINING])
    usual = {row.net: row.batches[:1] if chosen.quick else row.batches for row in nets.TRAINING}
    return [(net, batch) for net in named for batch in chosen.batch or usual.get(net, (64,))]


def measure(
    net: str, batch: int, chosen: argparse.Namespace, rival: Any, table: Table, peak: float, bandwidth: float
) -> list[str]:
    """One row of the table; returns what is to be said below it."""
    from benchmarks import nets, timing
    from benchmarks.engines import FLOAT32

    spec = nets.spec(net)
    ours, times, notes = compared(spec, nets.optimizer(net), batch, chosen, rival)
    mine = median(times["ours"])
    winner = timing.best(times, FLOAT32)
    row = nets.known(net)
    rate = nets.training_flops(spec, batch) / mine
    table.row(
        spec.name if net.endswith((".yaml", ".yml")) else net,
        batch,
        milliseconds(mine),
        *(milliseconds(median(times[name])) if name in times else None for name in rival.columns),
        str(timing.ratio(times[winner], times["ours"])) if winner else None,
        row.goal.least if row else None,
        row.goal.aim if row else None,
        rate / 1e9,
        share(rate / peak),
        share(ours.traffic() / mine / bandwidth),
    )
    return notes


def compared(
    spec: Any, optimizer: Any, batch: int, chosen: argparse.Namespace, rival: Any
) -> tuple[Any, dict[str, list[float]], list[str]]:
    """(our engine, seconds per step of every engine by round, what is to be said)."""
    from benchmarks import timing
    from benchmarks.engines import Ours

    ours = Ours(spec, optimizer, batch, chosen.backend, chosen.threads, chosen.exact_conv)
    start = ours.arrays()
    ours()
    sides = rival.training(spec, ours, start, ours.loss())
    turn = timing.TURN / 10 if chosen.quick else timing.TURN
    return ours, timing.interleaved({"ours": ours} | sides.engines, chosen.rounds, chosen.steps, turn), sides.notes


if __name__ == "__main__":
    options.run(main)
