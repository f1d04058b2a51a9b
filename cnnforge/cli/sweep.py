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
    from cnnforge.sweep.check import CheckedSpace
    from cnnforge.sweep.trials import Outcome

#: The word by which a sweep is gone on with.
RESUME = "resume="


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
    parser.add_argument("--retry", action="store_true", help="with resume=SWEEP: try trials that failed once more")


def run(args: argparse.Namespace) -> int:
    """Check, print, and without ``--check`` train. Returns the exit code."""
    words = list(args.overrides)
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
    from cnnforge.sweep.trials import failure_of
    from cnnforge.sweep.view import PlainView

    if folder is None:
        folder = begin(space)
        write_begun(folder, overrides, config_dir)
    outcome = run(space, PlainView(stream), folder, retry=retry)
    if as_json:
        print(json.dumps({"run": str(outcome.folder)} | outcome.to_json(), indent=2))
    else:
        print("\n".join(_summary(space, outcome)))
    if not any(trial.state == "finished" for trial in outcome.trials.values()):
        raise failure_of(outcome)
    return 0


def _runs(words: list[str]) -> Path:
    """The folder of all runs, as far as the words say."""
    given = [word.removeprefix("run.dir=") for word in words if word.startswith("run.dir=")]
    return Path(given[-1] if given else "runs")


def _summary(space: CheckedSpace, outcome: Outcome) -> Iterator[str]:
    """The trials from the best on, and where to look."""
    from cnnforge.cli.train import own_command
    from cnnforge.report.table import aligned
    from cnnforge.sweep.table import short_names, text
    from cnnforge.sweep.trials import BEST
    from cnnforge.sweep.view import shown

    keys, goals = list(space.spec.space), [goal.metric for goal in outcome.objective]
    done = [(outcome.scores(trial) or [], trial) for trial in outcome.finished]
    sign = -1 if outcome.objective[0].maximizes else 1
    done.sort(key=lambda pair: sign * pair[0][0])
    best = [trial.number for trial in outcome.best]
    rows = [["trial", *short_names(keys), *goals, ""]]
    for scores, trial in done[:20]:
        values = [text(trial.point.values[key]) if key in trial.point.values else "" for key in keys]
        spread = [trial.result.get(f"{goal}_deviation") for goal in goals]
        numbers = [
            shown(goal, value) + (f" ± {shown(goal, more)}" if more is not None else "")
            for goal, value, more in zip(goals, scores, spread, strict=True)
        ]
        rows.append([str(trial.number), *values, *numbers, "best" if trial.number in best else ""])
    yield ""
    yield from aligned(rows, left=("",))
    others = [
        f"{outcome.count(state)} {state}" for state in ("pruned", "failed", "killed", "waiting", "dropped", "same")
        if outcome.count(state)
    ]  # fmt: skip
    yield ""
    yield f"trials        {', '.join([f'{len(done)} finished', *others])}, {outcome.seconds:.1f} s"
    yield f"sweep folder  {os.path.relpath(outcome.folder)}/"
    if best:
        yield f"train the best  {own_command()} train {os.path.relpath(outcome.folder / BEST)}"
    if outcome.count("killed", "waiting"):
        yield f"go on         {own_command()} sweep resume={outcome.folder.name}"
    runs = str(outcome.folder.parent)
    yield f"look at it    {own_command()} ui" + (f" --dir {runs}" if runs != "runs" else "")
