"""``cnnforge draw``: a picture of a network, from its spec alone."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from cnnforge.cli.arguments import whole_number, writing
from cnnforge.errors import ConfigError

_ENDINGS = (".svg", ".png")


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of this command."""
    parser.description = (
        "Draw the network: volumes that shrink in height and width and grow in channels, or blocks and the wires "
        "between them, repetitions once with a count. Reads no data."
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="the picture: .svg or .png (default: MODEL.svg)")
    parser.add_argument(
        "--kind",
        choices=("auto", "volumes", "blocks"),
        default="auto",
        help="auto: volumes where the net is straight and not too long, blocks elsewhere",
    )
    parser.add_argument(
        "--depth",
        type=whole_number(1),
        metavar="N",
        help="one box for nested layers: stage2.1.conv1 at depth 1 is in stage2",
    )


def run(args: argparse.Namespace) -> int:
    """Compose, validate, draw. Returns the exit code."""
    if args.out is not None and args.out.suffix.lower() not in _ENDINGS:
        raise ConfigError(
            f"--out {args.out} ends in neither .svg nor .png",
            where="cnnforge draw --out",
            why="the ending says how the picture is written",
            fix=f"--out {Path(args.out.name or 'net').with_suffix('.svg')}",
        )
    from cnnforge.config import compose, validate
    from cnnforge.report.diagram import diagram

    model = validate(compose(args.overrides, config_dir=args.config_dir), match_data=False).model
    picture = diagram(model, args.kind, args.depth)
    out = args.out or Path(f"{model.name}.svg")
    with writing(out, "cnnforge draw --out"):
        if out.suffix.lower() == ".png":
            from cnnforge.report.diagram.png import save_png

            save_png(picture, out)
        else:
            from cnnforge.report.diagram.svg import svg

            out.write_text(svg(picture), "utf-8")
    print(f"{os.path.relpath(out)}: {picture.title}")
    return 0
