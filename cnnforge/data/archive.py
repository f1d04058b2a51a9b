"""Files of a folder, or in a tar or zip file that is not unpacked."""

from __future__ import annotations

import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath

from cnnforge.data import files
from cnnforge.errors import DataError

_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError)


def is_archive(path: Path) -> bool:
    """Is it a file whose name says tar or zip?"""
    return path.name.lower().endswith((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip"))


def is_compressed_tar(path: Path) -> bool:
    """Does listing it mean to unpack it?"""
    return is_archive(path) and not path.name.lower().endswith((".tar", ".zip"))


def members(path: Path) -> Iterator[tuple[str, bytes]]:
    """(name, content) of every file in a folder or archive, names with ``/``; hidden files are left out.

    Links, and names that would lie outside, are not followed. Raises DataError where it is damaged or unreadable.
    """
    with _whole(path):
        for name, read in _entries(path):
            yield name, read()


def names(path: Path) -> Iterator[str]:
    """The names alone: no file is read, and of an archive only what a list of it takes, for a compressed tar all."""
    with _whole(path):
        for name, _ in _entries(path):
            yield name


def contents(path: Path, wanted: Container[str]) -> Iterator[bytes]:
    """The contents of the files with such names; no other is read."""
    with _whole(path):
        for name, read in _entries(path):
            if name in wanted:
                yield read()


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise files.unreadable(path, error) from error
    except _DAMAGE as error:
        raise files.damaged(path, f"{type(error).__name__}: {error}", kind="archive") from error


def _entries(path: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """(name, what reads it) of every file; it is read before the next is asked for."""
    if path.is_dir():
        return _of_folder(path)
    return _of_zip(path) if zipfile.is_zipfile(path) else _of_tar(path)


def listing(path: Path) -> list[tuple[str, int, int]]:
    """(name, bytes, time of the last change) of what ``members`` gives for a folder; of an archive itself."""
    if not path.is_dir():
        about = path.stat()
        return [(path.name, about.st_size, about.st_mtime_ns)]
    found = []
    for name in _names(path):
        about = (path / name).stat()
        found.append((name, about.st_size, about.st_mtime_ns))
    return found


def _names(folder: Path) -> Iterator[str]:
    for here, below, names in os.walk(folder):
        below[:] = sorted(name for name in below if not name.startswith(".") and name != "__MACOSX")
        at = Path(here).relative_to(folder)
        yield from ((at / name).as_posix() for name in sorted(names) if not name.startswith("."))


def _of_folder(folder: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    for name in _names(folder):
        yield name, partial(_content, folder / name)


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise files.unreadable(file, error) from error


def _of_zip(path: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    with zipfile.ZipFile(path) as archive:
        for info in sorted(archive.infolist(), key=lambda info: info.filename):
            if not info.is_dir() and _plain(info.filename):
                yield _name(info.filename), partial(archive.read, info)


def _of_tar(path: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    # In the order of the archive: going back in a compressed one means to begin anew.
    with tarfile.open(path, "r:*") as archive:
        for info in archive:
            if info.isreg() and _plain(info.name):
                yield _name(info.name), partial(_extracted, archive, info)


def _extracted(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(info)
    assert stream is not None
    return stream.read()


def _name(name: str) -> str:
    return PurePosixPath(name).as_posix()


def _plain(name: str) -> bool:
    parts = PurePosixPath(name).parts
    inside = not name.startswith("/") and ".." not in parts
    return inside and not any(part.startswith(".") or part == "__MACOSX" for part in parts)


def find(kind: str, path: str, root: str | None) -> Path:
    """The folder or file that ``data.path`` means. Raises DataError with every place where it was looked for."""
    given = Path(os.path.expanduser(path))
    if given.is_absolute():
        where = [files.Place(given.parent, "data.path")]
    else:
        where = [files.Place(Path(os.path.expanduser(root)), "data.root")] if root else []
        where.append(files.Place(Path.cwd(), "the working directory"))
        where += files.above()
    for place in where:
        found = place.folder / (given.name if given.is_absolute() else given)
        if found.exists():
            return found
    raise DataError(
        f"{kind}: there is no {path}",
        where="; ".join(map(str, where)),
        why="it is in none of these folders",
        fix="data.path=FOLDER with its whole path, or data.root=FOLDER that has it",
    )
