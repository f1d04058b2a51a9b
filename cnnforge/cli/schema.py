"""``cnnforge schema``: what configs may say, as JSON Schema, so that editors complete and underline."""

from __future__ import annotations

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of this command."""
    parser.add_argument("group", nargs="?", metavar="GROUP", help="model, data, …, experiment, train (default: all)")
    parser.add_argument(
        "--write", type=Path, metavar="DIR", help="write DIR/.schema/GROUP.json; DIR is a folder of config groups"
    )
    parser.epilog = (
        "a file says which schema it follows in a comment:\n"
        "  # yaml-language-server: $schema=../.schema/model.json     (in DIR/model/mine.yaml)"
    )


def run(args: argparse.Namespace) -> int:
    """Print one group's schema, or all of them by name; or write them. Raises ConfigError for an unknown group."""
    from cnnforge.config.json_schema import groups, json_schema, text, write

    schemas = {group: json_schema(group) for group in ([args.group] if args.group else groups())}
    if args.write is not None:
        for file in write(schemas, args.write):
            print(file)
    else:
        print(text(schemas[args.group] if args.group else schemas), end="")
    return 0
