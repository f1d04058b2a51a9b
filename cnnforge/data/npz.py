"""``npz``: the user's own arrays in one NumPy file, ``x`` and ``y`` or ``x_train, y_train, x_test, y_test``.

Never unpickles. ``x_val`` and ``y_val`` are taken for validation where they are there.
"""

from __future__ import annotations

import os
import struct
import tokenize
import zipfile
import zlib
from hashlib import sha256
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnforge.data import files
from cnnforge.data.dataset import Split, Stored
from cnnforge.data.labels import class_numbers, finite, paired, targets, with_samples
from cnnforge.errors import DataError
from cnnforge.spec import NpzData

if TYPE_CHECKING:
    from hashlib import _Hash

#: What zipfile, zlib and numpy.lib.format raise for damaged or hostile bytes. RuntimeError: encrypted members, and its
#: children for unknown compression and deep nesting. MemoryError: a header that claims more than there is room for.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError, MemoryError, SyntaxError, TypeError,
    tokenize.TokenError, struct.error, OverflowError,
)  # fmt: skip


def read(data: NpzData) -> Stored:
    """The arrays, checked. The digest is over the used members' bytes (``.npy`` files), in the order named above."""
    path = _find(data)
    where = files.shown(path)
    arrays, digest, unused = _load(path)
    pictures, notes = _pictures({n: a for n, a in arrays.items() if n.startswith("x")}, data.layout, where)
    splits: dict[str, Split] = {}
    for name, x in pictures.items():
        label = "y" + name[1:]
        paired(x, arrays[label], (name, label), where)
        y, more = _labels(arrays[label], data.classes, label, where)
        splits[name] = Split(x, y)
        notes = (*notes, *more)
    if unused:
        notes = (*notes, f"arrays not used: {', '.join(unused)}")
    first = "x_train" if "x_train" in splits else "x"
    _same_targets(splits, first, where)
    return Stored(
        source=where,
        digest=digest,
        train=splits[first],
        validation=splits.get("x_val"),
        test=splits.get("x_test"),
        test_share=data.test,
        classes=data.classes,
        class_names=tuple(map(str, range(data.classes or 0))),
        notes=tuple(dict.fromkeys(notes)),
    )


def _find(data: NpzData) -> Path:
    given = Path(os.path.expanduser(data.path))
    if given.is_absolute():
        places = [files.Place(given.parent, "data.path")]
    else:
        places = files.places("npz", data.root)
        places.insert(1 if data.root else 0, files.Place(Path.cwd(), "the working directory"))
    paths, _ = files.locate(
        "npz",
        [given.name if given.is_absolute() else str(given)],
        places,
        endings=("",),
        fix="data.path=FILE with its whole path, or data.root=FOLDER that has it",
    )
    return paths[0]


def _load(path: Path) -> tuple[dict[str, NDArray[Any]], str, list[str]]:
    """The arrays that count by name, their digest, and the names of the rest."""
    digest = sha256()
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            wanted = _wanted(set(members), files.shown(path))
            arrays = {}
            for name in wanted:
                with archive.open(members[name]) as stream:
                    arrays[name] = _array(stream, digest, name, path)
    except PermissionError as error:
        raise files.unreadable(path, error) from error
    except _DAMAGE as error:
        raise _damaged(path, f"{type(error).__name__}: {error}".split("\n")[0]) from error
    return arrays, digest.hexdigest(), sorted(set(members) - set(wanted))


def _damaged(path: Path, why: str) -> DataError:
    fix = "write it again with np.savez(path, x=pictures, y=labels)"
    return DataError(f"{path.name} is not a whole npz file", where=files.shown(path), why=why, fix=fix)


def _wanted(names: set[str], where: str) -> list[str]:
    """The arrays to read, in order. Raises DataError where one of a pair is missing."""
    first = "_train" if names & {"x_train", "y_train"} else ""
    parts = [first, *(part for part in ("_test", "_val") if names & {f"x{part}", f"y{part}"})]
    wanted = [f"{letter}{part}" for part in parts for letter in "xy"]
    if missing := [name for name in wanted if name not in names]:
        raise DataError(
            f"the npz file has no array {' and no '.join(missing)}",
            where=where,
            why=f"it holds {', '.join(sorted(names)) or 'nothing'}",
            fix="np.savez(path, x=pictures, y=labels), or x_train, y_train, x_test, y_test",
        )
    return wanted


class _Hashed:
    """A stream whose bytes are hashed as they are read."""

    def __init__(self, stream: IO[bytes], digest: _Hash) -> None:
        self._stream, self._digest = stream, digest

    def read(self, size: int = -1, /) -> bytes:
        content = self._stream.read(size)
        self._digest.update(content)
        return content


def _array(stream: IO[bytes], digest: _Hash, name: str, path: Path) -> NDArray[Any]:
    hashed = _Hashed(stream, digest)
    try:
        array: NDArray[Any] = np.lib.format.read_array(hashed, allow_pickle=False)
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise DataError(
            f"{name} is an array of Python objects",
            where=files.shown(path),
            why="reading it would run code from the file; rows of different lengths make such arrays",
            fix=f"store numbers in one regular array: np.stack({name})",
        ) from error
    # Reading on to the end also makes zipfile compare the checksum.
    if hashed.read():
        raise ValueError(f"bytes follow the array {name}")
    return array


def _pictures(
    arrays: dict[str, NDArray[Any]], layout: str, where: str
) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    """Each to (n, h, w, c): all uint8, or all float32."""
    for name, x in arrays.items():
        _check_pictures(name, x, where)
    kinds = {_KINDS[x.dtype.kind] for x in arrays.values()}
    if len(kinds) > 1:
        raise DataError(
            "pictures of different kinds",
            where=where,
            why=", ".join(f"{name} is {x.dtype}" for name, x in arrays.items()),
            fix="store all of them as uint8 from 0 to 255, or all as floats on one scale",
        )
    kind, (low, high) = kinds.pop(), _range(list(arrays.values()))
    notes: tuple[str, ...] = ()
    if kind == "bool":
        notes = ("pictures are true or false: taken as 255 and 0",)
    elif kind == "whole" and not 0 <= low <= high <= 255:
        kind = "float"
        notes = (f"pictures are whole numbers from {low:g} to {high:g}, outside 0..255: taken as floats",)
    made: dict[str, NDArray[Any]] = {}
    for name, x in arrays.items():
        if x.ndim == 3:
            x = x[..., None]
        elif layout == "channels_first":
            x = np.moveaxis(x, 1, 3)
        with np.errstate(over="ignore"):
            x = np.ascontiguousarray(x, np.float32 if kind == "float" else np.uint8)
        made[name] = x * np.uint8(255) if kind == "bool" else x
        if kind == "float":
            finite(x, name, where)
    return made, notes


#: Kinds of pixels by NumPy's letters.
_KINDS = {"b": "bool", "u": "whole", "i": "whole", "f": "float"}


def _range(arrays: list[NDArray[Any]]) -> tuple[float, float]:
    """Least and greatest value, (0, 0) of nothing; uint8 and floats need no look."""
    seen = [a for a in arrays if a.size and a.dtype.kind in "ui" and a.dtype != np.uint8]
    return min((float(a.min()) for a in seen), default=0.0), max((float(a.max()) for a in seen), default=0.0)


def _check_pictures(name: str, x: NDArray[Any], where: str) -> None:
    if x.dtype.kind not in _KINDS:
        raise DataError(
            f"{name} holds {x.dtype}, not pixels",
            where=where,
            why="pixels are uint8 from 0 to 255, or floats",
            fix="store numbers",
        )
    if x.ndim not in (3, 4) or 0 in x.shape[1:]:
        raise DataError(
            f"{name} has the shape {x.shape}",
            where=where,
            why="pictures are (N, height, width, channels), or (N, height, width) for one channel",
            fix=f"{name}.reshape(-1, height, width, channels)",
        )


def _labels(y: NDArray[Any], classes: int | None, name: str, where: str) -> tuple[NDArray[Any], tuple[str, ...]]:
    if classes is not None:
        return class_numbers(y, classes, name, where), ()
    whole = y.dtype.kind in "biu"
    note = "labels are whole numbers and data.classes is not given: taken as targets, not as classes"
    return targets(y, name, where), (note,) * whole


def _same_targets(splits: dict[str, Split], first: str, where: str) -> None:
    shapes = {"y" + name[1:]: split.y.shape[1:] for name, split in splits.items()}
    if len(set(shapes.values())) > 1:
        raise DataError(
            "labels of different shapes",
            where=where,
            why=", ".join(f"{name} is {with_samples(shape)}" for name, shape in shapes.items()),
            fix="store every part's labels in the same shape",
        )
