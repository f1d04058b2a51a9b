"""How much memory does the same training take beside PyTorch's?

The most resident memory (VmHWM) of fresh processes that take a few training steps on noise, and what of it was resident
once the library was loaded. PyTorch's column that counts is the smaller of its two. No data set is in memory on either
side.

    python -m benchmarks.memory [--net lenet resnet20 …] [--batch 64] [--steps 5] [--threads 2]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks import options
from benchmarks.alone import in_a_process
from benchmarks.table import Table

NETS = ("lenet", "resnet20", "vgg_style", "mobilenet_v2_cifar", "cifar_net")
#: Ours / PyTorch's, at most.
GOAL = 0.6


def main(words: Sequence[str] | None = None) -> None:
    parser = options.parser(__doc__)
    parser.add_argument("--net", nargs="+", help=f"instead of {', '.join(NETS)} (with --quick: of lenet)")
    parser.add_argument("--batch", nargs="+", type=options.positive, default=[64], help="(64)")
    parser.add_argument("--steps", type=options.positive, default=5, help="of each process (%(default)s)")
    chosen = options.parsed(parser, words)
    rival = importlib.util.find_spec("torch") is not None
    if not rival:
        print("PyTorch is not installed: only our own memory (pip install torch==2.13.0)")
    print(f"peak resident memory of {chosen.steps} training steps, MiB; {chosen.threads} threads")
    columns = {"net": 18, "batch": 5, "ours": 6, "of it loaded": 6}
    if rival:
        columns |= {"PyTorch": 7, "channels_last": 7, "PyTorch, loaded": 7, "ours / PyTorch": 7, "at most": 7}
    table = Table(columns, markdown=chosen.markdown)
    with tempfile.TemporaryDirectory() as scratch:
        for net in chosen.net or (("lenet",) if chosen.quick else NETS):
            for batch in chosen.batch:
                measure(net, batch, chosen, rival, Path(scratch), table)


def measure(net: str, batch: int, chosen: argparse.Namespace, rival: bool, scratch: Path, table: Table) -> None:
    """One row of the table."""
    from benchmarks import nets
    from benchmarks.recipe import recipe

    spec = nets.spec(net)
    threads = ("--threads", chosen.threads)
    words: tuple[object, ...] = ("--backend", chosen.backend, *threads)
    in_a_process("ours", net, batch, 1, *words)  # compiles kernels and measures their ways, once for this machine
    ours = in_a_process("ours", net, batch, chosen.steps, *words)
    cells: list[object] = [net, batch, mebibytes(ours["peak_bytes"]), mebibytes(ours["imported_bytes"])]
    if rival:
        file = scratch / "recipe.json"
        file.write_text(json.dumps(recipe(spec, nets.optimizer(net))), "utf-8")
        words = ("torch", file, batch, chosen.steps, *threads)
        plain, last = in_a_process(*words), in_a_process(*words, "--channels-last")
        least = min(plain["peak_bytes"], last["peak_bytes"])
        cells += [mebibytes(n) for n in (plain["peak_bytes"], last["peak_bytes"], plain["imported_bytes"])]
        cells += [ours["peak_bytes"] / least, GOAL]
    table.row(*cells)


def mebibytes(count: int) -> str:
    return f"{count / 2**20:.0f}"


if __name__ == "__main__":
    options.run(main)
