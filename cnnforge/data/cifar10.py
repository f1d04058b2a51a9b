"""``cifar10``: the binary version and the one for Python, unpacked or in their tar.gz.

Binary: records of a label byte and 3,072 bytes, red, green and blue planes of 32x32 each. Python: pickled dictionaries
of the same bytes, which ``plain_pickle`` reads without running them.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from cnnforge.data import archive, files
from cnnforge.data.dataset import Split, Stored
from cnnforge.data.download import Remote, there_or_fetched
from cnnforge.data.labels import class_numbers
from cnnforge.data.plain_pickle import RefusedError, loads
from cnnforge.errors import DataError
from cnnforge.spec import Cifar10Data

TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
TEST = "test_batch"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
#: Where the files are looked for, best first: archives as they are published, and folders that they unpack to.
ARCHIVES = ("cifar-10-binary.tar.gz", "cifar-10-python.tar.gz")
FOLDERS = ("cifar-10-batches-bin", "cifar-10-batches-py", "")
#: The binary version and its md5, from the data set's page.
PUBLISHED = Remote(
    ARCHIVES[0],
    (
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "https://cave.cs.toronto.edu/kriz/cifar-10-binary.tar.gz",
    ),
    "c32a1d4ab5d03f1284b67883e8d87530",
)
_PIXELS = 3 * 32 * 32


def read(data: Cifar10Data, tell: Callable[[str], None] = lambda text: None) -> Stored:
    """The six files.

    tell: is told of what takes long
    """
    places = files.places("cifar10", data.root)
    path: Path = there_or_fetched(lambda: _find(places), [PUBLISHED], places[-1].folder, data.download, tell)
    if path.is_file():
        return _stored({PurePosixPath(name).name: content for name, content in archive.members(path)}, path)
    names = [file for base in (*TRAIN, TEST) for file in (f"{base}.bin", base) if (path / file).is_file()]
    return _stored({name: files.read(path / name) for name in names}, path)


def _find(places: list[files.Place]) -> Path:
    """An archive, or the folder of an unpacked one."""
    for place in places:
        for name in ARCHIVES:
            if (path := place.folder / name).is_file():
                return path
        for name in FOLDERS:
            folder = place.folder / name
            if any((folder / file).is_file() for base in (*TRAIN, TEST) for file in (f"{base}.bin", base)):
                return folder
    raise DataError(
        "cifar10: the data files are not there",
        where="; ".join(map(str, places)),
        why=f"wanted {' or '.join(ARCHIVES)}, or what is in them",
        fix="CNNFORGE_DATA=FOLDER cnnforge train …, where FOLDER/cifar10 has one of them",
    )


def _stored(found: dict[str, bytes], path: Path) -> Stored:
    where, digest = files.shown(path), sha256()
    pictures: list[NDArray[np.uint8]] = []
    labels: list[NDArray[np.int64]] = []
    for base in (*TRAIN, TEST):
        name = f"{base}.bin" if f"{base}.bin" in found else base
        if name not in found:
            raise DataError(
                f"cifar10: {base} is missing", where=where,
                why=f"there are {', '.join(sorted(found)[:8]) or 'no files'}", fix="all six files belong together",
            )  # fmt: skip
        x, y = _binary(found[name], name, where) if name.endswith(".bin") else _python(found[name], name, where)
        digest.update(y.astype(np.uint8).tobytes() + x.tobytes())
        pictures.append(x)
        labels.append(class_numbers(y, len(CLASSES), name, where))
    train = Split(np.concatenate(pictures[:5]), np.concatenate(labels[:5]))
    return Stored(
        source=where, digest=digest.hexdigest(), train=train, test=Split(pictures[5], labels[5]), classes=len(CLASSES),
        class_names=CLASSES,
    )  # fmt: skip


def _binary(content: bytes, name: str, where: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    if not content or len(content) % (1 + _PIXELS):
        raise _damaged(name, where, f"{len(content):,} bytes are no whole number of records of {1 + _PIXELS:,}")
    records = np.frombuffer(content, np.uint8).reshape(-1, 1 + _PIXELS)
    return _pictures(records[:, 1:]), records[:, 0].astype(np.int64)


def _python(content: bytes, name: str, where: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    try:
        held = loads(content)
    except RefusedError as error:
        raise DataError(
            f"cifar10: {name} is not what it should be", where=where, why=str(error),
            fix="the archive from the data set's own page; a pickle can run any program, so no other is read",
        ) from None  # fmt: skip
    held = {key.decode() if isinstance(key, bytes) else key: value for key, value in held.items()} if isinstance(
        held, dict
    ) else {}  # fmt: skip
    x, y = held.get("data"), held.get("labels")
    whole = isinstance(y, list) and all(isinstance(label, int) for label in y)
    if not isinstance(x, np.ndarray) or not isinstance(y, list) or not whole or x.shape != (len(y), _PIXELS):
        raise _damaged(name, where, "it holds no data of (n, 3072) bytes with n labels")
    return _pictures(x), np.array(y, np.int64)


def _pictures(planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n, 3072) in planes -> (n, 32, 32, 3)"""
    return np.ascontiguousarray(planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def _damaged(name: str, where: str, why: str) -> DataError:
    return DataError(f"cifar10: {name} is damaged", where=where, why=why, fix="copy or download it again")
