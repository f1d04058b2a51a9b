"""``cnnforge check``: every mistake of a config at once, or the table of its layers and what is hardly meant in it.

Never reads data. Warnings go to stderr, behind the table.
"""

from __future__ import annotations

import argparse
import sys

from cnnforge.errors import ConfigErrors


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of this command."""
    parser.add_argument("--json", action="store_true", help="print the numbers (or the errors) as JSON")
    parser.add_argument("--plan", action="store_true", help="also print every kernel call and where its memory lies")
    parser.add_argument("--strict", action="store_true", help="warnings are errors")


def run(args: argparse.Namespace) -> int:
    """Compose, validate, print. Raises ConfigErrors with every mistake, with ``--strict`` every warning too.

    Whether the model suits the data is an error only where the data was named; otherwise it is a warning, because
    ``check model=mine`` asks about the model alone.
    """
    from cnnforge.config import compose, validate, warnings

    composed = compose(args.overrides, config_dir=args.config_dir)
    spec = validate(composed, match_data="data" in composed.named)
    found = warnings(composed, spec)
    if args.strict and found:
        raise ConfigErrors(found)

    from cnnforge.report.check import check, plan_of

    report = check(spec)
    if args.json:
        import json

        said = {"warnings": [warning.to_dict() for warning in found]} if found else {}
        print(json.dumps(report.to_json() | said, indent=2))
    else:
        print(report)
    if args.plan:
        from cnnforge.report.plan import plan_text

        print(f"\n{plan_text(plan_of(spec))}")
    if not args.json:
        for warning in found:
            print(f"\nwarning: {warning}", file=sys.stderr)
    return 0
