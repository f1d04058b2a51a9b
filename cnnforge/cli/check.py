"""``cnnforge check``: every mistake of a config at once, or the table of its layers and what is hardly meant in it.

Never reads data; folders of classes may be counted. Notes and warnings go to stderr, behind the table.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from cnnforge.cli.arguments import whole_number
from cnnforge.errors import CnnforgeError, ConfigError, ConfigErrors, ConfigWarning

if TYPE_CHECKING:
    from cnnforge.plan import Plan
    from cnnforge.report.calibration import TimeForecast
    from cnnforge.report.table import Check
    from cnnforge.spec import RunSpec


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of this command."""
    parser.add_argument("--json", action="store_true", help="print the numbers (or the errors) as JSON")
    parser.add_argument("--plan", action="store_true", help="also print every kernel call and where its memory lies")
    parser.add_argument("--strict", action="store_true", help="warnings are errors")
    parser.add_argument(
        "--time",
        action="store_true",
        help="forecast the time; measures this machine where that has not been done (calibration-*.json in the cache)",
    )
    parser.add_argument("--wide", action="store_true", help="also show jump, offset and bytes of each layer's output")
    parser.add_argument(
        "--versus-fc", action="store_true", help="also show the parameters of an fc in place of each convolution"
    )
    parser.add_argument(
        "--depth",
        type=whole_number(1),
        metavar="N",
        help="fold nested layers: stage2.1.conv1 at depth 1 is part of stage2",
    )
    parser.add_argument(
        "--compare", nargs="+", default=[], metavar="MODEL", help="put these models beside the first, a line each"
    )


def run(args: argparse.Namespace) -> int:
    """Compose, validate, print. Raises ConfigErrors with every mistake, with ``--strict`` every warning too.

    Whether the model suits the data is an error only where the data was named; otherwise it is a warning, because
    ``check model=mine`` asks about the model alone.
    """
    # ``--compare a b optimizer=sgd``: argparse cannot know where the models end and overrides go on.
    others = [word for word in args.compare if _is_name(word)]
    if args.compare and not others:
        raise ConfigError(
            "--compare names no model",
            where="cnnforge check --compare",
            why=f"{', '.join(args.compare)} is an override, not a model's name",
            fix="--compare lenet5, with the names of models as in model=NAME",
        )
    overrides = [*args.overrides, *(word for word in args.compare if not _is_name(word))]
    runs, warnings, notes = _runs(overrides, others, args)
    if args.strict and any(warnings):
        raise ConfigErrors(list(chain.from_iterable(warnings)))

    from cnnforge.report.check import plan_of, report

    plans = [plan_of(spec) for spec in runs]
    reports = [report(spec, plan) for spec, plan in zip(runs, plans, strict=True)]
    times = [_time(spec, plan, args) for spec, plan in zip(runs, plans, strict=True)]
    if args.json:
        import json

        shown = [_json(*one, args) for one in zip(reports, plans, times, warnings, strict=True)]
        print(json.dumps(shown if others else shown[0], indent=2))
    elif others:
        from cnnforge.report.table import comparison

        print(comparison(reports, [time.step if time else None for time in times] if any(times) else ()))
    else:
        from cnnforge.report.calibration import NOT_MEASURED
        from cnnforge.report.table import table

        print(table(reports[0], wide=args.wide, versus_fc=args.versus_fc, depth=args.depth))
        print(times[0] or NOT_MEASURED)
    if args.plan and not args.json:
        from cnnforge.report.plan import plan_text

        for plan in plans:
            print(f"\n{plan_text(plan)}")
    for text in notes:
        print(f"note: {text}", file=sys.stderr)
    if not args.json:
        for text in dict.fromkeys(map(str, chain.from_iterable(warnings))):
            print(f"\nwarning: {text}", file=sys.stderr)
    return 0


def _is_name(word: str) -> bool:
    return not word.startswith(("+", "~")) and "=" not in word


def _runs(
    overrides: list[str], others: list[str], args: argparse.Namespace
) -> tuple[list[RunSpec], list[list[ConfigWarning]], list[str]]:
    """The run as asked for, then the same with each other model; the warnings of each; and what was filled in.

    What the overrides say of the first model does not hold for the others.
    """
    from cnnforge.config import compose, validate, warnings

    general = [word for word in overrides if word.lstrip("+~").partition("=")[0].split(".")[0] != "model"]
    runs: list[RunSpec] = []
    errors: list[CnnforgeError] = []
    found: list[list[ConfigWarning]] = []
    notes: dict[str, None] = {}
    for words in (overrides, *([*general, f"model={name}"] for name in others)):
        try:
            composed = compose(words, config_dir=args.config_dir)
            runs.append(validate(composed, match_data="data" in composed.named))
            found.append(warnings(composed, runs[-1]))
            notes |= dict.fromkeys(composed.notes)
        except ConfigErrors as mistakes:
            errors += (error for error in mistakes.errors if str(error) not in map(str, errors))
    if errors:
        raise ConfigErrors(errors)
    return runs, found, [*notes]


def _time(spec: RunSpec, plan: Plan, args: argparse.Namespace) -> TimeForecast | None:
    """The forecast where this machine has been measured, or is to be now. What is wrong with the cache is a note."""
    if args.json and not args.time:
        return None
    from cnnforge.report.calibration import forecast_time

    forecast, notes = forecast_time(spec, plan, measure=args.time)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    return forecast


def _json(
    report: Check, plan: Plan, time: TimeForecast | None, warnings: Sequence[ConfigWarning], args: argparse.Namespace
) -> dict[str, Any]:
    said: dict[str, Any] = {"warnings": [warning.to_dict() for warning in warnings]} if warnings else {}
    if args.plan:
        from cnnforge.report.plan import plan_json

        said["plan"] = plan_json(plan)
    return report.to_json(args.versus_fc) | ({"time": time.to_json()} if time else {}) | said
