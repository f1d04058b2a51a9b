"""``cnnforge resume RUN``: go on with a run that was interrupted, killed, or shall train longer."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cnnforge.cli.arguments import add_run
from cnnforge.errors import ConfigError

if TYPE_CHECKING:
    from cnnforge.train.ranks import Ranks


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of this command."""
    parser.description = (
        "Go on with a run from its last checkpoint, in the same folder and the same MLflow run, bit for bit as if it "
        "had never stopped."
    )
    add_run(parser)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="a change of its config; needs --changed")
    parser.add_argument("--changed", action="store_true", help="go on although config or data are not what they were")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, and nothing else, on stdout")


def run(args: argparse.Namespace) -> int:
    """Find the run, go on with it. Returns the exit code."""
    from cnnforge.train.distributed import led

    return led(lambda ranks: _lead(args, ranks))


def _lead(args: argparse.Namespace, ranks: Ranks) -> int:
    from cnnforge.cli.console import make_console
    from cnnforge.cli.train import refuse_folds, summary
    from cnnforge.inference.overview import after
    from cnnforge.tracking.family import FOLDS
    from cnnforge.tracking.finding import find, is_sweep
    from cnnforge.train.folds import go_on
    from cnnforge.train.run import resume

    console = make_console(sys.stderr if args.json else sys.stdout)
    folds = next((f for f in (Path(args.name), args.dir / args.name) if (f / FOLDS).is_file()), None)
    if folds is not None:
        refuse_folds(ranks)
        folder, result = go_on(folds.resolve(), console, after)
    else:
        run = find(args.name, args.dir)
        if is_sweep(run):
            raise ConfigError(
                f"{run.name} is a sweep", where=f"cnnforge resume {args.name}", why="resume goes on with one run",
                fix=f"cnnforge sweep resume={args.name}" + (f" run.dir={args.dir}" if args.dir != Path("runs") else ""),
            )  # fmt: skip
        folder, result = resume(run, args.overrides, console, changed=args.changed, ranks=ranks, after=after)
    if args.json:
        print(json.dumps({"run": str(folder)} | result))
        return 0
    print(summary(folder, result, str(folder.parent)))
    return 0
