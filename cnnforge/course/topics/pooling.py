"""Pooling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from cnnforge.course.computing import one_layer, outcome, padded, some_picture
from cnnforge.course.lesson import Lesson
from cnnforge.course.parts import (
    Array,
    Box,
    Exercise,
    Grid,
    Heading,
    Items,
    Part,
    Pictures,
    Strip,
    Table,
    Text,
    matrix,
    number,
)
from cnnforge.course.photographs import digit
from cnnforge.report.table import by
from cnnforge.spec import RunSpec

FOUR = matrix("1 3 2 1; 2 9 1 1; 1 3 2 3; 5 6 1 2")
FIVE = matrix("1 3 2 1 3; 2 9 1 1 5; 1 3 2 3 2; 8 3 5 1 0; 5 6 1 2 9")


def parts(lesson: Lesson) -> Iterator[Part]:
    row = lesson.first
    w = row.window
    if row.type != "pool" or w is None:
        raise lesson.off_topic(f"{row.name} is a {row.type}", "a pool as the first layer")
    lesson.small(row.input, 10)
    if row.input[2] != 1:
        raise lesson.off_topic("it pools one channel", "model.input=[4,4,1]")
    size = row.input[:2]
    picture = {FOUR.shape: FOUR, FIVE.shape: FIVE}.get(size)
    picture = some_picture(*size) if picture is None else picture
    mode = getattr(row.block, "mode", "max")
    (kh, kw), (sh, sw) = w.kernel, w.stride
    result = _pooled(lesson.model.layers[row.name].model_dump(exclude_none=True), picture)
    yield Text(
        f"A pool has a window as a filter has, here {kh}x{kw}, and no numbers of its own. Of what lies in the window "
        f"it keeps {'the largest' if mode == 'max' else 'the mean'}. It moves {sh} at a time."
    )
    rimmed = padded(picture, w.pads)
    for i, (r, c) in enumerate(dict.fromkeys([(0, 0), (0, w.out[1] - 1), (w.out[0] - 1, 0)])):
        box = Box(r * sh, c * sw, kh, kw)
        window = rimmed[r * sh : r * sh + kh, c * sw : c * sw + kw]
        inside = ", ".join(number(v) for v in window.ravel())
        yield Strip(f"place{i + 1}", f"{mode} of {inside}: {number(result[r, c])}", (
            Grid("before", rimmed, "brightness", (box,), w.pads), "→",
            Grid("after", result, "brightness", (Box(r, c),), bounds=(float(picture.min()), float(picture.max()))),
        ))  # fmt: skip
    yield Heading("The largest, or the mean")
    other = "average" if mode == "max" else "max"
    fields = {"type": "pool", "kernel": [kh, kw], "stride": [sh, sw], "padding": list(w.pads), "mode": other}
    yield Strip("modes", "Both, of the same windows", (
        Grid(mode, result, "brightness"), " ", Grid(other, _pooled(fields, picture), "brightness"),
    ))  # fmt: skip
    yield Text(
        "Max pooling asks: was what the filter looks for *anywhere* in the window? A large number says that a "
        "feature was found, and it stays, wherever it lay. The mean asks how much of it there was. Networks mostly "
        "take the largest; the mean is found at the end of many, over the whole picture (`global_pool`)."
    )
    yield Heading("Sizes")
    yield Text(
        "The formula is that of a convolution: floor((n + 2p - f) / s) + 1. Each channel is pooled by itself, so their "
        "number stays. There is nothing to learn: **0 parameters**."
    )
    yield Table(
        ("input", "kernel", "stride", "output", "parameters"),
        tuple(_case(shape, k, s) for shape, k, s in _CASES),
        words=1,
    )
    ceil = {"type": "pool", "kernel": 2, "stride": 2, "ceil_mode": True}
    yield Text(
        f"Look at 5x5 with 2x2 windows: the last row and column have no partner, and floor leaves them out. "
        f"`ceil_mode: true` rounds up, and the windows at the end are then smaller: {by(_out(ceil, (5, 5, 1)))}."
    )
    yield Heading("Windows that overlap")
    overlapping = {"type": "pool", "kernel": 3, "stride": 1}
    yield Strip("overlap", "3x3 windows, one step at a time", (
        Grid("before", FIVE, "brightness", (Box(0, 0, 3, 3),)), "→",
        Grid("max", _pooled(overlapping, FIVE), "brightness", (Box(0, 0),), bounds=(0, 9)),
    ))  # fmt: skip
    yield from _real()
    yield from _exercises()
    yield Heading("Source")
    yield Items((
        "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: *Gradient-based learning applied to document recognition*. "
        "Proceedings of the IEEE, 1998. There it is called subsampling, and is a mean with two numbers to learn.",
    ))  # fmt: skip


_CASES = (
    ((28, 28, 6), 2, 2), ((10, 10, 16), 2, 2), ((5, 5, 1), 2, 2), ((5, 5, 2), 3, 1), ((55, 55, 96), 3, 2),
)  # fmt: skip


def _pooled(layer: Mapping[str, Any], picture: Array) -> Array:
    return outcome(one_layer(layer, (*picture.shape, 1)), picture)[..., 0]


def _out(layer: Mapping[str, Any], shape: tuple[int, int, int]) -> tuple[int, ...]:
    return outcome(one_layer(layer, shape), np.zeros(shape)).shape


def _case(shape: tuple[int, int, int], kernel: int, stride: int) -> tuple[str, ...]:
    out = _out({"type": "pool", "kernel": kernel, "stride": stride}, shape)
    return by(shape), f"{kernel}x{kernel}", f"{stride}", by(out), "0"


def _real() -> Iterator[Part]:
    yield Heading("A digit, pooled")
    picture = digit(3)
    shifted = np.roll(picture, 1, axis=1)
    layer = {"type": "pool", "kernel": 2, "stride": 2}
    once, moved = _pooled(layer, picture), _pooled(layer, shifted)
    yield Pictures(
        "digit", "A handwritten digit, its 2x2 maxima, and the maxima of the same digit one pixel further right",
        (picture.repeat(2, 0).repeat(2, 1), once.repeat(4, 0).repeat(4, 1), moved.repeat(4, 0).repeat(4, 1)), enlarge=8,
    )  # fmt: skip
    same, before = float(np.abs(once - moved).mean()), float(np.abs(picture - shifted).mean())
    yield Text(
        f"One pixel further right, a pixel of the digit changes by {before:.0f} of 255 on average, and a maximum by "
        f"{same:.0f}. Pooling makes the picture smaller for the layers behind it, and a little less sensitive to where "
        "things lie: a little, not wholly."
    )


def _exercises() -> Iterator[Part]:
    def numbers(run: RunSpec) -> str:
        row = run.model.table[0]
        picture = {(4, 4): FOUR, (5, 5): FIVE}[row.input[0], row.input[1]]
        result = _pooled(row.block.model_dump(exclude_none=True), picture)
        return f"`{'; '.join(' '.join(map(number, line)) for line in result)}`"

    yield Exercise(
        "The means, by hand first.",
        ("model.layers.pool1.mode=average",),
        lambda run: f"{numbers(run)}, row by row: (1 + 3 + 2 + 9) / 4 is the first.",
    )
    yield Exercise(
        "A 5x5 picture: what does floor leave out?",
        ("model.input=[5,5,1]",),
        lambda run: f"{numbers(run)}. The fifth row and column are in no window, so the 9 in the corner is lost.",
    )
    yield Exercise(
        "The same with `ceil_mode: true`?",
        ("model.input=[5,5,1]", "model.layers.pool1.ceil_mode=true"),
        lambda run: f"{numbers(run)}: the corner is a window of its own, and its 9 stays.",
    )
    yield Exercise(
        "Stride 1: how large is the result, and how many windows hold the 9?",
        ("model.layers.pool1.stride=1",),
        lambda run: f"{numbers(run)}: 3x3, and the 9 wins in all four windows that hold it.",
    )
