"""``cnnforge runs``: which runs there are, what one is, what tells some apart, and away with them."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cnnforge.cli.arguments import RUN, add_runs_folder
from cnnforge.errors import ConfigError, ConfigErrors, suggest

if TYPE_CHECKING:
    from cnnforge.tracking.history import Told

ACTIONS = ("list", "show", "compare", "delete")
STATUSES = ("running", "finished", "early_stopped", "interrupted", "killed", "failed", "diverged", "pruned")
SORTS = ("started", "name", "status", "model", "data", "params", "epochs", "val", "test", "time")


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of this command."""
    parser.description = (
        "list: the runs of a folder. show RUN: its config beside the defaults, its results, its files, and what can be "
        "done with it. compare RUN RUN…: what differs. delete RUN…: its folder, and MLflow marks its copy as deleted."
    )
    parser.add_argument("action", nargs="?", default="list", metavar="ACTION", help=f"{', '.join(ACTIONS)}")
    parser.add_argument("runs", nargs="*", metavar="RUN", help=RUN)
    add_runs_folder(parser)
    parser.add_argument("--json", action="store_true", help="print everything as JSON, and nothing else, on stdout")
    parser.add_argument("--sort", default="started", metavar="KEY", help=f"list by {', '.join(SORTS)}")
    parser.add_argument("--status", action="append", metavar="STATUS", help="list only those; may be given twice")
    parser.add_argument("--trials", action="store_true", help="list the trials of sweeps too")
    parser.add_argument("--yes", action="store_true", help="delete without asking")


def run(args: argparse.Namespace) -> int:
    """Do it. Returns the exit code."""
    if args.action not in ACTIONS:
        raise ConfigError(
            f"'{args.action}' is not something that can be done with runs", where="cnnforge runs",
            why=f"what can be done is {', '.join(ACTIONS)}",
            fix=suggest(args.action, ACTIONS) or f"cnnforge runs show {shlex.quote(args.action)}",
        )  # fmt: skip
    _check_flags(args)
    if args.action == "list":
        return _list(args)
    from cnnforge.tracking.finding import find

    folders = list(dict.fromkeys(find(name, args.dir) for name in args.runs))
    if args.action == "delete":
        return _delete(folders, args)
    from cnnforge.tracking.history import told

    runs = [told(folder) for folder in folders]
    return _show(runs[0], args) if args.action == "show" else _compare(runs, args)


def _check_flags(args: argparse.Namespace) -> None:
    """Raise ConfigErrors where words do not go together."""
    errors = []
    given, least = len(args.runs), {"list": 0, "show": 1, "compare": 2, "delete": 1}[args.action]
    most = {"list": 0, "show": 1}.get(args.action, given)
    if not least <= given <= most:
        wanted = {"list": "no RUN", "show": "one RUN", "compare": "two RUNs or more", "delete": "a RUN or more"}
        errors.append(ConfigError(
            f"{args.action} takes {wanted[args.action]}", where=f"cnnforge runs {args.action}",
            why=f"{given} were named" if given != 1 else "one was named",
            fix="cnnforge runs list names those there are",
        ))  # fmt: skip
    for flag, value, known in (("--sort", [args.sort], SORTS), ("--status", args.status or [], STATUSES)):
        errors += [
            ConfigError(
                f"{flag} {word}: there is no such {'status' if flag == '--status' else 'column'}",
                where=f"cnnforge runs list {flag}", why=f"there are {', '.join(known)}",
                fix=suggest(word, known) or "one of these",
            )
            for word in value if word not in known
        ]  # fmt: skip
    if args.action != "delete" and args.yes:
        where = f"cnnforge runs {args.action} --yes"
        errors.append(ConfigError("--yes is for delete", where=where, why="nothing else is asked", fix="leave it out"))
    if errors:
        raise errors[0] if len(errors) == 1 else ConfigErrors(errors)


def _list(args: argparse.Namespace) -> int:
    from cnnforge.report.runs import listing, ordered, told_json
    from cnnforge.tracking.history import history

    if not args.dir.is_dir():
        raise ConfigError(
            f"{args.dir}: no such folder", where="cnnforge runs --dir", why="the first training makes it",
            fix="cnnforge train, or --dir with the folder that holds your runs",
        )  # fmt: skip
    runs = [run for run in history(args.dir, args.trials) if not args.status or run.status in args.status]
    runs = ordered(runs, args.sort)
    if args.json:
        print(json.dumps([told_json(run) for run in runs], indent=2))
    elif runs:
        print("\n".join(listing(runs)))
    else:
        of = f" that {'is' if len(args.status) == 1 else 'are'} {' or '.join(args.status)}" if args.status else ""
        print(f"no runs{of} below {args.dir}")
    return 0


def _compare(runs: list[Told], args: argparse.Namespace) -> int:
    from cnnforge.report.runs import comparison, told_json
    from cnnforge.tracking.history import differing

    if len(runs) < 2:
        raise ConfigError(
            "these are names of one run", where="cnnforge runs compare", why=f"all of them mean {runs[0].name}",
            fix="cnnforge runs list names the others",
        )  # fmt: skip
    found = differing(runs)
    if args.json:
        print(json.dumps({"runs": [told_json(run) for run in runs], "differing": found}, indent=2))
        return 0
    print("\n".join(comparison(runs, found)))
    if not found:
        print("\ntheir configs are the same")
    return 0


def _show(run: Told, args: argparse.Namespace) -> int:
    from cnnforge.report.runs import facts, numbers, told_json
    from cnnforge.report.table import aligned

    config, trouble = _beside_defaults(run.folder)
    files, commands = list(_files(run.folder)), list(_on(run, args.dir))
    if args.json:
        about = {"config": config, "files": dict(files), "tags": run.tags, "commands": [text for _, text in commands]}
        print(json.dumps(told_json(run) | about, indent=2))
        return 0
    beside = [(name, value) for name, value in config.items()] or ([("", trouble)] if trouble else [])
    about_it = [*facts(run), ("folder", f"{os.path.relpath(run.folder)}/")]
    blocks = {
        "": about_it, "results": numbers(run.result), "config beside the defaults": beside, "files": files,
        "go on with": commands,
    }  # fmt: skip
    lines = [run.name]
    for title, rows in blocks.items():
        if rows:
            lines += ["", *([title] if title else []), *(f"  {line}" for line in aligned([("", ""), *rows])[1:])]
    print("\n".join(lines))
    return 0


def _beside_defaults(folder: Path) -> tuple[dict[str, str], str]:
    """What of the run's config is not what it would be unsaid, by name, layers left out; and why that is not known."""
    from cnnforge.config import read_run, validate
    from cnnforge.errors import CnnforgeError
    from cnnforge.tracking import flatten
    from cnnforge.tracking.family import SWEEP

    if not (folder / "config.yaml").is_file():
        return {}, "" if (folder / SWEEP).is_file() else "config.yaml is not there"
    try:
        spec = validate(read_run(folder / "config.yaml"))
    except CnnforgeError as error:  # of another version, or edited since
        return {}, f"config.yaml cannot be read: {error.what}"
    said = flatten(spec.model_dump(mode="json", exclude_none=True, exclude_defaults=True, exclude={"model"}))
    return {name: value for name, value in said.items() if not name.startswith("run.")}, ""


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    """What lies in the folder that a person may open, and how large it is."""
    from cnnforge.report.table import bytes_text

    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.is_symlink():
            continue
        if path.is_dir():
            inside = [file for file in path.rglob("*") if file.is_file() and not file.is_symlink()]
            size = bytes_text(sum(file.stat().st_size for file in inside))
            yield f"{path.name}/", f"{len(inside)} file{'s' * (len(inside) != 1)}, {size}"
        else:
            yield path.name, bytes_text(path.stat().st_size)


def _on(run: Told, runs_dir: Path) -> Iterator[tuple[str, str]]:
    """What can be done with the run: in a word, and the command for it."""
    from cnnforge.cli.main import COMMANDS
    from cnnforge.cli.train import own_command

    name, over = shlex.quote(run.name), run.status in ("finished", "early_stopped")
    if run.kind == "sweep":
        wanted = [("see its trials", f"sweep report {name}"), *([] if over else [("go on", f"sweep resume={name}")])]
    elif over:
        wanted = [
            ("test it", f"evaluate {name}"), ("use it", f"predict {name} PICTURE"),
            ("take it elsewhere", f"export {name} --to onnx model.onnx"), ("serve it", f"serve {name}"),
            ("do it again and compare", f"reproduce {name}"),
        ]  # fmt: skip
    else:
        wanted = [("go on", f"resume {name}")] if run.status != "running" else []
    beside = "" if runs_dir == Path("runs") else f" --dir {shlex.quote(str(runs_dir))}"
    if run.kind != "sweep" and run.status != "running":
        wanted.append(("draw what it did", f"report {name}"))
    for text, words in (*wanted, ("look at it in MLflow", "ui")):
        if words.split()[0] in COMMANDS:
            where = beside.replace("--dir ", "run.dir=") if "resume=" in words else beside
            yield text, f"{own_command()} {words}{where}"


def _delete(folders: list[Path], args: argparse.Namespace) -> int:
    from cnnforge.tracking.deletion import check_deletable, delete
    from cnnforge.tracking.state import address, load, shown

    for folder in folders:
        check_deletable(folder, args.dir)
    states = [(folder, load(folder)) for folder in folders]
    stores = {shown(address(state.store or "", folder)) for folder, state in states if state.mlflow_run_id}
    if not args.yes and not _confirmed(folders):
        print("nothing was deleted")
        return 0
    deleted: dict[str, list[str]] = {}
    for folder in folders:
        name = os.path.relpath(folder)
        deleted[name] = list(delete(folder))
        if not args.json:
            print("\n".join([f"deleted {name}/", *(f"note: {note}" for note in deleted[name])]))
    if args.json:
        print(json.dumps({"deleted": deleted}, indent=2))
    for store in sorted(stores) if not args.json else ():
        print(f"MLflow keeps its copies, marked as deleted, until: mlflow gc --backend-store-uri {store}")
    return 0


def _confirmed(folders: list[Path]) -> bool:
    """Ask. Raises ConfigError where nobody is there to answer."""
    from cnnforge.tracking.history import told, trial_count

    for folder in folders:
        one, trials = told(folder), trial_count(folder)
        also = f", with {trials:,} trials" if trials else ""
        print(
            f"{os.path.relpath(folder)}/  {one.status}, {one.params.get('model.name', one.kind)}{also}", file=sys.stderr
        )
    if not sys.stdin.isatty():
        raise ConfigError(
            "nobody can be asked whether to delete", where="cnnforge runs delete",
            why="standard input is no terminal", fix="--yes deletes without asking",
        )  # fmt: skip
    print(
        f"delete {'it' if len(folders) == 1 else f'these {len(folders)}'}? [y/N] ", end="", file=sys.stderr, flush=True
    )
    return sys.stdin.readline().strip().lower() in ("y", "yes")
