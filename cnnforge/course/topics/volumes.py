"""Volumes: convolution over channels, and several filters."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cnnforge.course.computing import built, some_picture
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
from cnnforge.report.table import by
from cnnforge.spec import Row, RunSpec

#: What the channels of a colour picture are called.
COLOURS = ("red", "green", "blue")
#: The answer of an edge filter with the strongest colour: few edges are stronger.
STRONGEST = 250.0


def parts(lesson: Lesson) -> Iterator[Part]:
    row = lesson.conv(most=10)
    h, w_, c = row.input
    kh, kw = row.window.kernel if row.window else (1, 1)
    if row.window is None or row.window.stride != (1, 1) or any(row.window.pads) or row.window.dilation != (1, 1):
        raise lesson.off_topic("stride, padding and dilation belong elsewhere", "stride 1, padding 0, dilation 1")
    if c > 6:
        raise lesson.off_topic(f"{c} channels are too many to show one by one", f"model.input=[{h},{w_},3]")
    filters = row.output[2]
    names = COLOURS if c == 3 else tuple(f"channel {i + 1}" for i in range(c))
    yield Text(
        f"A colour picture is not one table but {c}: {_listed(names)}. Together they are a *volume* of "
        f"{by(row.input)}: height, width, channels. A filter for it is a volume too, {kh}x{kw}x{c}: as many channels "
        "as the picture, always. That is why nobody writes them down: `kernel: 3` is enough."
    )
    picture = np.moveaxis(some_picture(c * h, w_).reshape(c, h, w_), 0, -1)
    model = built(lesson.model)
    weights = model.params[f"{row.name}.w"]
    result = model.activations(picture[None])[row.name][0]
    yield Heading("One filter gives one table")
    yield Text(
        f"Each channel of the filter lies on the same channel of the picture. That makes {kh}·{kw}·{c} = {kh * kw * c} "
        "products, and they are all added up into one number. The colours are not kept apart:"
    )
    sums = []
    for i, name in enumerate(names):
        part = picture[:kh, :kw, i]
        sums.append(float((part * weights[:, :, i, 0]).sum()))
        yield Strip(f"channel{i + 1}", f"{name.capitalize()}: {product_line(part, weights[:, :, i, 0])}", (
            Grid(name, picture[..., i], "brightness", (Box(0, 0, kh, kw),), bounds=(0, 9)), "*",
            Grid(f"filter 1, {name}", weights[:, :, i, 0]), "→", Grid("sum", np.array([[sums[-1]]])),
        ))  # fmt: skip
    bias = float(model.params[f"{row.name}.b"][0]) if "b" in row.params else 0.0
    total = " + ".join(f"({number(s)})" if s < 0 else number(s) for s in sums)
    yield Text(
        f"Together: `{total} = {number(sum(sums) + bias)}`, the first number of the result. The result is "
        f"{by(row.output[:2])}: one table, not {c}."
    )
    yield Heading("Several filters give a volume again")
    yield Text(
        f"`filters: {filters}` means {filters} such filters. Each gives a table, and the tables are stacked: "
        f"{by(row.input)} becomes {by(row.output)}. What were colours are now *features*: channel 1 says where the "
        "first filter found what it looks for."
    )
    shown = min(filters, 4)
    yield Strip("result", "The result, channel by channel", tuple(
        Grid(f"filter {i + 1}", result[..., i], boxes=(Box(0, 0),) if not i else ()) for i in range(shown)
    ))  # fmt: skip
    yield _sizes(row)
    yield from _looking_at_one_colour()
    yield from _exercises()
    yield Heading("Source")
    yield Items((f"The picture: flower.jpg of scikit-learn, {CREDIT['flower']}.",))


def _listed(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def _sizes(row: Row) -> Table:
    kh, kw, c, f = row.params["w"].shape
    return Table(
        ("what", "size", "numbers"),
        (
            ("picture", by(row.input), number(int(np.prod(row.input)))),
            ("one filter", f"{kh}x{kw}x{c}", number(kh * kw * c)),
            (f"all {f} filters", f"{kh}x{kw}x{c}x{f}", number(kh * kw * c * f)),
            ("result", by(row.output), number(row.activation_size)),
        ),
    )


def _looking_at_one_colour() -> Iterator[Part]:
    yield Heading("A filter that looks at one colour")
    flower = photograph("flower", 180, 270, 3)
    everything = _edges(flower, (1, 1, 1))
    red_only = _edges(flower, (1, 0, 0))
    blue_only = _edges(flower, (0, 0, 1))
    yield Text(
        "With zeros in two of its three channels a filter sees one colour alone. Here is Sobel's filter on a "
        "photograph: with its numbers in all channels, in red only, in blue only."
    )
    yield Pictures("flower", "The picture", (flower.astype(np.uint8),))
    yield Pictures(
        "flower-edges",
        "Standing edges: of all colours together, of red, of blue",
        (everything, red_only, blue_only), "signed",
    )  # fmt: skip
    yield Text(
        "The flower is orange and the leaves behind it are not, so in red its rim is one strong edge and the leaves "
        "are gone. In blue the flower is hardly lighter than the leaves: its rim is weak, and the leaves show. "
        "Which colours matter is one more thing that a network learns."
    )


def _edges(picture: Array, channels: tuple[int, ...]) -> Array:
    layer = {"type": "conv", "filters": 1, "kernel": 3, "bias": False, "init": {"filter": "sobel_vertical"}}
    model = built({"name": "colours", "input": list(picture.shape), "layers": {"conv1": layer}})
    model.params["conv1.w"] = model.params["conv1.w"] * np.array(channels, float)[:, None] / sum(channels)
    found = model.forward(picture[None])[0, :, :, 0]
    clipped: Array = np.clip(found, -STRONGEST, STRONGEST)
    return clipped


def _exercises() -> Iterator[Part]:
    def shapes(run: RunSpec) -> str:
        row = run.model.table[0]
        return f"{by(row.input)} becomes {by(row.output)}, with {row.param_count} numbers to learn"

    plain = "model.layers.conv1.init=he"
    yield Exercise(
        "Five filters instead of two: what is the result's shape?",
        ("model.layers.conv1.filters=5", plain),
        lambda run: f"{shapes(run)}: the last number is always the number of filters.",
    )
    yield Exercise(
        "A grey picture has one channel. How large is a filter then?",
        ("model.input=[6,6,1]",),
        lambda run: f"{'x'.join(map(str, run.model.table[0].params['w'].shape[:3]))}: {shapes(run)}.",
    )
    yield Exercise(
        "What is left of height and width with 1x1 filters, and what can they still do?",
        ("model.layers.conv1.kernel=1", plain),
        lambda run: (
            f"{shapes(run)}. They see one pixel at a time, and mix its channels: each result is a weighted sum of them."
        ),
    )
