"""Augmented training pictures side by side: a row for each sample, first as it is, then as each epoch sees it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnforge.backends.base import Backend
from cnnforge.data import Batches, Dataset, Split
from cnnforge.spec import AugmentSpec

#: Pixels between pictures, their grey, and the least side that a picture is enlarged to.
GAP, PAPER, SIDE = 4, 128, 64


def contact_sheet(
    data: Dataset, augment: AugmentSpec, seed: int, samples: int, epochs: int, backend: Backend | None = None
) -> NDArray[np.uint8]:
    """(height, width, 3) of the first ``samples`` of the training pictures, what training's first epochs see of them.

    Normalisation is undone. Floats are shown from the least to the greatest value of these samples. Small pictures are
    enlarged by a whole number, pixels as squares; of one or two channels the first is shown, as grey.
    """
    n = min(samples, len(data.train))
    part = Split(data.train.x[:n], data.train.y[:n])
    columns = [_shown(data, part, seed, None, 0, backend)]
    columns += [_shown(data, part, seed, augment, epoch, backend) for epoch in range(epochs)]
    x = np.stack(columns, axis=1)
    low, high = (0.0, 255.0) if part.x.dtype == np.uint8 else (float(columns[0].min()), float(columns[0].max()))
    grey = np.clip((x - low) * (255 / ((high - low) or 1.0)) + 0.5, 0, 255).astype(np.uint8)
    grey = grey[..., :3] if grey.shape[-1] >= 3 else np.repeat(grey[..., :1], 3, axis=-1)
    times = max(1, -(-SIDE // min(grey.shape[2:4])))
    big = grey.repeat(times, axis=2).repeat(times, axis=3)
    framed = np.pad(big, ((0, 0), (0, 0), (GAP, 0), (GAP, 0), (0, 0)), constant_values=PAPER)
    rows, across, height, width, _ = framed.shape
    sheet = framed.transpose(0, 2, 1, 3, 4).reshape(rows * height, across * width, 3)
    return np.pad(sheet, ((0, GAP), (0, GAP), (0, 0)), constant_values=PAPER)


def _shown(
    data: Dataset, part: Split, seed: int, augment: AugmentSpec | None, epoch: int, backend: Backend | None
) -> NDArray[np.float32]:
    """(n, H, W, C): a batch of all, on the scale of the pixels."""
    n, made = len(part), data.preprocessing
    batches = Batches(part, made, n, seed=seed, shuffle=False, augment=augment, backend=backend)
    out = np.empty((n, *made.input), np.float32)
    batches.fill(batches.epoch(epoch), 0, out, None)
    mean, factor = made.constants
    shown: NDArray[Any] = out / factor + mean
    return shown


def save(sheet: NDArray[np.uint8], file: str) -> None:
    """As a picture of the kind that the file's name says. Raises OSError."""
    from PIL import Image

    Image.fromarray(sheet).save(file)
