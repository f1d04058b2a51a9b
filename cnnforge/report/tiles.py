"""Arrays as pictures: filters, feature maps, small photographs in rows, pixels as squares."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from math import ceil, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnforge.report.facts import Filters, Mistake, Picture, Seen

#: Pixels between tiles, and the colour there.
GAP, PAPER = 3, 255
INK, FAINT = (32, 32, 32), (110, 110, 110)
#: The most that is shown of anything: filters, channels of their input, maps of a layer, cells in a row of a vector.
MOST_FILTERS, MOST_CHANNELS, MOST_MAPS, MOST_CELLS = 64, 8, 16, 128
TEXT = 13


def enlarged(picture: NDArray[Any], side: int) -> NDArray[Any]:
    """(h, w, …) with each pixel as a square, so that the shorter side has at least ``side`` pixels."""
    times = max(1, ceil(side / min(picture.shape[:2])))
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def coloured(picture: NDArray[Any]) -> NDArray[np.uint8]:
    """(h, w, 1 or 3) -> (h, w, 3)."""
    return np.broadcast_to(picture, (*picture.shape[:2], 3)).astype(np.uint8)


def grid(tiles: Sequence[NDArray[np.uint8]], most: int) -> NDArray[np.uint8]:
    """Pictures (h, w, 3) of one size in rows of at most so many, on paper."""
    h, w, _ = tiles[0].shape
    across = min(most, len(tiles))
    down = ceil(len(tiles) / across)
    sheet = np.full((down * (h + GAP) - GAP, across * (w + GAP) - GAP, 3), PAPER, np.uint8)
    for i, tile in enumerate(tiles):
        y, x = (i // across) * (h + GAP), (i % across) * (w + GAP)
        sheet[y : y + h, x : x + w] = tile
    return sheet


def heat(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """(h, w) -> (h, w, 3): dark for ``low``, bright for ``high``."""
    from matplotlib import colormaps

    table = (np.asarray(colormaps["magma"](np.arange(256)))[:, :3] * 255).astype(np.uint8)
    place = (np.nan_to_num(values.astype(np.float64)) - low) * (255 / ((high - low) or 1.0))
    return table[np.clip(place, 0, 255).astype(np.uint8)]


def filter_sheet(w: NDArray[Any]) -> NDArray[np.uint8]:
    """(KH, KW, C, F) -> (h, w, 3). Filters of three channels are colours; of one, grey; of others, a row for each
    channel. All on one scale, with 0 in the middle.
    """
    w = w[..., :MOST_FILTERS].astype(np.float64)
    reach = float(np.abs(w).max()) or 1.0
    shades = np.clip((w / reach + 1) * 127.5, 0, 255).astype(np.uint8)
    count, side = w.shape[3], 48
    if w.shape[2] in (1, 3):
        tiles = [enlarged(coloured(shades[..., f]), side) for f in range(count)]
        return grid(tiles, 16 if count > 16 else 8)
    channels, count = min(w.shape[2], MOST_CHANNELS), min(count, 16)
    tiles = [enlarged(coloured(shades[:, :, c, f, None]), side) for c in range(channels) for f in range(count)]
    return grid(tiles, count)


def maps_sheet(values: NDArray[Any], side: int = 56) -> NDArray[np.uint8]:
    """What a layer gives for one picture -> (h, w, 3): each map by itself, (OH, OW, F); a vector (units,) as a row of
    cells. One scale for the whole layer, from its least value (0 where none is below) to its greatest.
    """
    finite = values[np.isfinite(values)]
    low, high = (min(float(finite.min()), 0.0), float(finite.max())) if finite.size else (0.0, 0.0)
    if values.ndim == 1 or values.shape[:2] == (1, 1):
        flat = values.reshape(-1)[:MOST_CELLS]
        cell, across = (24, 32) if len(flat) <= 32 else (12, 64)
        return grid(
            list(np.broadcast_to(heat(flat[None], low, high)[0][:, None, None], (len(flat), cell, cell, 3))), across
        )
    tiles = [enlarged(heat(values[..., f], low, high), side) for f in range(min(values.shape[2], MOST_MAPS))]
    return grid([_within(tile, side) for tile in tiles], MOST_MAPS)


def _within(tile: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """A large map thinned out to about ``side`` pixels."""
    step = max(1, min(tile.shape[:2]) // side)
    return tile[::step, ::step]


def png(sheet: NDArray[np.uint8]) -> bytes:
    """(h, w, 1 or 3) as a PNG file's bytes."""
    from PIL import Image

    out = BytesIO()
    Image.fromarray(coloured(sheet)).save(out, "PNG")
    return out.getvalue()


def labelled(rows: Sequence[tuple[str, NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """Pictures one below another, each under a line of text."""
    width = max([320, *(sheet.shape[1] for _, sheet in rows)]) + 2 * GAP
    height = sum(sheet.shape[0] + TEXT + 10 for _, sheet in rows) + 4
    paper = np.full((height, width, 3), PAPER, np.uint8)
    places, y = [], 4
    for text, sheet in rows:
        places.append((text, (GAP, y)))
        y += TEXT + 6
        paper[y : y + sheet.shape[0], GAP : GAP + sheet.shape[1]] = sheet
        y += sheet.shape[0] + 4
    return _written(paper, places)


def _written(paper: NDArray[np.uint8], places: Sequence[tuple[str, tuple[int, int]]]) -> NDArray[np.uint8]:
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(paper)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(TEXT - 1)
    for text, place in places:
        draw.text(place, _plain(text), fill=INK, font=font)
    return np.asarray(image)


def _plain(text: str) -> str:
    """Letters that every font has; others would raise where the font is Pillow's bitmap one."""
    return text.encode("latin-1", "replace").decode("latin-1")


def filters_picture(filters: Filters) -> NDArray[np.uint8]:
    """Before and after, one below the other."""
    rows = [] if filters.before is None else [("before training", filter_sheet(filters.before))]
    return labelled([*rows, ("after training", filter_sheet(filters.after))])


def seen_picture(seen: Seen) -> NDArray[np.uint8]:
    """A picture and what the layers make of it, one below another."""
    rows = [(seen.label, fitted(seen.picture, 96))]
    return labelled([*rows, *((name, maps_sheet(values)) for name, values in seen.maps)])


def fitted(picture: Picture, side: int) -> NDArray[np.uint8]:
    """(h, w, 1 or 3) -> (h, w, 3) of about ``side`` pixels: enlarged, or made smaller as photographs are."""
    whole = coloured(picture)
    if min(whole.shape[:2]) <= side:
        return enlarged(whole, side)
    from PIL import Image

    scale = side / min(whole.shape[:2])
    h, w = (max(1, round(n * scale)) for n in whole.shape[:2])
    return np.asarray(Image.fromarray(whole).resize((w, h), Image.Resampling.BOX))


def mistakes_picture(mistakes: Sequence[Mistake], side: int = 96) -> NDArray[np.uint8]:
    """Pictures in rows, each with what it is and what the model says below it."""
    tiles = [fitted(m.picture, side) for m in mistakes]
    h, w = (max(tile.shape[axis] for tile in tiles) for axis in (0, 1))
    w, across = max(w, 130), min(len(tiles), max(4, ceil(sqrt(2 * len(tiles)))))
    step, down = h + 2 * (TEXT + 2) + 8, ceil(len(tiles) / across)
    paper = np.full((down * step + GAP, across * (w + 8) + GAP, 3), PAPER, np.uint8)
    places = []
    for i, (mistake, tile) in enumerate(zip(mistakes, tiles, strict=True)):
        y, x = (i // across) * step + GAP, (i % across) * (w + 8) + GAP
        paper[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
        for line, text in enumerate((f"is {mistake.truth}", f"said {mistake.said[0]}")):
            places.append((text[: w // 6], (x, y + h + 2 + line * (TEXT + 2))))
    return _written(paper, places)
