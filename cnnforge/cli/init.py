"""``cnnforge init``: a folder with configs and a Makefile in which ``make train`` trains at once."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from cnnforge.errors import ConfigError

#: What the files are made from; ``@WORDS@`` in them are filled in.
TEMPLATES = Path(__file__).parent / "project"
#: Sides of the square pictures that a network is made for; halved by each of its pools until 8 are left.
SIDES = (16, 32, 64)
FILTERS = (16, 32, 64, 64)


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.description = "Make a project of your own: a network, an experiment, a sweep and a Makefile that trains it."
    parser.add_argument("folder", type=Path, metavar="DIR", help="where; made if it is not there")
    parser.add_argument(
        "--data", type=Path, metavar="PICTURES",
        help="folder with a folder of pictures for each class, or a tar or zip file of it (default: the digits that "
        "come with cnnforge)",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="keep the files that are there, write only the others")


def run(args: argparse.Namespace) -> int:
    """Look at the pictures, write the files, say what is next. Returns the exit code."""
    folder: Path = args.folder
    files = _files(folder, _on_pictures(args.data, folder) if args.data is not None else _on_digits())
    there = [name for name in files if os.path.lexists(folder / name)]
    if there and not args.force:
        raise ConfigError(
            f"{folder}: {', '.join(there)} {'is' if len(there) == 1 else 'are'} already there",
            where=f"cnnforge init {folder}", why="nothing that you wrote is written over",
            fix="another folder, or --force, which keeps them and writes only the other files",
        )  # fmt: skip
    new = [name for name in files if name not in there]
    try:
        for name in new:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(files[name], encoding="utf-8")
        _write_schemas(folder / "configs")
    except OSError as error:
        raise ConfigError(
            f"{error.filename or folder}: {error.strerror or error}", where=f"cnnforge init {folder}",
            why="the project's files cannot be written there", fix="a folder in which you may write",
        ) from None  # fmt: skip
    print(_summary(folder, new, there))
    return 0


def _on_digits() -> dict[str, str]:
    """The words of the templates for the digits that come along."""
    return {
        "DATA": "digits",
        "WHAT": "1,797 handwritten digits that come with cnnforge",
        "EPOCHS": "15",
        "LR": "0.001",
        "INPUT": "[16, 16, 1]",
        "LAYERS": _for_digits(),
    }


def _on_pictures(pictures: Path, folder: Path) -> dict[str, str]:
    """The same for the user's own pictures, which are looked over for it. Raises DataError."""
    from cnnforge.data.survey import survey

    found = survey(pictures)
    side = max((side for side in SIDES if side <= found.side), default=SIDES[0])
    path = pictures.resolve()
    inside = path.is_relative_to(folder.resolve())
    classes = list(found.counts)
    total = sum(found.counts.values())
    test = ("test: 0.0                           # the pictures of the test folder are the test" if found.tested
            else "test: 0.2                           # the same for the test")  # fmt: skip
    return {
        "DATA": "pictures",
        "WHAT": f"{total:,} pictures of {len(classes)} classes",
        "EPOCHS": "20",
        "PATH": _quoted(str(path.relative_to(folder.resolve()) if inside else path)),
        "CLASSES": f"[{', '.join(map(_quoted, classes))}]",
        "SIZE": f"[{side}, {side}]",
        "TEST": test,
        "LR": "0.003",
        "INPUT": f"[{side}, {side}, {1 if found.grey else 3}]",
        "LAYERS": _for_pictures(side, len(classes)),
    }


def _for_digits() -> str:
    """Two rounds of convolution and pool, then two fully connected layers: the plainest network that does it well."""
    rows = [
        "conv1: {type: conv, filters: 16, kernel: 3, padding: same, activation: relu}",
        "pool1: {type: pool, kernel: 2}",
        "conv2: {type: conv, filters: 32, kernel: 3, padding: same, activation: relu}",
        "pool2: {type: pool, kernel: 2}",
        "fc3: {type: fc, units: 64, activation: relu}",
        "output: {type: fc, units: 10, activation: softmax}",
    ]
    return _indented(rows)


def _for_pictures(side: int, classes: int) -> str:
    """Convolutions with norms, a pool between each two, and the mean of each map: few weights, for few pictures."""
    rows = []
    stages = SIDES.index(side) + 2
    for i, filters in enumerate(FILTERS[:stages], 1):
        rows.append(f"conv{i}: {{type: conv, filters: {filters}, kernel: 3, padding: same, bias: false}}")
        rows.append(f"norm{i}: {{type: batch_norm, activation: relu}}")
        rows.append(f"pool{i}: {{type: {'pool, kernel: 2' if i < stages else 'global_pool, mode: average'}}}")
    rows.append(f"output: {{type: fc, units: {classes}, activation: softmax}}")
    return _indented(rows)


def _indented(rows: list[str]) -> str:
    return "\n".join(f"  {row}" for row in rows)


def _files(folder: Path, words: Mapping[str, str]) -> dict[str, str]:
    """The text of every file by its path in the project."""
    sources = {
        "configs/model/mine.yaml": "model.yaml",
        "configs/experiment/first.yaml": "experiment.yaml",
        "configs/sweep/widths.yaml": "sweep.yaml",
        **({"configs/data/pictures.yaml": "pictures.yaml"} if words["DATA"] == "pictures" else {}),
        "Makefile": "Makefile",
        "README.md": "README.md",
        ".gitignore": "gitignore",
    }
    texts = {}
    for name, source in sources.items():
        text = (TEMPLATES / source).read_text("utf-8")
        for word, value in {"NAME": folder.resolve().name, **words}.items():
            text = text.replace(f"@{word}@", value)
        texts[name] = text
    return texts


def _write_schemas(configs: Path) -> None:
    """What lets editors complete and underline; written over each time, as they are no one's own."""
    from cnnforge.config.json_schema import groups, json_schema, write

    write({group: json_schema(group) for group in groups()}, configs)


def _summary(folder: Path, new: list[str], kept: list[str]) -> str:
    from cnnforge.cli.train import own_command

    command = own_command()
    found = "" if command == "cnnforge" else f" CNNFORGE='{_from_anywhere(command)}'"  # no shell finds it by its name
    return "\n".join([
        f"{os.path.relpath(folder)}/",
        *(f"  {name}" for name in new),
        *(f"  {name}   kept as it is" for name in kept),
        "  configs/.schema/   for editors",
        "",
        "next:",
        *([] if folder.resolve() == Path.cwd() else [f"  cd {os.path.relpath(folder)}"]),
        f"  make train{found}",
    ])  # fmt: skip


def _from_anywhere(command: str) -> str:
    """The command as it can be typed in another folder."""
    return os.path.abspath(command) if os.sep in command else command.replace("python", sys.executable, 1)


def _quoted(text: str) -> str:
    """Text as a YAML value: a plain word as it is, anything else in double quotes."""
    plain = text.isascii() and text.replace("_", "").replace("-", "").isalpha()
    special = text.lower() in ("true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf")
    return text if plain and not special and text[0].isalpha() else json.dumps(text, ensure_ascii=False)
