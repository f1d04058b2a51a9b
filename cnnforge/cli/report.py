"""``cnnforge report RUN``: a run's report again, or for the first time."""

from __future__ import annotations

import argparse
import os
import sys

from cnnforge.cli.arguments import add_run


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of this command."""
    parser.description = (
        "Make a run's report.html, one file that opens from disk without network, its plots/ and its card.md. "
        "A run makes them by itself when it is done; this does it again, and for runs that were cut off and for trials "
        "of sweeps."
    )
    add_run(parser)


def run(args: argparse.Namespace) -> int:
    """Find the run, make its report, say where it is. Returns the exit code."""
    from cnnforge.inference.overview import make_report
    from cnnforge.tracking.finding import find_run

    paths, notes = make_report(find_run(args.name, args.dir))
    for path in paths:
        print(os.path.relpath(path))
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    return 0
