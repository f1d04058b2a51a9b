"""``mnist`` and ``fashion_mnist``: pictures and labels in IDX files, plain or gzip.

IDX (LeCun, Cortes, Burges, "The MNIST database of handwritten digits", 1998): two zero bytes, one for the type (0x08:
unsigned byte), one for the number of axes, then each axis as a big-endian uint32, then the values.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import md5, sha256
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnforge.data import files
from cnnforge.data.dataset import Split, Stored
from cnnforge.data.download import Remote, there_or_fetched
from cnnforge.data.labels import class_numbers, paired
from cnnforge.errors import DataError
from cnnforge.spec import IdxSpec, MnistData

#: File names in the order in which their bytes make the digest.
NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
#: The md5 of the original MNIST's, decompressed. Fashion-MNIST publishes those of its compressed files alone.
MNIST = (
    "6bbc9ace898e44ae57da46a324031adb", "a25bea736e30d166cdddb491f175f624", "2646ac647ad5339dbf082846283269ea",
    "27ae3e4e09519cfbb04c329615203637",
)  # fmt: skip
#: The md5 of Fashion-MNIST's compressed files, from its page.
FASHION_PACKED = (
    "8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe", "bef4ecab320f06d8554ea6380940ec79",
    "bb300cfdad3c16e7a12a480ee83cd310",
)  # fmt: skip
MNIST_URLS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
FASHION_URLS = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)
#: Names of Fashion-MNIST's classes.
FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
TYPES = {0x08: "uint8", 0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}


def read(data: IdxSpec, tell: Callable[[str], None] = lambda text: None) -> Stored:
    """The four files. Other data in MNIST's format are taken for it too, with a note.

    tell: is told of what takes long
    """
    places = files.places(data.type, data.root)

    def look() -> tuple[list[Path], files.Place]:
        return files.locate(
            data.type,
            NAMES,
            places,
            fix=f"CNNFORGE_DATA=FOLDER cnnforge train …, where FOLDER/{data.type} has the four files; "
            "or data=digits, which needs none",
        )

    paths, place = there_or_fetched(look, _published(data), places[-1].folder, data.download, tell)
    whole, foreign, arrays = sha256(), [], []
    for path, original, ndim in zip(paths, MNIST, (3, 1, 3, 1), strict=True):
        content = files.read(path)
        whole.update(content)
        is_original = md5(content, usedforsecurity=False).hexdigest() == original
        if is_original != isinstance(data, MnistData):
            foreign.append(path.name)
        arrays.append(parse(content, path, ndim))
    x, y, x_test, y_test = arrays
    names = [path.name for path in paths]
    is_mnist = isinstance(data, MnistData)
    what = "not the original MNIST" if is_mnist else "this is MNIST, not Fashion-MNIST"
    return Stored(
        source=files.shown(place.folder),
        digest=whole.hexdigest(),
        train=_split(x, y, (names[0], names[1]), place.folder, data.class_count()),
        test=_split(x_test, y_test, (names[2], names[3]), place.folder, data.class_count()),
        classes=data.class_count(),
        class_names=tuple(map(str, range(data.class_count()))) if is_mnist else FASHION,
        notes=(f"{what}, used as it is: {', '.join(foreign)}",) if foreign else (),
    )


def _published(data: IdxSpec) -> list[Remote]:
    mnist = isinstance(data, MnistData)
    where, digests = (MNIST_URLS, MNIST) if mnist else (FASHION_URLS, FASHION_PACKED)
    return [
        Remote(f"{name}.gz", tuple(f"{url}{name}.gz" for url in where), digest, inside=mnist)
        for name, digest in zip(NAMES, digests, strict=True)
    ]


def parse(content: bytes, path: Path, ndim: int) -> NDArray[np.uint8]:
    """The array of an IDX file's bytes: (n, h, w) pictures or (n,) labels, as ``ndim`` says; a view on ``content``.

    Raises DataError for another format, type or number of axes, and for too few or too many bytes.
    """
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in TYPES:
        raise DataError(
            f"{path.name} is not an IDX file",
            where=files.shown(path),
            why=f"it begins with {content[:4].hex(' ') or 'nothing'}, an IDX file of {ndim} axes with 00 00 08 0{ndim}",
            fix="put the IDX file there, plain or gzip",
        )
    if content[2] != 0x08:
        raise DataError(
            f"{path.name} holds {TYPES[content[2]]} values",
            where=files.shown(path),
            why=f"its type is 0x{content[2]:02x}; pictures and labels are unsigned bytes, 0x08",
            fix="store unsigned bytes, or use data=npz, which takes floats",
        )
    axes = content[3]
    if axes != ndim:
        raise DataError(
            f"{path.name} has {axes} axes where {ndim} belong",
            where=files.shown(path),
            why="pictures have 3 axes (n, height, width), labels 1",
            fix="are the files of pictures and labels swapped?" if {axes, ndim} == {1, 3} else "check the file",
        )
    header = 4 + 4 * axes
    if len(content) < header:
        raise files.damaged(path, f"it ends after {len(content)} bytes, inside its header of {header}", kind="IDX file")
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, header, 4))
    stated, there = prod(shape), len(content) - header
    if there != stated:
        what = f"its header says {'x'.join(map(str, shape))} = {stated:,} bytes, and {there:,} follow"
        raise files.damaged(path, what, kind="IDX file")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _split(x: NDArray[np.uint8], y: NDArray[np.uint8], names: tuple[str, str], folder: Path, classes: int) -> Split:
    paired(x, y, names, files.shown(folder))
    return Split(x[..., None], class_numbers(y, classes, names[1], files.shown(folder)))
