"""``cnnforge evaluate RUN``: how well a trained model does, on its own data or on others."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cnnforge.cli.arguments import add_config_dir, add_run, whole_number
from cnnforge.errors import ConfigError, ConfigErrors

if TYPE_CHECKING:
    from cnnforge.spec import DataSpec


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of this command."""
    parser.description = (
        "How well a run's model does: loss, accuracy, each class, what is taken for what. On the run's own test "
        "samples, or on other data of the same classes: data=image_folder data.path=new, of which nothing is cut off. "
        "Pictures become network input as they did in training."
    )
    add_run(parser)
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="other data: data=NAME, data.key=value")
    parser.add_argument(
        "--split", choices=("test", "validation", "train"), help="which samples (default: the first of these there are)"
    )
    parser.add_argument(
        "--wrong",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="also the N mistakes it was surest of, or numbers furthest off",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print everything as JSON, with the numbers in full")
    form.add_argument("--csv", action="store_true", help="print the classes, or with --wrong the mistakes, as CSV")
    add_config_dir(parser)


def run(args: argparse.Namespace) -> int:
    """Find, read, evaluate, print. Returns the exit code."""
    from cnnforge.tracking.finding import find_run
    from cnnforge.train.record import read_record

    record = read_record(find_run(args.name, args.dir))
    data = _data(record.folder, args.overrides, args.config_dir)

    from cnnforge.inference.evaluation import evaluate_split
    from cnnforge.inference.predict import for_many
    from cnnforge.inference.samples import samples
    from cnnforge.inference.scores import class_rows, mistake_rows, text, to_json
    from cnnforge.model import Model
    from cnnforge.tracking.family import name_of

    def note(said: str) -> None:
        print(f"note: {said}", file=sys.stderr)

    model = Model.load(record.folder, "numpy")
    said = [word.lstrip("+~").partition("=")[0].removeprefix("data.") for word in args.overrides]
    chosen = samples(record.spec, data, model, args.split, said=said, tell=note)
    for line in chosen.notes:
        note(line)
    if not args.overrides and record.digest not in (None, chosen.digest):
        note(f"{chosen.source} is not what it was when {name_of(record.folder)} was trained")
    model = for_many(model, record.folder, len(chosen))
    found = evaluate_split(model, chosen.x, chosen.y, loss=chosen.loss)
    if args.json:
        import json

        about = {"run": str(record.folder), "model": model.spec.name, "data": chosen.name, "source": chosen.source}
        print(json.dumps(about | {"split": chosen.part} | to_json(found, args.wrong, chosen.files), indent=2))
    elif args.csv:
        import csv

        rows = mistake_rows(found, args.wrong, chosen.files, exact=True) if args.wrong else class_rows(found)
        csv.writer(sys.stdout, lineterminator="\n").writerows(rows)
    else:
        print(f"{name_of(record.folder)} on {chosen.name}, {chosen.part}: {len(chosen):,} samples\n")
        print(text(found, args.wrong, chosen.files))
    return 0


def _data(folder: Path, words: list[str], config_dir: Path | None) -> DataSpec:
    """The data that the words name, over the run's own where they choose no others. Raises ConfigErrors."""
    from cnnforge.config import compose, read_run, validate

    keys = [word.lstrip("+~").partition("=")[0] for word in words]
    if strange := [word for word, key in zip(words, keys, strict=True) if key.split(".")[0] != "data"]:
        raise ConfigErrors([
            ConfigError(
                f"{word} does not change the data", where=f"cnnforge evaluate {word}",
                why="the model is what the run made it, and only the data can be others",
                fix="data=NAME or data.key=value; cnnforge train for another model",
            )
            for word in strange
        ])  # fmt: skip
    config = folder / "config.yaml"
    if "data" not in keys:
        return validate(read_run(config, words), match_data=False).data
    composed = compose(words, config_dir=config_dir)
    tree = read_run(config).tree | {"data": composed.tree["data"]}
    return validate(replace(composed, tree=tree), match_data=False).data
