"""``cnnforge predict RUN FILE…``: what a trained model says of picture files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnforge.cli.arguments import add_run, whole_number, writing
from cnnforge.errors import ConfigError, DataError

if TYPE_CHECKING:
    from cnnforge.inference.predict import Answer, Task
    from cnnforge.model import Model

#: Where explanations go unless it is said.
OUT = "explained"
#: Where an explanation that cannot be written was asked for, and what mends it.
_OUT = ("cnnforge predict --out", "--out DIR, a folder that may be written to")
#: Passes through the net that explaining one picture takes, about.
EXPLAINING = 150


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of this command."""
    parser.description = (
        "What a trained model says of picture files: the most probable classes, yes or no, or the numbers of a "
        "regression. A file that cannot be read is named and the others go on; the exit code is then 3."
    )
    add_run(parser, saved_too=True)
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="picture files; folders, with all pictures below; - for standard input"
    )
    parser.add_argument(
        "--top", type=whole_number(1), default=3, metavar="K", help="classes to name (default: %(default)s)"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the answers as JSON, with the numbers in full")
    form.add_argument("--csv", action="store_true", help="print a line of comma-separated values for each file")
    parser.add_argument(
        "--explain", action="store_true", help="also draw for each file what of the picture mattered, as PNG"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"with --explain: where to (default: {OUT})")


def run(args: argparse.Namespace) -> int:
    """Load, read, answer, print. Returns the exit code: 3 where a file could not be read."""
    if args.out is not None and not args.explain:
        raise ConfigError(
            "--out without --explain", where="cnnforge predict --out", why="answers go to standard output",
            fix="--explain --out DIR; cnnforge predict … --csv > FILE keeps the answers",
        )  # fmt: skip
    from cnnforge.inference.predict import STDIN, answers, load, picture_files

    if args.files.count(STDIN) > 1:
        raise ConfigError(
            "- is there twice", where="cnnforge predict", why="standard input is one picture", fix="name it once"
        )
    files = list(picture_files(args.files))
    from cnnforge.tracking.finding import find_model

    model = load(find_model(args.name, args.dir), len(files) * (EXPLAINING if args.explain else 1))
    drawn = _Drawn(args.out or Path(OUT)) if args.explain else None
    told: list[Answer] = []
    for answer in answers(model, files, sys.stdin.buffer.read):
        if drawn is not None and answer.picture is not None:
            drawn.draw(len(told), model, answer)
        told.append(replace(answer, picture=None))  # a folder's pictures need not all be kept
    _print(model, told, args, drawn.files if drawn is not None else {})
    return DataError.exit_code if any(answer.trouble for answer in told) else 0


def _print(model: Model, told: Sequence[Answer], args: argparse.Namespace, drawn: Mapping[int, Path]) -> None:
    from cnnforge.inference.predict import class_names, task

    kind, names = task(model), class_names(model)
    if args.json:
        import json

        shown = [
            _json(answer, kind, names, args.top) | ({"explanation": str(drawn[i])} if i in drawn else {})
            for i, answer in enumerate(told)
        ]
        print(json.dumps(shown, indent=2))
        return
    if args.csv:
        import csv

        csv.writer(sys.stdout, lineterminator="\n").writerows(_lines(told, kind, names, args.top))
    elif answered := [answer for answer in told if answer.values is not None]:
        print("\n".join(_table(answered, kind, names, args.top)))
    for answer in told:
        if answer.trouble:
            print(f"{answer.file}: {answer.trouble}", file=sys.stderr)
    if drawn:
        print(f"explained in {next(iter(drawn.values())).parent}/", file=sys.stderr if args.csv else sys.stdout)


def _table(told: Sequence[Answer], kind: Task, names: Sequence[str], top: int) -> list[str]:
    """For people: a line for each file that has an answer, below a heading."""
    from cnnforge.inference.predict import says_yes
    from cnnforge.report.table import aligned

    words = ["file"]
    if kind == "classes":
        places = [str(i) for i in range(1, min(top, len(names)) + 1)]
        words += places
        head = ["file", *(cell for place in places for cell in (place, ""))]
    elif kind == "yes_or_no":
        words += ["answer"]
        head = ["file", "answer", f"probability of {names[0]}"]
    else:
        head = ["file", *(names if kind == "tags" or len(names) > 1 else ["output"])]
    rows = [head]
    for answer in told:
        assert answer.values is not None
        if kind == "classes":
            cells = [cell for i, p in answer.ranked(top) for cell in (names[i], f"{p:.1%}")]
        elif kind == "yes_or_no":
            cells = ["yes" if says_yes(answer) else "no", f"{answer.values[0]:.1%}"]
        else:
            cells = [f"{value:.1%}" if kind == "tags" else f"{value:.6g}" for value in answer.values]
        rows.append([answer.file, *cells])
    return aligned(rows, left=words)


def _lines(told: Sequence[Answer], kind: Task, names: Sequence[str], top: int) -> Iterator[list[str]]:
    """For other programs: the same with numbers in full, files without an answer too, and what is wrong with them."""
    from cnnforge.inference.predict import says_yes

    if kind == "classes":
        head = [f"{what}_{i}" for i in range(1, min(top, len(names)) + 1) for what in ("class", "probability")]
    elif kind == "yes_or_no":
        head = ["answer", "class", "probability"]
    else:
        head = list(names) if kind == "tags" or len(names) > 1 else ["output"]
    yield ["file", *head, "error"]
    for answer in told:
        if answer.values is None:
            cells = [""] * len(head)
        elif kind == "classes":
            cells = [cell for i, p in answer.ranked(top) for cell in (names[i], f"{p:.9g}")]
        elif kind == "yes_or_no":
            cells = ["yes" if says_yes(answer) else "no", names[0], f"{answer.values[0]:.9g}"]
        else:
            cells = [f"{value:.9g}" for value in answer.values]
        yield [answer.file, *cells, answer.trouble]


def _json(answer: Answer, kind: Task, names: Sequence[str], top: int) -> dict[str, Any]:
    """``{"file", "predictions": [{"class", "number", "probability"}]}`` and the like; ``{"file", "error"}``."""
    from cnnforge.inference.predict import says_yes

    if answer.values is None:
        return {"file": answer.file, "error": answer.trouble}
    if kind == "classes":
        found = [{"class": names[i], "number": i, "probability": p} for i, p in answer.ranked(top)]
        return {"file": answer.file, "predictions": found}
    values = [float(value) for value in answer.values]
    if kind == "yes_or_no":
        said = "yes" if says_yes(answer) else "no"
        return {"file": answer.file, "answer": said, "class": names[0], "probability": values[0]}
    if kind == "tags":
        return {"file": answer.file, "probabilities": dict(zip(names, values, strict=True))}
    return {"file": answer.file, "outputs": values}


class _Drawn:
    """The explanations, a PNG for each file that has an answer, named like it.

    files: by the number of the answer
    """

    def __init__(self, folder: Path) -> None:
        self.files: dict[int, Path] = {}
        self._folder, self._taken = folder, set[str]()
        with writing(folder, *_OUT):
            folder.mkdir(parents=True, exist_ok=True)

    def draw(self, number: int, model: Model, answer: Answer) -> None:
        """One of them. Files of one name in several folders get pictures of several names."""
        from cnnforge.inference.explain import draw
        from cnnforge.inference.predict import STDIN

        stem = "stdin" if answer.file == STDIN else Path(answer.file).stem
        name = next(n for i in count(1) if (n := stem if i == 1 else f"{stem}-{i}") not in self._taken)
        self._taken.add(name)
        file = self.files[number] = self._folder / f"{name}.png"
        with writing(file, *_OUT):
            draw(file, model, answer)
