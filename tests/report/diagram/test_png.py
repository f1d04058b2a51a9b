"""The same picture in pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnforge.report.diagram import diagram
from cnnforge.report.diagram.canvas import Line, Picture, Polygon, Rect, Text
from cnnforge.report.diagram.png import LEAST, save_png
from tests.report.diagram.nets import shipped


def pixels(picture: Picture, file: Path) -> np.ndarray:
    save_png(picture, file)
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def test_every_shape_is_where_the_svg_has_it(tmp_path: Path) -> None:
    shapes = (
        Rect(10, 10, 30, 20, "#ff0000", "#000000", 4), Polygon(((60, 10), (90, 10), (90, 40)), "#00ff00"),
        Line(((10, 60), (10, 80), (90, 80)), "#0000ff", 2, radius=5, arrow=True), Text(50, 60, "$HI$", 14, bold=True),
    )  # fmt: skip
    found = pixels(Picture(100, 100, "", "", shapes), tmp_path / "a.png")
    assert found.shape == (250, 250, 3)
    times = 2.5

    def at(x: float, y: float) -> tuple[int, ...]:
        return tuple(int(n) for n in found[int(y * times), int(x * times)])

    assert (at(25, 20), at(5, 5), at(85, 15), at(62, 35)) == ((255, 0, 0), (255,) * 3, (0, 255, 0), (255,) * 3)
    assert (at(10, 65), at(50, 80), at(87, 80), at(10, 80)) == ((0, 0, 255),) * 3 + ((255,) * 3,)
    words = found[115:158, 62:188]
    dark = np.argwhere(words.min(axis=2) < 100)
    assert len(dark) > 50
    middle = (dark[:, 1].min() + dark[:, 1].max()) / 2 / times + 24.8
    assert middle == pytest.approx(50, abs=1)


def test_a_page_wide(tmp_path: Path) -> None:
    assert pixels(Picture(LEAST / 2, 50, "", "", ()), tmp_path / "c.png").shape == (100, LEAST, 3)


def test_large_pictures_keep_their_size(tmp_path: Path) -> None:
    picture = Picture(LEAST + 100, 50, "", "", ())
    assert pixels(picture, tmp_path / "b.png").shape == (50, LEAST + 100, 3)


def test_the_same_bytes_every_time(tmp_path: Path) -> None:
    picture = diagram(shipped("lenet"))
    for name in ("a.png", "b.png"):
        save_png(picture, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
