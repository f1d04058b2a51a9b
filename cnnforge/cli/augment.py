"""``cnnforge augment``: what training will see, as a picture to look at before any training."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cnnforge.cli.arguments import whole_number, writing
from cnnforge.errors import ConfigError


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of this command."""
    parser.add_argument("--out", default="augment.png", metavar="FILE", help="the picture, .png (default: augment.png)")
    parser.add_argument(
        "--samples", type=whole_number(1, 100), default=8, metavar="N", help="rows, a training picture each (8)"
    )
    parser.add_argument(
        "--epochs", type=whole_number(1, 100), default=8, metavar="N", help="columns behind the original (8)"
    )


def run(args: argparse.Namespace) -> int:
    """Compose, validate, load, draw. Returns the exit code."""
    if Path(args.out).suffix.lower() != ".png":
        raise ConfigError(
            f"--out {args.out} does not end in .png",
            where="cnnforge augment --out",
            why="pictures are written as PNG",
            fix=f"--out {Path(args.out or 'augment').with_suffix('.png')}",
        )
    from cnnforge.config import compose, validate

    composed = compose(args.overrides, config_dir=args.config_dir)
    spec = validate(composed)
    for text in composed.notes:
        print(text, file=sys.stderr)

    from cnnforge.backends import create
    from cnnforge.data import load
    from cnnforge.report.contact_sheet import contact_sheet, save

    data = load(spec.data, spec.model.input, spec.seed)
    for note in data.notes:
        print(note, file=sys.stderr)
    backend = create(spec.trainer.backend, threads=1, device=spec.trainer.device)
    sheet = contact_sheet(data, spec.augment, spec.seed, args.samples, args.epochs, backend)
    with writing(args.out, "cnnforge augment --out"):
        save(sheet, args.out)
    rows = min(args.samples, len(data.train))
    print(f"{args.out}: {rows} training pictures in rows, first as they are, then in epochs 1 to {args.epochs}")
    return 0
