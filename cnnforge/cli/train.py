"""``cnnforge train``: train one run and say where to look."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnforge.errors import ConfigError

if TYPE_CHECKING:
    from cnnforge.config.composed import Composed
    from cnnforge.train.ranks import Ranks


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of this command."""
    parser.description = (
        "Train one run: of configs by name and overrides, or of a whole config, FILE.yaml, and what changes in it."
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON, and nothing else, on stdout")
    parser.add_argument(
        "-m", "--multirun", action="store_true", help="a run for each of several values, as cnnforge sweep does"
    )


def run(args: argparse.Namespace) -> int:
    """Compose, validate, train. Returns the exit code."""
    if args.multirun:
        from cnnforge.cli.sweep import sweep

        return sweep(args.overrides, args.config_dir, args.json)
    from cnnforge.train.distributed import led

    return led(lambda ranks: _lead(args, ranks))


def _lead(args: argparse.Namespace, ranks: Ranks) -> int:
    from cnnforge.config import validate, warnings

    composed = _composed(args.overrides, args.config_dir)
    spec = validate(composed)
    if spec.sweep is not None:
        raise ConfigError(
            f"sweep {spec.sweep.name} is many runs, and this command trains one",
            where=composed.where(("sweep",)),
            why="which of its points is meant is not said",
            fix="cnnforge sweep, or cnnforge train -m, with the same words",
        )

    from cnnforge.cli.console import make_console
    from cnnforge.inference.overview import after
    from cnnforge.train.run import run as run_training

    console = make_console(sys.stderr if args.json else sys.stdout)
    for text in composed.notes:
        console.note(text)
    for warning in warnings(composed, spec):
        console.note(f"warning: {warning}\n")
    if spec.data.folds is not None and spec.data.fold is None:
        refuse_folds(ranks)
        from cnnforge.train.folds import cross_validate

        folder, result = cross_validate(spec, console, after)
    else:
        folder, result = run_training(spec, console, ranks=ranks, after=after)
    if args.json:
        print(json.dumps({"run": str(folder)} | result))
        return 0
    print(summary(folder, result, spec.run.dir))
    return 0


def _composed(words: list[str], config_dir: Path | None) -> Composed:
    """The config that the words make: of the groups' files, or of a run's whole one and what changes in it."""
    from cnnforge.config import compose, read_run

    files = [word for word in words if word.endswith(".yaml") and "=" not in word]
    if not files:
        return compose(words, config_dir=config_dir)
    others = [word for word in words if word not in files]
    if len(files) > 1 or not Path(files[0]).is_file():
        raise ConfigError(
            f"{files[-1]}: no such file" if len(files) == 1 else f"{len(files)} configs for one run",
            where="cnnforge train FILE.yaml", why="a run is trained from one whole config, such as RUN/config.yaml",
            fix="the path of one file, or names of configs: cnnforge train model=NAME",
        )  # fmt: skip
    return read_run(Path(files[0]), others)


def refuse_folds(ranks: Ranks) -> None:
    """Raise ConfigError where several processes would train folds."""
    if ranks.size > 1:
        raise ConfigError(
            f"cross-validation does not run over {ranks.size} processes",
            where="data.folds",
            why="each fold is a training of its own",
            fix="one fold at a time, data.fold=1 and so on, or cnnforge train without mpiexec",
        )


def summary(folder: Path, result: dict[str, Any], runs: str) -> str:
    """The short table at the end of a run."""
    rows = []
    if "folds" in result:
        for name, text in (("val_accuracy", "validation"), ("val_loss", "validation loss"), ("test_accuracy", "test")):
            if name in result:
                spread = result[f"{name}_deviation"]
                numbers = (f"{result[name]:.2%} ± {spread:.2%}" if "accuracy" in name
                           else f"{result[name]:.4f} ± {spread:.4f}")  # fmt: skip
                rows.append((text, f"{numbers} over {result['folds']} folds"))
    elif "test_accuracy" in result:
        rows.append(("test accuracy", f"{result['test_accuracy']:.2%}"))
    elif "test_loss" in result:
        rows.append(("test loss", f"{result['test_loss']:.6g}"))
    rows.append(("time", f"{result['wall_seconds']:.1f} s, {result['samples_per_second']:,.0f} samples/s"))
    rows.append(("run folder", f"{os.path.relpath(folder)}/"))
    if (folder / "report.html").is_file():
        rows.append(("report", os.path.relpath(folder / "report.html")))
    folds = "folds" in result
    look = "ui" if folds or "mlflow_run_id" in result else f"runs show {folder.name}"  # untracked, MLflow lacks it
    where = str(folder) if folds else runs  # folds have a database of their own
    rows.append(("look at it", f"{own_command()} {look}" + (f" --dir {where}" if where != "runs" else "")))
    width = max(len(name) for name, _ in rows)
    return "\n" + "\n".join(f"{name:<{width}}  {text}" for name, text in rows)


def own_command() -> str:
    """What to type to run cnnforge again: its name where the shell would find this very one, else its path."""
    program = Path(sys.argv[0])
    if program.name != "cnnforge":
        return "python -m cnnforge"
    found = shutil.which("cnnforge")
    if found is not None and Path(found).resolve() == program.resolve():
        return "cnnforge"
    return os.path.relpath(program)
