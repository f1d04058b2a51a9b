"""``cnnforge sync [RUN...]``: sends to MLflow what could not be sent while training."""

from __future__ import annotations

import argparse
from pathlib import Path

from cnnforge.cli.arguments import RUN, add_runs_folder
from cnnforge.errors import CnnforgeError, ConfigError, ConfigErrors


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.description = "Send to MLflow what could not be sent while training. Nothing is sent twice."
    parser.add_argument("runs", nargs="*", metavar="RUN", help=f"{RUN}; a sweep's folder means its trials too")
    add_runs_folder(parser)
    parser.add_argument(
        "--uri", help="send there instead of where the run's config says; all of it, if it is new there"
    )


def run(args: argparse.Namespace) -> int:
    """Sends and says per run what was sent. Raises ``ConfigError`` where a tracker does not answer."""
    from cnnforge.tracking.family import trial_of
    from cnnforge.tracking.finding import find, run_folders, with_family
    from cnnforge.tracking.journal import count, journal_path
    from cnnforge.tracking.sender import send_all
    from cnnforge.tracking.state import load

    if args.runs:
        folders = with_family([find(name, args.dir) for name in args.runs])
    else:
        # without tracking.json the user trained without a tracker, and meant it
        folders = [folder for folder in run_folders(args.dir) if (folder / "tracking.json").exists()]
    if not args.dir.is_dir() and not args.runs:
        raise ConfigError(
            f"{args.dir}: no such folder", where="cnnforge sync --dir", fix="name the folder that holds the runs"
        )
    # what is complete needs no MLflow to say so, and importing it takes seconds
    waiting = [
        folder
        for folder in folders
        if args.uri or count(journal_path(folder), load(folder).offset) or load(folder).status == "RUNNING"
    ]
    before = {folder: count(journal_path(folder), 0 if args.uri else load(folder).offset) for folder in waiting}
    unsent: dict[tuple[Path, str, str], list[Path]] = {}  # of a sweep, one error for all that had the same trouble
    for folder, outcome in send_all(waiting, args.uri) if waiting else ():
        if outcome.trouble:
            trial = trial_of(folder)
            head = folder if trial is None else trial.sweep
            unsent.setdefault((head, outcome.where, outcome.trouble), []).append(folder)
        else:
            number = before[folder]
            print(f"{folder}: {number} record{'' if number == 1 else 's'} {outcome.reason}")
    if len(waiting) < len(folders):
        print(f"{len(folders) - len(waiting)} of {len(folders)} runs had nothing to send")
    elif not folders:
        print(f"no runs below {args.dir}")
    errors: list[CnnforgeError] = [
        ConfigError(
            f"{head.name}: {sum(before[one] for one in those)} records"
            + (f" of {len(those)} runs" if len(those) > 1 else "")
            + " could not be sent",
            where=where,
            why=trouble,
            fix="start the tracker or name one that answers (--uri, MLFLOW_TRACKING_URI), then sync again; "
            "nothing is lost",
        )
        for (head, where, trouble), those in unsent.items()
    ]
    if errors:
        raise errors[0] if len(errors) == 1 else ConfigErrors(errors)
    return 0
