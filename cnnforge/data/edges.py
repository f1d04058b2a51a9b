"""``edges``: pictures, and what an edge filter gives of them, to learn the filter back from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cnnforge.data import digits
from cnnforge.data.dataset import Split, Stored
from cnnforge.init import FILTERS
from cnnforge.spec import DigitsData, EdgesData


def read(data: EdgesData) -> Stored:
    """The digits as numbers from 0 to 1; labels (n, 6, 6, 1) float32: their cross-correlation with the 3x3 filter."""
    stored = digits.read(DigitsData(type="digits", root=data.root))
    x = stored.train.x.astype(np.float32) / np.float32(255)
    kernel = np.array(FILTERS[data.filter], np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(x[..., 0], kernel.shape, (1, 2))
    y = np.einsum("nhwij,ij->nhw", windows, kernel)[..., None].astype(np.float32)
    return replace(
        stored, train=Split(x, y), test_share=data.test, classes=None, class_names=(),
        notes=(f"labels: what {data.filter} gives of each picture",),
    )  # fmt: skip
