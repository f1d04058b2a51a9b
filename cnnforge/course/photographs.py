"""Real pictures, from what scikit-learn ships; it is not imported for them.

The photographs are ``china.jpg`` by danielbuechele and ``flower.jpg`` by vultilion (both flickr.com, CC BY 2.0).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np

from cnnforge.course.parts import Array
from cnnforge.data import digits
from cnnforge.data.pictures import Form, decode
from cnnforge.errors import DataError
from cnnforge.spec import DigitsData

CREDIT = {
    "china": "photograph by danielbuechele, flickr.com, CC BY 2.0",
    "flower": "photograph by vultilion, flickr.com, CC BY 2.0",
}


def photograph(name: Literal["china", "flower"], rows: int, columns: int, channels: Literal[1, 3]) -> Array:
    """(rows, columns, channels) from 0 to 255. Raises DataError where scikit-learn's files are not here."""
    found = find_spec("sklearn")
    folders = list(found.submodule_search_locations or ()) if found else []
    file = Path(folders[0] if folders else "sklearn") / "datasets" / "images" / f"{name}.jpg"
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(
            f"{name}.jpg is not here",
            where=str(file),
            why=error.strerror or str(error),
            fix="pip install --force-reinstall scikit-learn, whose package has the file",
        ) from None
    return decode(content, Form((rows, columns), "crop", channels)).astype(np.float64)


def digit(number: int) -> Array:
    """(8, 8) from 0 to 255: one of the 1,797 handwritten digits, by its place in the file."""
    picture: Array = digits.read(DigitsData(type="digits")).train.x[number, :, :, 0].astype(np.float64)
    return picture
