"""How a sweep was begun, written down in its folder so that it can be gone on with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnnforge.errors import ConfigError
from cnnforge.sweep.trials import MARK
from cnnforge.tracking.state import shown
from cnnforge.train.folder import write_json

#: The file that has the command's words.
BEGUN = "begun.json"


def write_begun(folder: Path, overrides: Sequence[str], config_dir: Path | None) -> None:
    """Keep the words of the command that began the sweep in ``folder``; for its owner alone where they have a password.

    Of several drivers that begin it at once, all have the same to say.
    """
    private = any(shown(word) != word for word in overrides)
    where = str(config_dir.resolve()) if config_dir is not None else None
    write_json(folder / BEGUN, {"overrides": list(overrides), "config_dir": where}, private)


def read_begun(folder: Path) -> tuple[list[str], Path | None]:
    """(overrides, config dir) of the command that began it. Raises ConfigError where the folder is not a sweep's."""
    try:
        about: Any = json.loads((folder / BEGUN).read_text("utf-8"))
        return [str(word) for word in about["overrides"]], Path(about["config_dir"]) if about["config_dir"] else None
    except (OSError, ValueError, KeyError, TypeError):
        raise _not_a_sweep(folder) from None


def find_sweep(name: str, runs: Path) -> Path:
    """The folder of a sweep by its name in ``runs``, its path, or ``latest``. Raises ConfigError."""
    for folder in (runs / name, Path(name)):
        if (folder / BEGUN).is_file():
            return folder.resolve() if folder.is_symlink() else folder
    there = sorted(path.parent.name for path in runs.glob(f"*/{MARK}") if not path.parent.is_symlink())
    raise ConfigError(
        f"{name}: no such sweep", where=f"looked in {runs}",
        why=f"sweeps there: {', '.join(there)}" if there else "there is none there",
        fix="cnnforge runs list says what is there; or the path of a sweep's folder",
    )  # fmt: skip


def _not_a_sweep(folder: Path) -> ConfigError:
    return ConfigError(
        f"{folder.name} cannot be gone on with", where=str(folder / BEGUN), why="how it was begun is not there",
        fix="a sweep's folder with its files",
    )  # fmt: skip
