"""Numbers as colours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cnnforge.course.parts import Array, Scale

BLUE, RED, WHITE = (33, 102, 172), (178, 24, 43), (255, 255, 255)
#: Steps from white to the full colour: with them a picture has fewer than 256 colours.
STEPS = 24


def colours(values: Array, scale: Scale, bounds: tuple[float, float] | None = None) -> NDArray[np.uint8]:
    """(rows, columns) -> (rows, columns, 3).

    brightness: grey, black at the lower bound, white at the upper;  signed: white at 0, blue above, red below
    """
    low, high = bounds or (float(values.min()), float(values.max()))
    if scale == "none":
        return np.full((*values.shape, 3), 255, np.uint8)
    if scale == "brightness":
        grey = np.clip((values - low) / ((high - low) or 1.0), 0, 1)
        return np.repeat(np.rint(grey * 255).astype(np.uint8)[..., None], 3, axis=-1)
    most = max(abs(low), abs(high)) or 1.0
    share = np.rint(np.clip(values / most, -1, 1) * STEPS) / STEPS
    full = np.where((share >= 0)[..., None], np.array(BLUE, float), np.array(RED, float))
    mixed = np.array(WHITE, float) * (1 - abs(share))[..., None] + full * abs(share)[..., None]
    return np.rint(mixed).astype(np.uint8)


def is_dark(colour: NDArray[np.uint8]) -> bool:
    """Is white writing read better on it than black? By the luma of ITU-R 601."""
    red, green, blue = (int(part) for part in colour)
    return 0.299 * red + 0.587 * green + 0.114 * blue < 145


def text_of(colour: NDArray[np.uint8]) -> str:
    """``#2166ac``."""
    return "#" + "".join(f"{int(part):02x}" for part in colour)
