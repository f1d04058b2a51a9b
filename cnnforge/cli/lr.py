"""``cnnforge lr``: a short run over which the learning rate grows, to see at which it learns."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from cnnforge.errors import ConfigError


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of this command."""
    parser.description = (
        "Train a few batches while the learning rate grows, and say at which the loss falls fastest (Smith, 2017). "
        "Nothing is kept but the picture."
    )
    parser.add_argument("--from", dest="least", type=float, default=1e-6, metavar="LR", help="(default: %(default)g)")
    parser.add_argument("--to", dest="most", type=float, default=10.0, metavar="LR", help="(default: %(default)g)")
    parser.add_argument("--steps", type=int, default=200, help="batches to train (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("lr.png"), help="the picture: .png or .svg (default: lr.png)")
    parser.add_argument("--json", action="store_true", help="print every point as JSON, and nothing else, on stdout")


def run(args: argparse.Namespace) -> int:
    """Compose, validate, search, draw. Returns the exit code."""
    _check(args)
    from cnnforge.config import compose, validate

    composed = compose(args.overrides, config_dir=args.config_dir)
    spec = validate(composed)
    for text in composed.notes:
        print(text, file=sys.stderr)
    # An update for every batch: what the rate does shows in the next one.
    spec = spec.model_copy(update={"trainer": spec.trainer.model_copy(update={"accumulate": 1})})

    from cnnforge.cli.console import make_console
    from cnnforge.data import load
    from cnnforge.report.lr_plot import draw
    from cnnforge.train.lr_finder import search
    from cnnforge.train.ranks import ALONE
    from cnnforge.train.setup import backend_of, set_up
    from cnnforge.train.signals import StopRequest
    from cnnforge.train.transfer import transfer

    console = make_console(sys.stderr if args.json else sys.stdout)
    data = load(spec.data, spec.model.input, spec.seed, console.note)
    made = set_up(spec, data, backend_of(spec, ALONE), console.note, console.compiling, {})
    if taken := transfer(spec, made.train.weights):
        for note in taken.notes:
            console.note(note)
    with StopRequest() as stop:

        def stopping() -> None:
            if stop.reason is not None:
                raise stop.reason

        found = search(made, spec.optimizer, args.least, args.most, args.steps, stopping)
    title = f"{spec.model.name} on {spec.data.type}: {spec.optimizer.type}, batches of {spec.trainer.batch_size}"
    draw(args.out, title, found.rates, found.losses, found.smooth, found.steepest, found.lowest)
    if args.json:
        points = [dict(zip(("lr", "loss", "smooth"), point, strict=True))
                  for point in zip(found.rates, found.losses, found.smooth, strict=True)]  # fmt: skip
        print(json.dumps({"steepest": found.steepest, "lowest": found.lowest, "points": points}))
        return 0
    where = f"fastest at {found.steepest:.2g} and is lowest at {found.lowest:.2g}"
    print(f"the loss falls {where}, after {len(found.rates)} batches")
    print(f"try it:   optimizer.lr={found.steepest:.2g}")
    print(f"picture:  {os.path.relpath(args.out)}")
    return 0


def _check(args: argparse.Namespace) -> None:
    if not 0 < args.least < args.most:
        raise ConfigError(
            f"--from {args.least:g} --to {args.most:g}: there is nothing between them",
            where="cnnforge lr",
            why="the learning rate grows from the first to the second, both above 0",
            fix="--from 1e-6 --to 10",
        )
    if args.steps < 20:
        raise ConfigError(
            f"--steps {args.steps}: too few to see a slope", where="cnnforge lr --steps", why="at least 20 are needed",
            fix="--steps 200",
        )  # fmt: skip
    if args.out.suffix not in (".png", ".svg") or not args.out.parent.is_dir():
        raise ConfigError(
            f"--out {args.out}: cannot be drawn", where="cnnforge lr --out",
            why="the ending says the format, .png or .svg, and the folder must be there", fix="--out lr.png",
        )  # fmt: skip
