"""Where the files of a data set are looked for, and reading them."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnforge.errors import DataError
from cnnforge.folders import user_cache

#: A wanted file may be stored as it is or compressed; which of the two is told by its first bytes, not by its name.
PLAIN_OR_GZIP = ("", ".gz")
GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Place:
    """A folder in which files are looked for, and what the user knows it as, e.g. ``data.root``."""

    folder: Path
    name: str

    def __str__(self) -> str:
        return f"{shown(self.folder)} ({self.name})"


def places(name: str, root: str | None) -> list[Place]:
    """The folders for data set ``name`` in order: ``data.root``, ``$CNNFORGE_DATA/NAME``, the user's cache."""
    found = [Place(_expanded(root), "data.root")] if root else []
    if base := os.environ.get("CNNFORGE_DATA"):
        found.append(Place(_expanded(base) / name, f"$CNNFORGE_DATA/{name}"))
    return [*found, Place(user_cache() / "data" / name, "the user's cache")]


def above() -> list[Place]:
    """Where data sets of the user's own name lie: the folders that have one folder for each data set."""
    base = os.environ.get("CNNFORGE_DATA")
    found = [Place(_expanded(base), "$CNNFORGE_DATA")] if base else []
    return [*found, Place(user_cache() / "data", "the user's cache")]


def locate(
    name: str, wanted: Sequence[str], where: Sequence[Place], *, endings: Sequence[str] = PLAIN_OR_GZIP, fix: str
) -> tuple[list[Path], Place]:
    """The wanted files, all from the first place that has every one of them, and that place.

    endings: what may stand after each wanted name, best first.
    Raises DataError with every place and, for the places that have only some, what is missing there.
    """
    partly: list[str] = []
    for place in where:
        found = [_first(place.folder, file, endings) for file in wanted]
        paths = [path for path in found if path is not None]
        if len(paths) == len(wanted):
            return paths, place
        if paths:
            missing = [file for file, path in zip(wanted, found, strict=True) if path is None]
            partly.append(f"; {shown(place.folder)} lacks {', '.join(missing)}")
    one = len(wanted) == 1
    raise DataError(
        f"{name}: the data {'file is' if one else 'files are'} not there",
        where="; ".join(map(str, where)),
        why=f"wanted {', '.join(wanted)}"
        + (f"{'' if one else ', each'} plain or .gz" if ".gz" in endings else "")
        + "".join(partly),
        fix=fix,
    )


def read(path: Path) -> bytes:
    """A file's bytes, decompressed where they are gzip. Raises DataError where it is unreadable or damaged."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(GZIP_MAGIC) else content
    # BadGzipFile is an OSError, so it comes first.
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise damaged(path, f"{type(error).__name__}: {error}", kind="gzip file") from error
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> DataError:
    """The operating system does not give the file."""
    return DataError(
        f"{path.name} cannot be read",
        where=shown(path),
        why=f"{error.strerror or error}",
        fix="make it a file that you may read",
    )


def damaged(path: Path, why: str, *, kind: str) -> DataError:
    """The file is not a whole one of its kind."""
    return DataError(
        f"{path.name} is not a whole {kind}", where=shown(path), why=why, fix="copy or download the file again"
    )


def shown(path: Path) -> str:
    """The path as people like it: relative to the working directory where it lies inside."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _expanded(folder: str) -> Path:
    return Path(os.path.expanduser(folder))


def _first(folder: Path, name: str, endings: Sequence[str]) -> Path | None:
    # os.path.isfile and not Path.isfile: a folder that may not be entered has no files for us, and is no crash.
    return next((folder / f"{name}{e}" for e in endings if os.path.isfile(folder / f"{name}{e}")), None)
