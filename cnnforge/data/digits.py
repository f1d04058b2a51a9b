"""``digits``: the 1,797 real handwritten digits that the installed scikit-learn ships, 8x8, one channel.

Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998, of
which scikit-learn carries the test part. Read without importing scikit-learn, which takes over a second.
"""

from __future__ import annotations

from hashlib import sha256
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np

from cnnforge.data import files
from cnnforge.data.dataset import Split, Stored
from cnnforge.data.labels import class_numbers
from cnnforge.errors import DataError
from cnnforge.spec import DigitsData

FILE = "digits.csv"
#: A pixel counts the dark points among 4x4 of the scan: 0 to 16.
LEVELS = 16


def read(data: DigitsData) -> Stored:
    """The samples, in the file's order; ink is bright. 0 to 16 becomes 0 to 255, the scale of 8-bit pictures."""
    package = _package()
    places = files.places("digits", data.root)
    shipped = files.Place(package, "the scikit-learn package") if package else None
    paths, place = files.locate(
        "digits",
        [FILE],
        [*places, *([shipped] if shipped else [])],
        fix=f"pip install {'--force-reinstall ' * bool(shipped)}scikit-learn, whose package has the file",
    )
    path = paths[0]
    content = files.read(path)
    try:
        if not content.strip():
            raise ValueError("it is empty")
        table = np.loadtxt(BytesIO(content), dtype=np.int64, delimiter=",", ndmin=2)
        height, width, _ = data.shape()
        if table.shape[1] != height * width + 1:
            raise ValueError(f"{table.shape[1]} columns where {height * width} pixels and a label belong")
        pixels = table[:, :-1]
        if pixels.min() < 0 or pixels.max() > LEVELS:
            raise ValueError(f"pixels from {pixels.min()} to {pixels.max()} where 0 to {LEVELS} belong")
    except ValueError as error:
        raise DataError(
            f"{path.name} is not the table of digits",
            where=files.shown(path),
            why=str(error).split("\n")[0],
            fix="pip install --force-reinstall scikit-learn" if place is shipped else f"remove or repair {path.name}",
        ) from error
    x = ((pixels * 255 + LEVELS // 2) // LEVELS).astype(np.uint8).reshape(-1, height, width, 1)
    return Stored(
        source=f"scikit-learn {path.name}" if place is shipped else files.shown(path),
        digest=sha256(content).hexdigest(),
        train=Split(x, class_numbers(table[:, -1], data.class_count(), path.name, files.shown(path))),
        test_share=data.test,
        classes=data.class_count(),
        class_names=tuple(map(str, range(data.class_count()))),
        notes=(f"pixels 0..{LEVELS} scaled to 0..255",),
    )


def _package() -> Path | None:
    """The data folder of the installed scikit-learn, found without importing it; None where it is not installed."""
    found = find_spec("sklearn")
    folders = found.submodule_search_locations if found else None
    return Path(folders[0]) / "datasets" / "data" if folders else None
