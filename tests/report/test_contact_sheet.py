"""The sheet's tiles against the pictures they are of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnforge.data import Batches, Dataset, Split
from cnnforge.data.adapt import adaptation
from cnnforge.data.preprocess import measure
from cnnforge.report.contact_sheet import GAP, PAPER, contact_sheet, save
from cnnforge.spec import AugmentSpec

KINDS = AugmentSpec.model_validate({"flip": {}, "rotate": {"degrees": 20}})


def data_of(x: np.ndarray, channels: int) -> Dataset:
    rule = adaptation(x.shape[1:], (*x.shape[1:3], channels), "refuse")
    made, _ = measure(rule, x, "standard")
    split = Split(x, np.arange(len(x)))
    return Dataset("synthetic", "", "", None, (), split, split, split, made, ())


def tiles(sheet: np.ndarray, rows: int, columns: int, times: int, size: tuple[int, int]) -> np.ndarray:
    """(rows, columns, H, W, 3), each square of ``times`` pixels seen to be of one colour."""
    height, width = (GAP + times * n for n in size)
    assert sheet.shape == (rows * height + GAP, columns * width + GAP, 3)
    found = sheet[:-GAP, :-GAP].reshape(rows, height, columns, width, 3).transpose(0, 2, 1, 3, 4)
    assert (found[:, :, :GAP] == PAPER).all()
    assert (found[:, :, :, :GAP] == PAPER).all()
    small = found[:, :, GAP::times, GAP::times]
    np.testing.assert_array_equal(small.repeat(times, 2).repeat(times, 3), found[:, :, GAP:, GAP:])
    return small


@pytest.mark.parametrize(("c", "channels"), [(3, 3), (1, 1), (1, 3)])
def test_a_row_is_a_sample_as_it_is_and_as_each_epoch_sees_it(c: int, channels: int) -> None:
    x = np.random.default_rng(0).integers(0, 256, (9, 30, 40, c), dtype=np.uint8)
    data = data_of(x, channels)
    shown = tiles(contact_sheet(data, KINDS, 4, 5, 2), 5, 3, 3, (30, 40))
    np.testing.assert_array_equal(shown[:, 0], np.broadcast_to(x[:5], (5, 30, 40, 3)))
    batches = Batches(data.train, data.preprocessing, 9, seed=4, shuffle=True, augment=KINDS)
    for epoch in range(2):
        out, labels = np.empty((9, 30, 40, channels), np.float32), np.empty(9, np.int64)
        batches.fill(batches.epoch(epoch), 0, out, labels)
        mean, factor = data.preprocessing.constants
        wanted = (out / factor + mean)[np.argsort(labels)][:5]
        assert np.abs(shown[:, 1 + epoch] - wanted).max() < 0.51
    assert (shown[:, 1] != shown[:, 2]).any()


def test_floats_are_shown_from_their_least_to_their_greatest() -> None:
    x = np.random.default_rng(0).normal(0, 3, (4, 70, 70, 1)).astype(np.float32)
    shown = tiles(contact_sheet(data_of(x, 1), AugmentSpec(), 0, 9, 1), 4, 2, 1, (70, 70))
    assert (shown.min(), shown.max()) == (0, 255)
    np.testing.assert_array_equal(shown[:, 0], shown[:, 1])
    assert np.corrcoef(shown[:, 0, ..., 0].ravel(), x.ravel())[0, 1] > 0.999


def test_what_is_saved_is_what_was_made(tmp_path: Path) -> None:
    sheet = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    save(sheet, str(tmp_path / "sheet.png"))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "sheet.png")), sheet)
