"""What a folder of pictures holds, looked over without decoding it: classes, how many of each, how large they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cnnforge.data import archive, files, image_folder
from cnnforge.data.pictures import DAMAGE, open_picture, strictly
from cnnforge.errors import DataError

#: Pictures whose headers are read; every so many-th, so that all classes are looked at.
LOOKED_AT = 100
#: Pillow's modes without colour.
_GREY = ("1", "L", "LA", "I", "I;16", "F")


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found.

    counts: pictures by class, in the order of the names;  sizes: (height, width) of those looked at
    grey: had all of them no colour?  tested: are there pictures set apart for the test?
    """

    counts: dict[str, int]
    sizes: tuple[tuple[int, int], ...]
    grey: bool
    tested: bool

    @property
    def side(self) -> int:
        """The shorter side of the median picture."""
        shorter = sorted(map(min, self.sizes))
        return shorter[len(shorter) // 2]


def survey(path: Path) -> Survey:
    """Look over a folder with a folder for each class, or a tar or zip file of that.

    Raises DataError where it is not there, or no two classes of pictures are in it, or none can be read.
    """
    if not path.exists():
        raise DataError(
            f"{path}: no such folder", where=f"--data {path}", why=f"looked in {Path.cwd()}",
            fix="the folder that holds a folder of pictures for each class, or a tar or zip file of it",
        )  # fmt: skip
    places = image_folder.places(path)
    labels = [label for _, label in places.values()]
    counts = {name: labels.count(name) for name in sorted(set(labels))}
    if len(counts) < 2:
        found = f"pictures of one class alone are there, {next(iter(counts))}" if counts else "none are there"
        raise DataError(
            f"{path.name}: no classes of pictures to tell apart", where=files.shown(path), why=found,
            fix="a folder for each class: CLASS/NAME.png, or train/CLASS/NAME.png and test/CLASS/NAME.png",
        )  # fmt: skip
    tried = [*places][:: max(1, len(places) // LOOKED_AT)]
    looked = [about for content in archive.contents(path, {*tried}) if (about := _header(content)) is not None]
    if not looked:
        raise DataError(
            f"{path.name}: none of the pictures can be read", where=files.shown(path),
            why="none of those that were tried is of a known format", fix="check the files",
        )  # fmt: skip
    return Survey(
        counts,
        tuple(size for size, _ in looked),
        all(grey for _, grey in looked),
        any(part == "test" for part, _ in places.values()),
    )


def _header(content: bytes) -> tuple[tuple[int, int], bool] | None:
    """((height, width), grey) as the file says; None where it is no picture."""
    try:
        with strictly(), open_picture(content) as opened:
            return (opened.height, opened.width), opened.mode in _GREY
    except DAMAGE:
        return None
