"""Edge filters."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cnnforge.course.computing import HALVES, built, convolved, one_layer
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
    number,
    product_line,
)
from cnnforge.course.photographs import CREDIT, photograph
from cnnforge.init import FILTERS
from cnnforge.spec import ModelSpec, RunSpec

#: Light and dark quarters.
QUARTERS = np.kron([[10.0, 0], [0, 10]], np.ones((3, 3)))
#: Pixels from crest to crest of the waves that directions are measured on, and the directions.
PERIOD, DEGREES = 6.0, np.arange(0, 91)


def parts(lesson: Lesson) -> Iterator[Part]:
    row = lesson.conv(most=10)
    if row.input[2] != 1:
        raise lesson.off_topic("its pictures are grey, one channel", "model.input=[6,6,1]")
    if row.window is None or row.window.stride != (1, 1) or any(row.window.pads):
        raise lesson.off_topic("padding and stride have pages of their own", "cnnforge explain padding, or stride")
    model = lesson.model
    names, kernels = _filters(model)
    picture = HALVES if row.input[:2] == HALVES.shape else _halves(*row.input[:2])
    answer = _answers(model, picture)
    first, f = kernels[0], kernels[0].shape[0]
    middle = int(np.abs(answer[0, :, 0]).argmax())

    yield Text(
        "A grey picture is a table of numbers: large where it is light, small where it is dark. This one is light on "
        f"the left and dark on the right. A filter is a smaller table, here {f}x{f}. It is laid on a corner of the "
        "picture, each number is multiplied by the one under it, and the products are added up. The sum is one number "
        "of the result. Then the filter moves one column on."
    )
    yield _strip("first", "The first position", picture, first, names[0], answer[..., 0], (0, 0))
    yield Text(f"`{product_line(picture[:f, :f], first)}`")
    if middle:
        at = (0, middle)
        yield _strip("edge", "The filter lies on the edge", picture, first, names[0], answer[..., 0], at)
        yield Text(f"`{product_line(picture[:f, middle : middle + f], first)}`")
    line = " ".join(number(v) for v in answer[0, :, 0])
    yield Text(
        f"The whole first row of the result is **{line}**, and the other rows are the same. {_said(answer[0, :, 0])}"
    )
    yield Heading("Which way does it change?")
    dark = _answers(model, picture[:, ::-1])[0, :, 0]
    yield Text(
        f"Turn the picture around, dark on the left and light on the right, and the row becomes "
        f"**{' '.join(number(v) for v in dark)}**. The sign says which way the change goes: cnnforge's filters answer "
        "with plus from light to dark, read from left to right or from top to bottom. Where only the strength matters, "
        "take the absolute value."
    )
    yield from _horizontal()
    yield from _named()
    yield from _real(model, names)
    yield from _exercises()
    yield Heading("Sources")
    yield Items((
        "I. Sobel, G. Feldman: *A 3x3 isotropic gradient operator for image processing*. Talk at the Stanford "
        "Artificial Intelligence Project, 1968.",
        "H. Scharr: *Optimale Operatoren in der Digitalen Bildverarbeitung*. Dissertation, Heidelberg, 2000.",
        f"The picture: china.jpg of scikit-learn, {CREDIT['china']}.",
    ))  # fmt: skip


def _said(row: Array) -> str:
    """What is to be seen in a row of the result."""
    if not row.any():
        return (
            "Nothing changes from top to bottom, so this filter sees nothing: in every position positive and negative "
            "products cancel."
        )
    return (
        "Where nothing changes under the filter, positive and negative products cancel. Over the edge they do not: "
        f"a {'bright' if row.max() > 0 else 'dark'} band where light meets dark. The band is wide only because the "
        "picture is so small."
    )


def _halves(rows: int, columns: int) -> Array:
    return np.repeat([np.where(np.arange(columns) < columns // 2, 10.0, 0.0)], rows, axis=0)


def _filters(model: ModelSpec) -> tuple[list[str], list[Array]]:
    """Names, as the config says them or numbered, and each (KH, KW)."""
    row = model.table[0]
    w = built(model).params[f"{row.name}.w"]
    said = getattr(row.params["w"].init, "name", None)
    names = [said] * w.shape[-1] if isinstance(said, str) else list(said or ())
    return names or [f"filter {i + 1}" for i in range(w.shape[-1])], [w[:, :, 0, i] for i in range(w.shape[-1])]


def _answers(model: ModelSpec, picture: Array) -> Array:
    """(OH, OW, F): what the first layer gives."""
    shaped = model.model_copy(update={"input": (*picture.shape, 1)})
    answers: Array = built(shaped).activations(picture[None, :, :, None])[model.table[0].name][0]
    return answers


def _strip(
    name: str, caption: str, picture: Array, kernel: Array, title: str, result: Array, at: tuple[int, int]
) -> Strip:
    rows, columns = kernel.shape
    return Strip(name, caption, (
        Grid("picture", picture, "brightness", (Box(*at, rows, columns),), bounds=(0, 10)), "*",
        Grid(title, kernel), "=",
        Grid("result", result, boxes=(Box(*at),)),
    ))  # fmt: skip


def _horizontal() -> Iterator[Part]:
    kernel = np.array(FILTERS["horizontal"], float)
    result = convolved(QUARTERS, kernel)
    yield Heading("Lying edges")
    yield Text(
        "The same filter on its side finds edges that lie: light above dark. Of four squares, two light and two dark, "
        "it makes this:"
    )
    yield Strip("squares", "The horizontal filter on four squares", (
        Grid("picture", QUARTERS, "brightness"), "*", Grid("horizontal", kernel), "=", Grid("result", result)
    ))  # fmt: skip
    at = int(np.abs(result[:, 0]).argmax())
    values = [number(v) for v in result[at]]
    yield Text(
        f"Read the row {' '.join(values)}. On the left light lies above dark: {values[0]}. On the right it is the "
        f"other way round: {values[-1]}. Between them the window covers both, and what is left is the difference of "
        "a wider and a narrower part. In a picture of real size this is hardly seen."
    )


def _named() -> Iterator[Part]:
    yield Heading("Sobel, Scharr, and why their numbers")
    yield Text(
        "Other people chose other numbers. Sobel and Feldman (1968) count the middle row twice, because it is "
        "nearer to the pixel that is asked about. Scharr (2000) looked for the numbers that tell the *direction* of "
        "an edge best: a vertical and a horizontal filter together give an angle."
    )
    kinds = ("vertical", "sobel_vertical", "scharr_vertical")
    yield Strip("named", "Three filters for standing edges", tuple(
        Grid(kind, np.array(FILTERS[kind], float)) for kind in kinds
    ))  # fmt: skip
    rows = []
    for kind in kinds:
        kernel = np.array(FILTERS[kind], float)
        edge = convolved(HALVES, kernel)[0, 1]
        error = direction_error(kind, kind.replace("vertical", "horizontal"))
        rows.append((f"`{kind}`", number(edge), number(edge / kernel[kernel > 0].sum()), f"{error:.2f}°"))
    yield Table(
        ("filter", "on the edge above", "divided by its positive numbers", "angle wrong by at most"), tuple(rows)
    )
    yield Text(
        "The second column only says how the numbers are scaled: divided by the sum of the filter's positive numbers, "
        "each finds the step of 10. The last column is the difference. Waves of "
        f"{PERIOD:.0f} pixels were laid through a picture in every direction from 0 to 90 degrees, the two filters of "
        "each kind were applied, and the angle that they give was compared with the true one."
    )


def direction_error(standing: str, lying: str) -> float:
    """The largest error of the direction, in degrees, that two filters give of a wave, at its steepest."""
    layer = {"type": "conv", "filters": 2, "kernel": 3, "bias": False, "init": {"filter": [standing, lying]}}
    y, x = np.mgrid[-1:2, -1:2]
    angles = np.deg2rad(DEGREES)[:, None, None]
    waves = np.sin(2 * np.pi / PERIOD * (np.cos(angles) * x + np.sin(angles) * y))
    found = built(one_layer(layer, (3, 3, 1))).forward(waves[..., None])[:, 0, 0]
    return float(np.abs(np.rad2deg(np.arctan2(-found[:, 1], -found[:, 0])) - DEGREES).max())


def _real(model: ModelSpec, names: list[str]) -> Iterator[Part]:
    yield Heading("A real picture")
    grey = photograph("china", 192, 288, 1)[..., 0]
    answers = _answers(model, grey)
    yield Pictures("china", "What the filters see", (grey,))
    wanted = [i for i, name in enumerate(names) if name in ("sobel_vertical", "sobel_horizontal")] or [0]
    seen = ", ".join(names[i] for i in wanted)
    yield Pictures(
        "china-edges", f"What they answer: {seen}. Blue is light to dark, red dark to light, white no change",
        tuple(_softened(answers[..., i]) for i in wanted), "signed",
    )  # fmt: skip
    yield Text(
        "Walls and pillars show in the first, roofs and railings in the second. Nobody told the filters what a "
        "roof is: nine numbers and a sum are all there is. A network's first layer has several such filters, and "
        "[learns their numbers](learned.md) instead of being given them."
    )


def _softened(answer: Array) -> Array:
    """The strongest edges would leave no colour for the others."""
    most = float(np.quantile(np.abs(answer), 0.98)) or 1.0
    return np.clip(answer, -most, most)


def _exercises() -> Iterator[Part]:
    def band(run: RunSpec) -> str:
        shape = run.model.input[:2]
        row = _answers(run.model, _halves(*shape))[0, :, 0]
        return f"The first row of the result is `{' '.join(number(v) for v in row)}`"

    one = "model.layers.edges.filters=1"
    yield Exercise(
        "What does Sobel's filter make of the first picture?",
        (one, "model.layers.edges.init.filter=sobel_vertical"),
        lambda run: f"{band(run)}: four times the step of 10, because its positive numbers add up to 4.",
    )
    yield Exercise(
        "And the horizontal filter?",
        (one, "model.layers.edges.init.filter=horizontal"),
        lambda run: f"{band(run)}: nothing changes from top to bottom.",
    )
    yield Exercise(
        "In a wider picture, how wide is the band?",
        ("model.input=[6,10,1]",),
        lambda run: f"{band(run)}: still two columns. It depends on the filter's width, not on the picture's.",
    )
    yield Exercise(
        "`flip: true` turns the filter by 180 degrees, which is what mathematics calls a convolution. What changes?",
        ("model.layers.edges.flip=true",),
        lambda run: f"{band(run)}: the sign. Networks learn their numbers, so they leave the turning out.",
    )
