"""Adapting pictures to a model's input, by rules that are stated and can be read in ``Dataset.notes``.

Channels: as they are; one is repeated; three become one by luma; anything else is refused.
Size: by the rule that ``data.resize`` names.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnforge.data import resample
from cnnforge.data.chunks import chunks
from cnnforge.errors import DataError

Resize = Literal["bilinear", "nearest", "pad", "refuse"]
Picture = tuple[int, int, int]

#: Red, green, blue in thousandths: ITU-R Recommendation BT.601, section 2.5.1, on pixel values as they are stored.
LUMA = (299, 587, 114)


@dataclass(frozen=True)
class Adaptation:
    """Raw pictures -> samples as they are kept: (n, h, w, c) -> (n, H, W, channels), same dtype.

    input:    (H, W, C) of the model
    channels: of a kept sample: C, or 1 where one channel is repeated C times when a batch is made
    resize:   the rule for pictures that are not H x W
    """

    input: Picture
    channels: int
    resize: Resize

    def adapt(self, raw: NDArray[Any], rows: NDArray[np.int64] | None = None) -> NDArray[Any]:
        """raw: (n, h, w, c) uint8 or float32 -> (len(rows), H, W, channels); ``rows`` picks samples, all by default.

        8-bit pictures stay 8-bit, rounded after each rule. Raises DataError as ``check`` does.
        """
        self.check(raw.shape[1:])
        height, width, _ = self.input
        n = len(raw) if rows is None else len(rows)
        kept = np.empty((n, height, width, self.channels), raw.dtype)
        size = (int(raw.shape[1]), int(raw.shape[2]))
        same = size == (height, width)
        resize = None if same or self.resize == "refuse" else _RULES[self.resize](size, (height, width))
        for part in chunks(n, max(kept.shape[1:], raw.shape[1:], key=prod)):
            x = _channels(raw[part] if rows is None else raw[rows[part]], self.channels)
            kept[part] = resize(x) if resize else x
        return kept

    def check(self, shape: tuple[int, ...]) -> None:
        """Can a picture of ``shape`` (h, w, c) be adapted? Raises DataError with what to do instead."""
        h, w, c = shape
        height, width, wanted = self.input
        if not h * w * c:
            raise DataError(f"pictures of {h}x{w}x{c} have no pixels", why="a size is 0", fix="check the source")
        if c != self.channels and (c, self.channels) != (3, 1) and c != 1:
            _refuse_channels(shape, self.channels)
        if self.resize == "refuse" and (h, w) != (height, width):
            raise DataError(
                f"pictures are {h}x{w} and the model's input is {height}x{width}",
                where="data.resize: refuse",
                why=f"({h}, {w}) is not ({height}, {width})",
                fix=f"model.input: [{h}, {w}, {wanted}], or data.resize: bilinear",
            )
        if self.resize == "pad" and (h > height or w > width):
            raise DataError(
                f"pictures of {h}x{w} do not fit into {height}x{width}",
                where="data.resize: pad",
                why=f"{h} > {height}" if h > height else f"{w} > {width}",
                fix=f"model.input: [{h}, {w}, {wanted}], or data.resize: bilinear",
            )

    def note(self, shape: tuple[int, ...]) -> str:
        """What happens to a picture of ``shape`` on its way to the network, in words; empty where nothing does."""
        h, w, c = shape
        height, width, wanted = self.input
        rules: list[str] = []
        if c == 3 and self.channels == 1:
            rules.append("grey by 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601)")
        if (h, w) != (height, width):
            rules.append(_resize_note(self.resize, h, w, height, width))
        if c == 1 != wanted:
            rules.append(f"channel repeated {wanted} times")
        return f"pictures {h}x{w}x{c} -> {height}x{width}x{wanted}: {', '.join(rules)}" if rules else ""


def adaptation(shape: tuple[int, ...], input: Picture, resize: Resize) -> Adaptation:
    """The adaptation of pictures (h, w, c) to a model's input. Raises DataError where there is no rule for it."""
    c, wanted = shape[2], input[2]
    if c != wanted and c != 1 and (c, wanted) != (3, 1):
        _refuse_channels(shape, wanted)
    rule = Adaptation(input, channels=1 if c == 1 else wanted, resize=resize)
    rule.check(shape)
    return rule


_RULES = {"bilinear": resample.bilinear, "nearest": resample.nearest, "pad": resample.pad}


def _channels(x: NDArray[Any], wanted: int) -> NDArray[Any]:
    """x: (n, h, w, c) -> (n, h, w, wanted); 8-bit stays 8-bit, halves rounded up."""
    c = x.shape[3]
    if c == wanted:
        return x
    if c == 1:
        return np.broadcast_to(x, (*x.shape[:3], wanted))
    if x.dtype == np.uint8:
        luma = x.astype(np.uint32) @ np.array(LUMA, np.uint32)
        return ((luma + 500) // 1000).astype(np.uint8)[..., None]
    grey = x.astype(np.float64) @ (np.array(LUMA) / 1000)
    return np.asarray(grey.astype(x.dtype)[..., None])


def _resize_note(resize: str, h: int, w: int, height: int, width: int) -> str:
    if resize == "pad":
        (top, bottom), (left, right) = resample.margins(h, height), resample.margins(w, width)
        return f"zeros around (top {top}, bottom {bottom}, left {left}, right {right})"
    if h * width == w * height:
        return resize
    return f"{resize}, aspect changed (height x {height / h:.3g}, width x {width / w:.3g})"


def _refuse_channels(shape: tuple[int, ...], wanted: int) -> None:
    h, w, c = shape
    fix = f"model.input: [{h}, {w}, {c}]"
    if h in (1, 3) and c > 4:
        fix = "data.layout: channels_first, if the file holds (N, C, H, W); else " + fix
    elif wanted == 1 or c == 4:
        fix += ", or convert the pictures to 1 or 3 channels beforehand"
    raise DataError(
        f"pictures have {c} channels and the model takes {wanted}",
        where=f"pictures {h}x{w}x{c}",
        why=f"one channel can be repeated and three become one by luma; there is no rule for {c} channels to {wanted}",
        fix=fix,
    )
