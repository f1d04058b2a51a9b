"""Small pictures of drawn shapes in class folders: what a newcomer brings."""

from __future__ import annotations

import random
from pathlib import Path

from PIL import Image, ImageDraw

SHAPES = ("circle", "square", "triangle")


def drawn(shape: str, number: int, size: int = 40) -> Image.Image:
    """One shape in some size and place on a light ground, of a colour that its kind leans to; the number decides."""
    draw_from = random.Random(f"{shape} {number}")
    ground = tuple(draw_from.randrange(190, 256) for _ in range(3))
    ink = tuple(draw_from.randrange(0, 60) + 140 * (name == shape) for name in SHAPES)
    picture = Image.new("RGB", (size, size), ground)
    r = draw_from.uniform(0.22, 0.36) * size
    x, y = (draw_from.uniform(r + 1, size - r - 1) for _ in range(2))
    pen = ImageDraw.Draw(picture)
    if shape == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), ink)
    elif shape == "square":
        pen.rectangle((x - 0.85 * r, y - 0.85 * r, x + 0.85 * r, y + 0.85 * r), ink)
    else:
        pen.polygon([(x, y - r), (x - r, y + 0.8 * r), (x + r, y + 0.8 * r)], ink)
    return picture


def draw_folder(folder: Path, count: int = 30, first: int = 0) -> Path:
    """``folder/SHAPE/NN.png``, so many of each, numbered from ``first``."""
    for shape in SHAPES:
        (folder / shape).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            drawn(shape, number).save(folder / shape / f"{number:02}.png")
    return folder
