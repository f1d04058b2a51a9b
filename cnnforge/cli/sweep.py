"""``cnnforge sweep``: check a whole space of configs, then train each point that can be trained."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cnnforge.sweep.check import CheckedSpace
    from cnnforge.sweep.driver import Outcome


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of this command."""
    parser.description = (
        "Check a whole space of configs, then train each point. The space is a config, sweep=NAME, or overrides with "
        "several values: model=lenet,lenet5 optimizer.lr=0.1,0.01 seed=range(0,3) 'optimizer.lr=interval(1e-4,0.1)'."
    )
    parser.add_argument("--check", action="store_true", help="check every point and stop")
    parser.add_argument("--json", action="store_true", help="print everything as JSON, and nothing else, on stdout")
    parser.add_argument("--time", action="store_true", help="forecast the time; measures this machine where needed")


def run(args: argparse.Namespace) -> int:
    """Check, print, and without ``--check`` train. Returns the exit code."""
    return sweep(args.overrides, args.config_dir, args.json, only_check=args.check, measure=args.time)


def sweep(
    overrides: list[str], config_dir: Path | None, as_json: bool, only_check: bool = False, measure: bool = False
) -> int:
    """As the command; ``cnnforge train -m`` is the same with another name.

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
    print(table(space), end="\n\n", file=sys.stderr if as_json else sys.stdout, flush=True)

    from cnnforge.cli.console import make_console
    from cnnforge.sweep import driver

    console = make_console(sys.stderr if as_json else sys.stdout)
    outcome = driver.run(space, console)
    if as_json:
        print(json.dumps({"run": str(outcome.folder)} | outcome.to_json(space), indent=2))
    else:
        print("\n".join(_summary(space, outcome)))
    if not any(trial.state == "finished" for trial in outcome.trials):
        raise driver.first_failure(outcome)
    return 0


def _summary(space: CheckedSpace, outcome: Outcome) -> Iterator[str]:
    """The trials from the best on, and where to look."""
    from cnnforge.cli.train import own_command
    from cnnforge.report.table import aligned
    from cnnforge.sweep.table import short_names, text

    keys, goals = list(space.spec.space), [goal.metric for goal in outcome.objective]
    done = [(scores, trial) for trial in outcome.trials if (scores := outcome.scores(trial)) is not None
            and trial.state == "finished"]  # fmt: skip
    sign = -1 if outcome.objective[0].maximizes else 1
    done.sort(key=lambda pair: sign * pair[0][0])
    best = [trial.point.number for trial in outcome.best]
    rows = [["trial", *short_names(keys), *goals, ""]]
    for scores, trial in done[:20]:
        values = [text(trial.point.values[key]) if key in trial.point.values else "" for key in keys]
        spread = [trial.result.get(f"{goal}_deviation") for goal in goals]
        numbers = [_number(goal, value, more) for goal, value, more in zip(goals, scores, spread, strict=True)]
        rows.append([str(trial.point.number), *values, *numbers, "best" if trial.point.number in best else ""])
    yield ""
    yield from aligned(rows, left=("",))
    failed = sum(trial.state == "failed" for trial in outcome.trials)
    yield ""
    yield f"trials        {len(done)} finished{f', {failed} failed' if failed else ''}, {outcome.seconds:.1f} s"
    yield f"sweep folder  {os.path.relpath(outcome.folder)}/"
    runs = str(outcome.folder.parent)
    yield f"look at it    {own_command()} ui" + (f" --dir {runs}" if runs != "runs" else "")


def _number(metric: str, value: float, deviation: float | None) -> str:
    if metric.endswith("accuracy"):
        return f"{value:.2%}" + (f" ± {deviation:.2%}" if deviation is not None else "")
    shown = f"{value:,.0f}" if value == int(value) else f"{value:.4f}"
    return shown + (f" ± {deviation:.4f}" if deviation is not None else "")
