"""From a picture file's bytes to an array of one size."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

#: What Pillow raises for bytes that are no picture, or no whole one.
DAMAGE = (OSError, ValueError, SyntaxError, EOFError, struct.error, IndexError, TypeError, OverflowError, Warning)
#: Endings of files that are taken for pictures.
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm")


class TooManyPixels(OverflowError):
    """A file of few bytes that would fill the memory."""


@dataclass(frozen=True)
class Form:
    """What every picture is brought to.

    size: (height, width); None leaves it;  fit: see ``PicturesSpec``;  channels: 1 or 3
    """

    size: tuple[int, int] | None
    fit: Literal["crop", "pad", "stretch"]
    channels: int


#: Formats that ``look`` takes from strangers: those of the web and of scanners, whose decoders start no programs.
PICTURES = "PNG, JPEG, WEBP, GIF, BMP, TIFF, PPM"


@contextmanager
def strictly() -> Iterator[None]:
    """Pictures of suspiciously many pixels are damaged ones. For the whole process, so not for each thread."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def trouble(error: Exception) -> str:
    """Why a file is no picture, where ``decode`` raised one of ``DAMAGE``."""
    if isinstance(error, TooManyPixels):
        return "more pixels than are safe"
    if type(error).__name__ == "UnidentifiedImageError":
        return "no picture of a known format"
    return f"damaged: {error}" if str(error) else "damaged"


def open_picture(content: bytes, formats: list[str] | None = None) -> Any:
    """A picture file as Pillow has it, nothing decoded yet; of ``formats`` alone where they are given.

    Raises one of ``DAMAGE``: TooManyPixels where Pillow takes it for a bomb, or inside ``strictly`` suspects one.
    """
    from PIL import Image

    try:
        return Image.open(io.BytesIO(content), formats=formats)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise TooManyPixels from None


def look(content: bytes) -> tuple[int, int]:
    """(width, height) of a picture file by its header, nothing decoded.

    Raises TooManyPixels, and whatever Pillow does where it is none of ``PICTURES``.
    """
    with open_picture(content, PICTURES.split(", ")) as opened:
        size: tuple[int, int] = opened.size
    return size


def decode(content: bytes, form: Form) -> NDArray[np.uint8]:
    """A picture file's bytes -> (H, W, channels), upright as its EXIF says, of several frames the first.

    Colours become grey by luma (ITU-R 601), 16 bits become 8, what is transparent lies on white. Raises one of
    ``DAMAGE``; a picture of more pixels than Pillow takes for safe is one of them inside ``strictly``.
    """
    from PIL import Image, ImageOps

    with open_picture(content) as opened:
        if form.size is not None and opened.format == "JPEG" and form.fit != "stretch":
            opened.draft(None, _at_least(opened.size, form.size))
        picture: Any = ImageOps.exif_transpose(opened)
        if picture.mode.startswith("I;16") or picture.mode == "I":
            picture = Image.fromarray((np.asarray(picture).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
        elif picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
            picture = picture.convert("RGBA")
            white = Image.new("RGBA", picture.size, "white")
            picture = Image.alpha_composite(white, picture)
        picture = picture.convert("L" if form.channels == 1 else "RGB")
        if form.size is not None and picture.size != form.size[::-1]:
            picture = _fitted(picture, form)
        array = np.asarray(picture, np.uint8)
    return array.reshape(*array.shape[:2], form.channels)


def _at_least(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int]:
    """For the decoder: twice what is wanted, so that scaling down still has something to average."""
    return min(size[0], 2 * wanted[1]), min(size[1], 2 * wanted[0])


def _fitted(picture: Any, form: Form) -> Any:
    from PIL import Image, ImageOps

    assert form.size is not None
    size = form.size[::-1]
    if form.fit == "stretch":
        return picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
    if form.fit == "pad":
        return ImageOps.pad(picture, size, Image.Resampling.BICUBIC, color=0)
    return ImageOps.fit(picture, size, Image.Resampling.BICUBIC)
