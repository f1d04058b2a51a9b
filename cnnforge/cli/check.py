"""``cnnforge check``: every mistake of a config at once, or the table of its layers. Never reads data."""

from __future__ import annotations

import argparse
import sys


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of this command."""
    parser.add_argument("--json", action="store_true", help="print the numbers (or the errors) as JSON")
    parser.add_argument("--plan", action="store_true", help="also print every kernel call and where its memory lies")


def run(args: argparse.Namespace) -> int:
    """Compose, validate, print. Raises ConfigErrors with every mistake.

    Whether the model suits the data is an error only where the data was named; otherwise it is a note, because
    ``check model=mine`` asks about the model alone.
    """
    from cnnforge.config import compose, validate

    composed = compose(args.overrides, config_dir=args.config_dir)
    data_named = "data" in composed.named
    spec = validate(composed, match_data=data_named)

    from cnnforge.report.check import check, plan_of

    report = check(spec)
    if args.json:
        import json

        print(json.dumps(report.to_json(), indent=2))
    else:
        print(report)
    if args.plan:
        from cnnforge.report.plan import plan_text

        print(f"\n{plan_text(plan_of(spec))}")
    if not data_named:
        from cnnforge.spec import data_mismatch

        for mismatch in data_mismatch(spec.model, spec.data):
            print(f"\nnote: data={spec.data.type} does not suit this model: {mismatch.what}", file=sys.stderr)
    return 0
