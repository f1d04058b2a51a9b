"""A picture beside maps of what mattered in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Pixels: a panel's longer side at least, the space around panels, the height of a line of text.
SIDE, GAP, LINE = 256, 12, 20
#: Colours of +1 and -1, and of the text.
FOR, AGAINST, INK = (214, 39, 40), (31, 119, 180), (40, 40, 40)


@dataclass(frozen=True)
class HeatMap:
    """values: (H, W), shown from -1 to 1;  lines: what it is, in at most two lines below it"""

    values: NDArray[np.float64]
    lines: tuple[str, ...]


def save(file: Path, title: str, picture: NDArray[np.uint8], lines: Sequence[str], maps: Sequence[HeatMap]) -> None:
    """Write PNG. picture: (H, W, 1 or 3), with ``lines`` below; maps: on the same picture in grey. Raises OSError."""
    from PIL import Image, ImageDraw, ImageFont

    h, w = picture.shape[:2]
    times = max(1, -(-SIDE // max(h, w)))
    size = (w * times, h * times)
    big = picture.repeat(times, axis=0).repeat(times, axis=1).repeat(3 // picture.shape[2], axis=2)
    panels = [(big, tuple(lines)), *((_overlaid(big, shown.values, size), shown.lines) for shown in maps)]
    font = ImageFont.load_default(13)
    wide = [max(size[0], *(round(font.getlength(line)) for line in text)) for _, text in panels]
    width = max(sum(wide) + GAP * (len(panels) + 1), round(font.getlength(title)) + 2 * GAP)
    most = max(len(text) for _, text in panels)
    sheet = Image.new("RGB", (width, size[1] + LINE * (most + 1) + 3 * GAP), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP), title, INK, font)
    left = GAP
    for (panel, text), room in zip(panels, wide, strict=True):
        sheet.paste(Image.fromarray(panel), (left, 2 * GAP + LINE))
        for i, line in enumerate(text):
            draw.text((left, 2 * GAP + LINE * (i + 1) + size[1] + 4), line, INK, font)
        left += room + GAP
    sheet.save(file, "PNG")


def _overlaid(big: NDArray[np.uint8], values: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.uint8]:
    from PIL import Image

    heat = np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.BICUBIC))
    heat = np.clip(heat, -1, 1)[..., None]
    grey: NDArray[Any] = 0.4 * big.mean(axis=2, keepdims=True) + 0.6 * 255 * 0.8
    colour = np.where(heat > 0, np.array(FOR, np.float64), np.array(AGAINST, np.float64))
    strength = 0.85 * np.abs(heat)
    return np.asarray((1 - strength) * grey + strength * colour + 0.5).astype(np.uint8)
