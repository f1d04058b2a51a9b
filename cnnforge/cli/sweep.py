"""``cnnforge sweep``: check a whole space of configs, then train each point that can be trained."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cnnforge.errors import ConfigError

if TYPE_CHECKING:
    from cnnforge.sweep.report import Report

#: The words by which a sweep is gone on with, and by which it is only looked at.
RESUME, REPORT = "resume=", "report"


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of this command."""
    parser.description = (
        "Check a whole space of configs, then train each point. The space is a config, sweep=NAME, or overrides with "
        "several values: model=lenet,lenet5 optimizer.lr=0.1,0.01 seed=range(0,3) 'optimizer.lr=interval(1e-4,0.1)'. "
        "resume=SWEEP goes on with a sweep that was stopped or killed; report SWEEP prints what came of one."
    )
    parser.add_argument("--check", action="store_true", help="check every point and stop")
    parser.add_argument("--json", action="store_true", help="print everything as JSON, and nothing else, on stdout")
    parser.add_argument("--time", action="store_true", help="forecast the time; measures this machine where needed")
    parser.add_argument("--dir", type=Path, help="with report SWEEP: the folder of the runs (default: runs)")
    parser.add_argument("--retry", action="store_true", help="with resume=SWEEP: try trials that failed once more")


def run(args: argparse.Namespace) -> int:
    """Check, print, and without ``--check`` train. Returns the exit code."""
    words = list(args.overrides)
    if words[:1] == [REPORT]:
        return _report(words[1:], args)
    if args.dir is not None:
        raise ConfigError(
            "--dir without report SWEEP", where="cnnforge sweep --dir", why="a sweep to be run goes where run.dir says",
            fix="run.dir=DIR",
        )  # fmt: skip
    resumed = [word.removeprefix(RESUME) for word in words if word.startswith(RESUME)]
    if args.retry and not resumed:
        raise ConfigError(
            "--retry without resume=SWEEP", where="cnnforge sweep --retry", why="it is about trials that have failed",
            fix="cnnforge sweep resume=SWEEP --retry; sweep.retry=1 tries again at once",
        )  # fmt: skip
    if not resumed:
        return sweep(words, args.config_dir, args.json, only_check=args.check, measure=args.time)
    from cnnforge.sweep.record import find_sweep, read_begun

    words = [word for word in words if not word.startswith(RESUME)]
    folder = find_sweep(resumed[-1], _runs(words))
    begun, config_dir = read_begun(folder)
    return sweep(
        [*begun, *words], config_dir, args.json, only_check=args.check, measure=args.time, folder=folder,
        retry=args.retry,
    )  # fmt: skip


def sweep(
    overrides: list[str],
    config_dir: Path | None,
    as_json: bool,
    only_check: bool = False,
    measure: bool = False,
    folder: Path | None = None,
    retry: bool = False,
) -> int:
    """As the command; ``cnnforge train -m`` is the same with another name.

    folder: of a sweep to go on with;  retry: its failed trials too
    Raises ConfigErrors before the first trial for what is wrong with the sweep; where no trial finished, what the
    first of them failed of.
    """
    from cnnforge.config import compose_sweep
    from cnnforge.sweep.check import checked
    from cnnforge.sweep.table import table, to_json

    composed = compose_sweep(overrides, config_dir=config_dir)
    space = checked(composed, measure)
    if only_check:
        print(json.dumps(to_json(space), indent=2) if as_json else table(space))
        return 0
    stream = sys.stderr if as_json else sys.stdout
    if folder is None:
        print(table(space), end="\n\n", file=stream, flush=True)

    from cnnforge.sweep.driver import begin, run
    from cnnforge.sweep.record import write_begun
    from cnnforge.sweep.report import report_of
    from cnnforge.sweep.trials import failure_of
    from cnnforge.sweep.view import make_view

    if folder is None:
        folder = begin(space)
        write_begun(folder, overrides, config_dir)
    outcome = run(space, make_view(stream), folder, retry=retry)
    _print(report_of(outcome), as_json)
    if not any(trial.state == "finished" for trial in outcome.trials.values()):
        raise failure_of(outcome)
    return 0


def _runs(words: list[str]) -> Path:
    """The folder of all runs, as far as the words say."""
    given = [word.removeprefix("run.dir=") for word in words if word.startswith("run.dir=")]
    return Path(given[-1] if given else "runs")


def _report(words: list[str], args: argparse.Namespace) -> int:
    """Print what came of a sweep so far, and draw its pictures. A driver that works on it is not disturbed."""
    if len(words) != 1 or args.check or args.time or args.retry or args.config_dir is not None:
        raise ConfigError(
            "report is about one sweep that is there", where="cnnforge sweep report",
            why=f"{len(words)} were named" if len(words) != 1 else "the other flags are about sweeps to be run",
            fix="cnnforge sweep report SWEEP, with --json or --dir DIR",
        )  # fmt: skip
    from cnnforge.sweep.plots import draw
    from cnnforge.sweep.record import find_sweep
    from cnnforge.sweep.report import read_report

    report = read_report(find_sweep(words[0], args.dir or Path("runs")))
    try:
        draw(report)
    except OSError as error:  # of another person, or on a disk that is full
        print(f"the pictures cannot be written: {error.strerror or error}", file=sys.stderr)
    _print(report, args.json)
    return 0


def _print(report: Report, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"run": str(report.folder)} | report.to_json(), indent=2))
        return
    from cnnforge.sweep.summary import summary

    print("\n".join(["", *summary(report), *_where_to_look(report)]))


def _where_to_look(report: Report) -> Iterator[str]:
    from cnnforge.cli.train import own_command
    from cnnforge.sweep.plots import FOLDER
    from cnnforge.sweep.trials import BEST

    yield f"sweep folder  {os.path.relpath(report.folder)}/"
    if any((report.folder / FOLDER).glob("*.png")):
        yield f"pictures      {os.path.relpath(report.folder / FOLDER)}/"
    if report.best:
        yield f"train best    {own_command()} train {os.path.relpath(report.folder / BEST)}"
    if not report.alive and report.of("killed", "waiting"):
        yield f"go on         {own_command()} sweep resume={report.folder.name}"
    runs = os.path.relpath(report.folder.parent)
    yield f"look at it    {own_command()} ui" + (f" --dir {runs}" if runs != "runs" else "")
