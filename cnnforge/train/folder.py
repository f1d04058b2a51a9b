"""Run folders: ``runs/NAME``, made unique by a suffix, and the link ``runs/latest``."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnforge.errors import ConfigError


def new_folder(runs: Path, name: str) -> Path:
    """Make ``runs/NAME``, or ``NAME-2``, ``NAME-3``, … where that is taken. Safe between processes."""
    number = 1
    while True:
        folder = runs / (name if number == 1 else f"{name}-{number}")
        try:
            runs.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
        except FileExistsError:
            if not folder.exists():
                raise _cannot(runs, "a file of that name is in the way") from None
            number += 1
        except OSError as error:
            raise _cannot(runs, error.strerror or str(error)) from None
        else:
            return folder


def shared_folder(runs: Path, name: str) -> Path:
    """``runs/NAME``, made by whoever comes first."""
    folder = runs / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot(runs, error.strerror or str(error)) from None
    return folder


def _cannot(runs: Path, why: str) -> ConfigError:
    return ConfigError(f"cannot make a run folder in {runs}", where="run.dir", why=why, fix="run.dir=ANOTHER_FOLDER")


def point_latest(folder: Path) -> None:
    """Let ``latest``, beside the run folder, point at it."""
    link = folder.parent / "latest"
    temporary = folder.parent / f".latest.{_writer()}.tmp"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(folder.name)
    temporary.replace(link)


def write_text(path: Path, text: str, private: bool = False) -> None:
    """Write a small file whole or not at all. private: that only its owner may read"""
    temporary = path.with_name(f".{path.name}.{_writer()}.tmp")
    if private:
        temporary.unlink(missing_ok=True)
        temporary.touch(mode=0o600)
    temporary.write_text(text, "utf-8")
    temporary.replace(path)


def write_json(path: Path, data: Mapping[str, Any], private: bool = False) -> None:
    """``write_text`` of indented JSON. Numbers that are not finite become null."""
    write_text(path, json.dumps(finite(data), indent=1) + "\n", private)


def read_result(folder: Path) -> dict[str, Any]:
    """What the run's ``result.json`` holds."""
    result: dict[str, Any] = json.loads((folder / "result.json").read_text("utf-8"))
    return result


def _writer() -> str:
    """Differs for all that may write at once, on every host that shares the disk."""
    return f"{platform.node()}.{os.getpid()}"


def finite(value: Any) -> Any:
    """The same with null for numbers that are not finite, at any depth."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    if isinstance(value, float) and value - value != 0:
        return None
    return value
