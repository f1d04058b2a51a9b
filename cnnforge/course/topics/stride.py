"""Stride."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cnnforge.course.computing import built, padded, some_picture
from cnnforge.course.lesson import Lesson
from cnnforge.course.parts import (
    Box,
    Code,
    Exercise,
    Grid,
    Heading,
    Items,
    Part,
    Strip,
    Table,
    Text,
    product_line,
)
from cnnforge.course.topics.padding import uses
from cnnforge.errors import ShapeError
from cnnforge.report.table import by
from cnnforge.shapes import Window, window
from cnnforge.spec import RunSpec


def parts(lesson: Lesson) -> Iterator[Part]:
    row = lesson.conv(most=12)
    if row.input[2] != 1 or row.window is None or row.window.dilation != (1, 1):
        raise lesson.off_topic("it has one grey picture and no dilation", "model.input=[7,7,1]")
    w, size = row.window, (row.input[0], row.input[1])
    if w.stride[0] != w.stride[1] or w.kernel[0] != w.kernel[1]:
        raise lesson.off_topic("rows and columns are to be alike", f"model.layers.{row.name}.stride={w.stride[0]}")
    f, s = w.kernel[0], w.stride[0]
    yield Text(
        f"So far the filter moved one column at a time. With `stride: {s}` it moves {_many(s, 'column')} to the "
        f"right, and at the end of a line {_many(s, 'row')} down. It sees the picture in longer steps, and the "
        "result is smaller."
    )
    picture = some_picture(*size)
    model = built(lesson.model)
    result = model.activations(picture[None, :, :, None])[row.name][0][..., 0]
    kernel = model.params[f"{row.name}.w"][:, :, 0, 0]
    rimmed = padded(picture, w.pads)
    places = [(0, 0), *([(0, 1)] if w.out[1] > 1 else []), *([(1, 0)] if w.out[0] > 1 else [])]
    for i, (r, c) in enumerate(places):
        box = Box(r * s, c * s, f, f)
        yield Strip(f"place{i + 1}", f"Row {r + 1}, column {c + 1} of the result", (
            Grid("picture", rimmed, "brightness", (box,), w.pads, (0, 9)), "*",
            Grid("filter", kernel), "=", Grid("result", result, boxes=(Box(r, c),)),
        ))  # fmt: skip
    yield Text(f"`{product_line(rimmed[:f, :f], kernel)}`")
    yield Heading("The rule, and the floor in it")
    n, p = size[0], w.pads[0]
    yield Code("size behind = floor((n + 2p - f) / s) + 1")
    yield Text(
        "Where the first window lies is clear. From there, n + 2p - f more rows are left to move into, s at a time, "
        "and the first place counts too. Where the division leaves a remainder, the last step would lead out of the "
        "picture. It is not taken: the result is rounded down, which is what *floor* means."
    )
    yield Table(
        ("stride", f"(n + 2p - f) / s, with n = {n}, f = {f}, p = {p}", "floor, + 1", "rows never seen"),
        tuple(_case(size, w, steps) for steps in range(1, 6)),
    )
    unseen = uses(size, w) == 0
    if unseen.any():
        yield Strip("unseen", "How many windows look at each pixel", (
            Grid("windows", uses(size, w), "signed", bounds=(0, float(f * f))),
        ))  # fmt: skip
        yield Text(
            f"Zeros mark pixels that no window looks at: {int(unseen.sum())} of {unseen.size}. Change the padding or "
            "the picture's size where that is a pity."
        )
    yield Heading("What it saves")
    one = window(size, w.kernel, (1, 1), w.pads)
    yield Text(
        f"With stride 1 this layer would compute {by(one.out)} = {one.out[0] * one.out[1]} sums, with stride {s} it is "
        f"{by(w.out)} = {w.out[0] * w.out[1]}. A layer of stride 2 does about a quarter of the work, and so does every "
        "layer behind it, because its picture has a quarter of the pixels."
    )
    yield from _exercises()
    yield Heading("Source")
    yield Items((
        "V. Dumoulin, F. Visin: *A guide to convolution arithmetic for deep learning*. arXiv:1603.07285, 2016.",
    ))  # fmt: skip


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _case(size: tuple[int, int], w: Window, s: int) -> tuple[str, ...]:
    room = size[0] + w.pads[0] + w.pads[1] - w.kernel[0]
    try:
        other = window(size, w.kernel, (s, s), w.pads)
    except ShapeError:  # pragma: no cover - it fits with one stride, so with all
        return f"{s}", "", "", ""
    unseen = int((uses(size, other).sum(1) == 0).sum())
    quotient = f"{room} / {s} = {room / s:g}" if room % s == 0 else f"{room} / {s} = {room / s:.2f}"
    return f"{s}", quotient, f"{room // s} + 1 = {other.out[0]}", f"{unseen}"


def _exercises() -> Iterator[Part]:
    def size(run: RunSpec) -> str:
        row = run.model.table[0]
        w = row.window
        assert w is not None
        room = row.input[0] + w.pads[0] + w.pads[1] - w.kernel[0]
        unseen = int((uses((row.input[0], row.input[1]), w).sum(1) == 0).sum())
        seen = (
            "every row is seen" if not unseen else f"the last {_many(unseen, 'row')} and as many columns are never seen"
        )
        return (
            f"{room} / {w.stride[0]} = {np.round(room / w.stride[0], 2):g}, rounded down {room // w.stride[0]}, plus "
            f"1: the result is {by(row.output[:2])}, and {seen}."
        )

    yield Exercise("Change the stride to 3: what does floor do?", ("model.layers.conv1.stride=3",), size)
    yield Exercise("An 8x8 picture with stride 2: what is lost?", ("model.input=[8,8,1]",), size)
    yield Exercise(
        "The same with `same` padding: what comes out, and where are the zeros?",
        ("model.input=[8,8,1]", "model.layers.conv1.padding=same"),
        lambda run: (
            f"{by(run.model.table[0].output[:2])}, which is 8 / 2 rounded up: `same` with a stride keeps ceil(n / "
            "s). One row of zeros at the bottom and a column at the right are enough, and that is where they are."
        ),
    )
    yield Exercise(
        "Can a stride be longer than the filter?",
        ("model.layers.conv1.stride=4",),
        lambda run: f"Yes. {size(run)} Between two windows a row is left out as well.",
    )
