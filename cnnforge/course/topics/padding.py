"""Padding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cnnforge.course.computing import HALVES, built, convolved, padded
from cnnforge.course.lesson import Lesson
from cnnforge.course.parts import (
    Array,
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
    number,
)
from cnnforge.report.table import by
from cnnforge.shapes import Window, same_pads, window, window_out
from cnnforge.spec import RunSpec


def parts(lesson: Lesson) -> Iterator[Part]:
    row = lesson.conv(most=12)
    if row.input[2] != 1 or row.window is None or row.window.dilation != (1, 1):
        raise lesson.off_topic("it has one grey picture and no dilation", "model.input=[6,6,1]")
    size, w = row.input[:2], row.window
    f, bare = w.kernel, window((size[0], size[1]), w.kernel, w.stride, "valid")
    yield Text(
        f"A {by(f)} filter fits into {by(size)} pixels at {by(bare.out)} places. So a convolution makes the picture "
        "smaller. After a few layers nothing would be left. And there is a second trouble, at the rim. Count how often "
        "each pixel is used:"
    )
    ones = np.ones(f)
    plain = uses((size[0], size[1]), bare)
    yield Strip("uses", "How many windows look at each pixel", (
        Grid("no padding", plain, "signed", bounds=(0, float(ones.sum()))),
        "→",
        Grid(f"padding {_pads(w)}", uses((size[0], size[1]), w), "signed", bounds=(0, float(ones.sum()))),
    ))  # fmt: skip
    yield Text(
        f"Without padding the corner is seen {_times(plain[0, 0])}, the middle {_times(plain.max())}: what lies at "
        "the rim hardly counts. Padding helps against both: a rim of zeros around the picture, so that the filter "
        "also fits over its edge."
    )
    yield Heading("The rule")
    yield Code("size behind = n + 2p - f + 1        (stride 1)")
    yield Table(
        ("padding p", f"n + 2p - f + 1, with n = {size[0]}, f = {f[0]}", "size"),
        tuple(
            (f"{p}", f"{size[0]} + {2 * p} - {f[0]} + 1", number(window_out(size[0], f[0], 1, p, p)))
            for p in range(f[0])
        ),
    )
    yield Text(
        "Two of these have names. `padding: valid` is none: only places where the filter lies wholly in the "
        "picture. `padding: same` keeps the size: n + 2p - f + 1 = n, so p = (f - 1) / 2. That is one reason why "
        "filters have odd sizes:"
    )
    yield Table(
        ("filter f", "before", "after"),
        tuple((f"{k}", *(number(pad) for pad in same_pads(size[0], k, 1))) for k in range(1, 8)),
    )
    yield Text(
        "Where f is even the padding cannot be the same on both sides. cnnforge then adds the odd row at the bottom "
        "and the odd column at the right, as Keras does and ONNX's `SAME_UPPER`."
    )
    yield Heading("With the config as it is")
    picture = (
        HALVES
        if size == HALVES.shape
        else np.repeat([np.where(np.arange(size[1]) < size[1] // 2, 10.0, 0)], size[0], 0)
    )
    model = built(lesson.model)
    result = model.activations(picture[None, :, :, None])[row.name][0][..., 0]
    kernel = model.params[f"{row.name}.w"][:, :, 0, 0]
    yield Text(
        f"`{row.name}` has f = {_size(f)}, p = {_pads(w)}, s = {_size(w.stride)}: {by(size)} pixels in, "
        f"{by(row.output[:2])} out."
    )
    yield Strip("config", "The picture with its rim of zeros, the filter, and what comes out", (
        Grid(f"picture, padding {_pads(w)}", padded(picture, w.pads), "brightness", (Box(0, 0, *f),), w.pads, (0, 10)),
        "*", Grid("filter", kernel), "=", Grid("result", result, boxes=(Box(0, 0),)),
    ))  # fmt: skip
    yield from _false_edge(picture)
    yield from _depth()
    yield from _exercises()
    yield Heading("Source")
    yield Items((
        "V. Dumoulin, F. Visin: *A guide to convolution arithmetic for deep learning*. arXiv:1603.07285, 2016: every "
        "case of padding and stride, drawn.",
    ))  # fmt: skip


def uses(size: tuple[int, int], w: Window) -> Array:
    """(H, W): in how many windows each pixel lies, which is what a transposed convolution of ones counts."""
    full = convolved(np.ones(w.out), np.ones(w.kernel), w.stride[0], backwards=True)
    top, _, left, _ = w.pads
    counted = np.zeros(size)
    part = full[top : top + size[0], left : left + size[1]]
    counted[: part.shape[0], : part.shape[1]] = part
    return counted


def _times(count: float) -> str:
    return {1: "once", 2: "twice"}.get(round(count), f"{number(count)} times")


def _size(size: tuple[int, int]) -> str:
    return number(size[0]) if size[0] == size[1] else by(size)


def _pads(w: Window) -> str:
    return number(w.pads[0]) if len(set(w.pads)) == 1 else ", ".join(map(str, w.pads))


def _false_edge(picture: Array) -> Iterator[Part]:
    kernel = np.array([[1.0, 0, -1]] * 3)
    row = convolved(picture, kernel, padding=1)[len(picture) // 2]
    yield Text(
        "Zeros are not nothing. To a filter the rim looks like a dark frame, and a light picture in a dark frame "
        f"has an edge all around. With p = 1 the vertical filter gives {' '.join(map(number, row))} in the middle "
        f"row: the {number(row[0])} on the left is an edge that is not in the picture. Networks learn to live with "
        "it."
    )


def _depth() -> Iterator[Part]:
    yield Heading("Why it matters in deep networks")
    sizes = [32]
    while sizes[-1] >= 5:
        sizes.append(window_out(sizes[-1], 5, 1, 0, 0))
    yield Text(
        f"A 32x32 picture under 5x5 filters without padding: {' → '.join(map(str, sizes))}. After {len(sizes) - 1} "
        "layers no further one fits. With `same` there may be a hundred, and where the picture shall become "
        "smaller, [stride](stride.md) and [pooling](pooling.md) say so."
    )


def _exercises() -> Iterator[Part]:
    def size(run: RunSpec) -> str:
        row = run.model.table[0]
        w = row.window
        assert w is not None
        return (
            f"{row.input[0]} + {w.pads[0]} + {w.pads[1]} - {w.kernel[0]} + 1 = {row.output[0]}: the result is "
            f"{by(row.output[:2])}"
        )

    yield Exercise(
        "What does padding 2 give with this 3x3 filter?",
        ("model.layers.conv1.padding=2",),
        lambda run: f"{size(run)}, larger than the picture. The outermost ring sees one row or column of it at most.",
    )
    yield Exercise(
        "And no padding at all?",
        ("model.layers.conv1.padding=valid",),
        lambda run: f"{size(run)}.",
    )
    big = ("model.layers.conv1.kernel=5", "model.layers.conv1.padding=same", "model.layers.conv1.init=ones")
    yield Exercise(
        "Which padding keeps the size under a 5x5 filter?",
        big,
        lambda run: f"p = (5 - 1) / 2 = 2. {size(run)}.",
    )
    yield Exercise(
        "Under a 4x4 filter `same` cannot be even-handed. Where does the odd row go?",
        ("model.layers.conv1.kernel=4", "model.layers.conv1.padding=same", "model.layers.conv1.init=ones"),
        lambda run: f"{size(run)}. One row above, two below; one column on the left, two on the right.",
    )
