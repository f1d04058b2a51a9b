"""Arguments that many commands take, each said once."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cnnforge.errors import ConfigError

#: What an argument RUN may be.
RUN = "run folder, MLflow run id, run name or 'latest'"


def add_run(parser: argparse.ArgumentParser, saved_too: bool = False) -> None:
    """``RUN``, as ``name``, and where runs lie. saved_too: may it be a saved model as well?"""
    text = RUN.replace(" or ", ", ") + " or a saved model" if saved_too else RUN
    parser.add_argument("name", metavar="RUN", help=text)
    add_runs_folder(parser)


def add_runs_folder(parser: argparse.ArgumentParser) -> None:
    """``--dir``."""
    parser.add_argument("--dir", type=Path, default=Path("runs"), help="folder of the runs (default: %(default)s)")


def add_config_dir(parser: argparse.ArgumentParser) -> None:
    """``--config-dir``."""
    parser.add_argument(
        "--config-dir", type=Path, metavar="DIR", help="your own config groups (default: ./configs where it exists)"
    )


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """What reads a number of things: digits alone, between these bounds."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least or (most is not None and int(text) > most):
            above = "above 0" if least == 1 else f"of {least} or more"
            bounds = above if most is None else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number {bounds}")
        return int(text)

    return read


@contextmanager
def writing(
    out: Path | str, where: str, fix: str = "a file in a folder that exists and may be written to"
) -> Iterator[None]:
    """Writing what ``--out`` names. Raises ConfigError where the machine refuses it."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{out} cannot be written", where=where, why=error.strerror or str(error), fix=fix) from None
