"""How do training steps grow with the batch, with a net's width and depth, and with threads, beside PyTorch's?

A small table for each question, timed as ``train_step`` does: engines in turn, ratio = the best float32 time of PyTorch
(eager, contiguous or channels_last, and torch.compile with ``--compile``) / ours.

* batch: lenet;  width: two pairs of normalised 3x3 convolutions of ``width`` and twice as many filters
* depth: ResNet (option A) of 8 to 56 layers;  threads: lenet and resnet20

    python -m benchmarks.scaling [--table batch width depth threads] [--rounds 3] [--compile]
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks import options
from benchmarks.table import Table, milliseconds
from benchmarks.train_step import compared

TABLES = ("batch", "width", "depth", "threads")
BATCHES, WIDTHS, REPETITIONS = (1, 8, 32, 128, 512), (8, 16, 32, 64, 128), (1, 3, 5, 9)
#: Samples of a step, where they are not the question.
BATCH = 64

#: (what varies, the net, its optimizer, batch, threads)
Point = tuple[object, Any, Any, int, int]


def main(words: Sequence[str] | None = None) -> None:
    parser = options.parser(__doc__, rounds=3)
    parser.add_argument("--table", nargs="+", choices=TABLES, default=TABLES, help="(all)")
    parser.add_argument("--compile", action="store_true", help="torch.compile too: up to a minute per line")
    chosen = options.parsed(parser, words)
    chosen.steps = None

    from benchmarks import timing
    from benchmarks.engines import BFLOAT16, FLOAT32, Rival

    for which in chosen.table:
        notes: dict[str, None] = {}
        print(f"\nby {which}: training step, float32, ms; medians of {chosen.rounds} rounds")
        columns = {which: 16, "ours": 8, "samples/s": 9}
        if not Rival(chosen.threads).missing:
            columns |= {"PyTorch": 8, "its best": 13, "bfloat16": 8, "ratio": 19}
        table = Table(columns, markdown=chosen.markdown)
        for label, spec, optimizer, batch, threads in points(which, chosen):
            rival = Rival(threads, compiled=chosen.compile)
            settings = argparse.Namespace(**vars(chosen) | {"threads": threads})
            _, times, said = compared(spec, optimizer, batch, settings, rival)
            notes |= dict.fromkeys(note for note in said if "fastest form" not in note)
            mine = median(times["ours"])
            cells: list[object] = [label, milliseconds(mine), f"{batch / mine:,.0f}"]
            if (winner := timing.best(times, FLOAT32)) is not None:
                cells += [milliseconds(median(times[winner])), winner, milliseconds(median(times[BFLOAT16]))]
                cells += [str(timing.ratio(times[winner], times["ours"]))]
            table.row(*cells)
        table.notes(*notes)


def points(which: str, chosen: argparse.Namespace) -> Iterator[Point]:
    """The lines of one table."""
    from benchmarks import nets

    threads, few = chosen.threads, 2 if chosen.quick else None
    if which == "batch":
        for batch in BATCHES[:few]:
            yield batch, nets.spec("lenet"), nets.ADAM, batch, threads
    elif which == "width":
        for width in WIDTHS[:few]:
            yield width, pairs(width), nets.ADAM, BATCH, threads
    elif which == "depth":
        for times in REPETITIONS[:few]:
            yield 6 * times + 2, resnet(times), nets.MOMENTUM, BATCH, threads
    else:
        for net in ("lenet", "resnet20")[: 1 if chosen.quick else 2]:
            cores = os.cpu_count() or 1
            for count in sorted({2**k for k in range(cores.bit_length())} | {cores}):
                yield f"{net}, {count}", nets.spec(net), nets.optimizer(net), BATCH, count


def pairs(width: int) -> Any:
    """conv, conv, pool with ``width`` filters, the same with twice as many, global pool, fc."""
    from benchmarks import nets

    layers: dict[str, Any] = {}
    for stage, filters in ((1, width), (2, 2 * width)):
        for k in (1, 2):
            conv = {"type": "conv", "filters": filters, "kernel": 3, "padding": "same", "bias": False}
            layers |= {f"conv{stage}{k}": conv, f"norm{stage}{k}": {"type": "batch_norm", "activation": "relu"}}
        layers[f"pool{stage}"] = {"type": "pool", "kernel": 2}
    layers |= {"pool": {"type": "global_pool"}, "output": {"type": "fc", "units": 10, "activation": "softmax"}}
    return nets.spec({"name": f"pairs_{width}", "input": [32, 32, 3], "layers": layers})


def resnet(times: int) -> Any:
    """ResNet for CIFAR of 6 n + 2 layers: ``times`` blocks in each of three stages."""
    from cnnforge.config import compose, validate

    words = ["model=resnet20"] + [f"model.layers.stage{stage}.times={times}" for stage in (1, 2, 3)]
    return validate(compose(words), match_data=False).model


if __name__ == "__main__":
    options.run(main)
