"""Fetching the files of a published data set: with its digest, from where it stopped, or with one clear reason."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import md5
from http.client import HTTPException
from pathlib import Path
from time import perf_counter
from typing import Any

from cnnforge.errors import DataError

#: Set to anything, no file is fetched.
OFFLINE = "CNNFORGE_OFFLINE"
#: Seconds without a byte after which a server has failed; seconds between two lines on the way.
PATIENCE, EVERY = 30.0, 5.0
_PIECE = 1 << 18


@dataclass(frozen=True)
class Remote:
    """A published file.

    name: under which it is kept;  urls: where it is, best first
    digest: its md5;  inside: of the decompressed bytes, because packings of the same bytes differ
    """

    name: str
    urls: tuple[str, ...]
    digest: str
    inside: bool = False


class FetchError(Exception):
    """Why a file could not be fetched."""


def fetch(files: Sequence[Remote], into: Path, tell: Callable[[str], None]) -> None:
    """Bring every file that is not there into the folder ``into``.

    What arrives is kept under a temporary name and resumed by the next call; only a whole file whose digest is right
    gets its own. Raises FetchError with every address and what it answered.
    """
    if os.environ.get(OFFLINE):
        raise FetchError(f"{OFFLINE} is set, so nothing is downloaded")
    for file in files:
        if not (into / file.name).is_file():
            _fetch(file, into, tell)


def _fetch(file: Remote, into: Path, tell: Callable[[str], None]) -> None:
    into.mkdir(parents=True, exist_ok=True)
    part = into / f".{file.name}.part"
    reasons = []
    for url in file.urls:
        try:
            _receive(url, part, file.name, tell)
            found = _digest(part, file.inside)
            if found == file.digest:
                part.replace(into / file.name)
                return
            part.unlink()
            reasons.append(f"{url}: other bytes than published: their md5 is {found}, not {file.digest}")
        except (OSError, HTTPException, EOFError, zlib.error, ValueError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            reasons.append(f"{url}: {reason or type(error).__name__}")
    raise FetchError("; ".join(reasons))


def _receive(url: str, part: Path, name: str, tell: Callable[[str], None]) -> None:
    """Append to ``part`` what it lacks. Raises what urllib raises, EOFError where the server stopped early."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    there = part.stat().st_size if part.is_file() else 0
    asked = Request(url, headers={"User-Agent": "cnnforge"} | ({"Range": f"bytes={there}-"} if there else {}))
    try:
        answer: Any = urlopen(asked, timeout=PATIENCE)
    except HTTPError as error:
        if error.code == 416 and there:  # all of it is there already, or it is another file: the digest says
            return
        raise
    with answer:
        if there and answer.status != 206:  # the server begins anew
            there = 0
        length = answer.headers.get("Content-Length")
        whole = there + int(length) if length else 0
        if not there:
            tell(f"downloading {name}{_size(whole)} from {url}")
        spoke = perf_counter()
        with part.open("ab" if there else "wb") as stream:
            while piece := answer.read(_PIECE):
                stream.write(piece)
                there += len(piece)
                if perf_counter() - spoke > EVERY:
                    spoke = perf_counter()
                    tell(f"{name}: {there / 1e6:.1f} of {whole / 1e6:.1f} MB")
    if whole and there < whole:
        raise EOFError(f"the connection ended after {there:,} of {whole:,} bytes")


def _size(count: int) -> str:
    return f" ({count / 1e6:.1f} MB)" if count else ""


def _digest(path: Path, inside: bool) -> str:
    whole = md5(usedforsecurity=False)
    with gzip.open(path) if inside else path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            whole.update(piece)
    return whole.hexdigest()


def there_or_fetched(
    look: Callable[[], Any], files: Sequence[Remote], into: Path, download: bool, tell: Callable[[str], None]
) -> Any:
    """What ``look`` finds; where it raises DataError, what it finds once the files are fetched.

    Raises its DataError, with the reason why they could not be fetched.
    """
    try:
        return look()
    except DataError as missing:
        if not download:
            raise
        try:
            fetch(files, into, tell)
        except FetchError as error:
            missing.why = f"{missing.why}; they could not be downloaded: {error}"
            raise missing from None
        return look()
