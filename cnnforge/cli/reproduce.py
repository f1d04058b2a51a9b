"""``cnnforge reproduce RUN``: do a run again from its own record and say whether the numbers are equal."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING

from cnnforge.cli.arguments import add_run

if TYPE_CHECKING:
    from cnnforge.train.reproduce import Comparison

#: Metrics that are named where they differ; the others are counted.
MOST_NAMED = 12


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of this command."""
    parser.description = (
        "Do a run again from its own record, in a new folder beside it, and compare every number and weight. "
        "Exit code 0 where all are equal, 1 where not."
    )
    add_run(parser)
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON, and nothing else, on stdout")


def run(args: argparse.Namespace) -> int:
    """Find the run, do it again, compare. Returns the exit code."""
    from cnnforge.cli.console import make_console
    from cnnforge.tracking.finding import find_run
    from cnnforge.train.reproduce import reproduce

    compared = reproduce(find_run(args.name, args.dir), make_console(sys.stderr if args.json else sys.stdout))
    print(json.dumps(as_json(compared)) if args.json else text(compared))
    return 0 if compared.equal else 1


def as_json(compared: Comparison) -> dict[str, object]:
    """What ``--json`` prints."""
    return {
        "run": str(compared.folder),
        "again": str(compared.again),
        "equal": compared.equal,
        "weights": compared.weights,
        "metrics": len(compared.metrics),
        "differing": [
            {
                "name": name,
                "step": step,
                "recorded": compared.metrics[name, step][0],
                "again": compared.metrics[name, step][1],
            }
            for name, step in compared.differing
        ],
    }


def text(compared: Comparison) -> str:
    """The last value of each metric by epoch, then what is equal."""
    last: dict[str, tuple[str, int]] = {}
    for name, step in compared.metrics:
        if "/" not in name and (name not in last or step > last[name][1]):
            last[name] = (name, step)
    named = list(last.values()) + [key for key in compared.differing if key not in last.values()][:MOST_NAMED]
    rows = [("metric", "step", "recorded", "again", "")]
    for key in named:
        then, now = compared.metrics[key]
        rows.append((key[0], str(key[1]), _number(then), _number(now), "equal" if then == now else "differs"))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = [
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]:>{widths[3]}}  {row[4]}".rstrip()
        for row in rows
    ]
    same, all_of = len(compared.metrics) - len(compared.differing), len(compared.metrics)
    weights = "every weight is equal to the bit" if compared.weights else "weights differ"
    lines += [
        "",
        f"{same:,} of {all_of:,} recorded numbers are equal; {weights}",
        f"again: {os.path.relpath(compared.again)}/",
    ]
    return "\n" + "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.9g}"
