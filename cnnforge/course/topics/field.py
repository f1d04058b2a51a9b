"""The receptive field."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cnnforge.config import compose, validate
from cnnforge.course.computing import built
from cnnforge.course.lesson import Lesson
from cnnforge.course.parts import Array, Code, Exercise, Grid, Heading, Items, Part, Pictures, Strip, Table, Text
from cnnforge.report.table import by
from cnnforge.spec import ModelSpec, Row, RunSpec

#: Rows and columns of pictures that are tried pixel by pixel, at most.
MOST = 24
#: Channels for comparing stacks of filters.
CHANNELS = 64
#: Networks of the zoo, and their last feature maps.
ZOO = ("lenet", "alexnet", "vgg16", "mobilenet_v1")


def parts(lesson: Lesson) -> Iterator[Part]:
    model = lesson.model
    rows = [row for row in model.table if len(row.output) == 3]
    if not rows:
        raise lesson.off_topic("no layer of it has height and width", "a conv as the first layer")
    yield Text(
        "One number behind a 3x3 filter depends on 3x3 pixels. A number behind *two* such filters depends on 3x3 "
        "numbers, each of which depends on 3x3 pixels: together 5x5. What a number depends on is its *receptive "
        "field*. It grows from layer to layer, and in the end must be large enough for what is to be recognised."
    )
    yield Heading("The rule")
    yield Text(
        "Two numbers are carried along: how wide the field is, and how many pixels lie between two neighbouring "
        "outputs, the *jump*. A filter of size f reaches over f - 1 jumps more. A stride makes the jump longer."
    )
    yield Code(
        "field = field before + (f - 1) · jump before        jump = jump before · s\n(begin with field 1, jump 1)"
    )
    yield Table(("layer", "output", "f", "s", "jump", "field", "worked out"), tuple(_lines(rows)), words=2)
    last = rows[-1]
    share = min(1.0, last.field.size[0] / model.input[0]) * min(1.0, last.field.size[1] / model.input[1])
    yield Text(
        f"A number behind `{last.name}` sees {by(last.field.size)} of {by(model.input[:2])} pixels, {share:.0%} of the "
        "picture."
    )
    yield from _tried(model, rows)
    yield from _stacks()
    yield from _zoo()
    yield from _exercises()
    yield Heading("Sources")
    yield Items((
        "K. Simonyan, A. Zisserman: *Very deep convolutional networks for large-scale image recognition*. ICLR 2015: "
        "stacks of 3x3 filters instead of wide ones.",
        "W. Luo, Y. Li, R. Urtasun, R. Zemel: *Understanding the effective receptive field in deep convolutional "
        "neural networks*. NIPS 2016: the middle counts most.",
        "A. Araujo, W. Norris, J. Sim: *Computing receptive fields of convolutional neural networks*. Distill, 2019.",
    ))  # fmt: skip


def _lines(rows: list[Row]) -> Iterator[tuple[str, ...]]:
    field, jump = 1, 1
    for row in rows:
        w, after = row.window, row.field
        how = ""
        if w is not None and not w.transposed and after.size[0] == field + (w.extent[0] - 1) * jump:
            how = f"{field} + ({w.extent[0]} - 1)·{jump}"
        f, s = ("", "") if w is None else (f"{w.extent[0]}", f"{w.stride[0]}")
        yield row.name, by(row.output), f, s, f"{float(after.spacing[0]):g}", by(after.size), how
        field, jump = after.size[0], int(after.spacing[0])


def _tried(model: ModelSpec, rows: list[Row]) -> Iterator[Part]:
    """Which pixels reach the middle output of each layer, found out by lighting one pixel after the other."""
    if max(model.input[:2]) > MOST or len(rows) > 6:
        return
    maps = paths(model, rows)
    yield Heading("Tried out")
    yield Text(
        "A formula can be tried. Set every weight to 1, make one pixel light and all others dark, and look whether the "
        "middle output of a layer notices. Once for each pixel:"
    )
    yield Pictures(
        "maps", f"What the middle output of {', '.join(row.name for row in rows)} notices, and how strongly",
        tuple(m / (m.max() or 1) for m in maps), "signed", max(1, 144 // model.input[0]),
    )  # fmt: skip
    sizes = [by((int(m.any(1).sum()), int(m.any(0).sum()))) for m in maps]
    yield Text(f"Their sizes, counted: {', '.join(sizes)}.")
    reached = maps[-1][np.flatnonzero(maps[-1].any(axis=1))]
    line = reached[len(reached) // 2][reached[len(reached) // 2] > 0]
    if len(set(line.tolist())) > 1 and len(line) <= 15:
        yield Strip("ways", "The middle row of the last one: in how many ways a pixel reaches the output", (
            Grid("ways", line[None], "signed", bounds=(0, float(line.max()))),
        ))  # fmt: skip
        yield Text(
            f"The field has soft edges. The pixel in the middle comes through in {line.max():.0f} ways, the one in "
            f"the corner in {reached[reached > 0].min():.0f}. So the part that really counts is smaller than the "
            "whole field (Luo et al., 2016)."
        )


def paths(model: ModelSpec, rows: list[Row]) -> list[Array]:
    """Of each row (H, W): what its middle output, in the first channel, is of a picture that is 1 at one pixel."""
    net = built(model)
    for name in net.params:
        if name.endswith(".w"):
            net.params[name] = np.ones(net.params[name].shape)
    h, w, c = model.input
    basis = np.repeat(np.eye(h * w).reshape(h * w, h, w, 1), c, axis=-1)
    dark = net.activations(np.zeros((1, h, w, c)))
    found = net.activations(basis)
    maps = []
    for row in rows:
        r, k = row.output[0] // 2, row.output[1] // 2
        maps.append((found[row.name] - dark[row.name])[:, r, k, 0].reshape(h, w))
    return maps


def _stacks() -> Iterator[Part]:
    yield Heading("Three small filters or a large one")
    lines = []
    for name, kernels in (("one 7x7", (7,)), ("three 3x3", (3, 3, 3))):
        layers = {f"conv{i}": {"type": "conv", "filters": CHANNELS, "kernel": k} for i, k in enumerate(kernels, 1)}
        table = ModelSpec.model_validate({"input": [32, 32, CHANNELS], "layers": layers}).table
        lines.append((name, by(table[-1].field.size), f"{sum(row.param_count for row in table):,}", f"{len(kernels)}"))
    yield Table((f"{CHANNELS} channels in and out", "field", "parameters", "ReLUs between"), tuple(lines))
    yield Text(
        "The same field, about half the parameters, and three functions instead of one. That is the idea of VGG "
        "(Simonyan and Zisserman, 2015), and most networks since are built of 3x3 filters."
    )


def _zoo() -> Iterator[Part]:
    yield Heading("In known networks")
    lines = []
    for name in ZOO:
        model = validate(compose([f"model={name}"]), match_data=False).model
        last = [row for row in model.table if row.type in ("conv", "pool") and row.output[:2] != (1, 1)][-1]
        link = f"[{name}](../../configs/model/{name}.yaml)"
        lines.append((link, by(model.input[:2]), last.name, by(last.output), by(last.field.size)))
    yield Table(("network", "picture", "last feature map", "its size", "sees"), tuple(lines), words=3)
    yield Text("Of one position. [The zoo](../zoo.md) has them all.")


def _exercises() -> Iterator[Part]:
    def said(run: RunSpec) -> str:
        fields = [row.field.size[0] for row in run.model.table if len(row.output) == 3]
        return " → ".join(map(str, fields))

    yield Exercise(
        "Stride 2 in the first layer: how far does the third see?",
        ("model.layers.conv1.stride=2",),
        lambda run: f"{said(run)}. From the second layer on each step is two pixels.",
    )
    yield Exercise(
        "Holes: `dilation: 2` in the second layer. What does it see, and what does it cost?",
        ("model.layers.conv2.dilation=2",),
        lambda run: f"{said(run)}, with the same nine weights: the filter's numbers lie two apart.",
    )
    yield Exercise(
        "A 2x2 pool behind the first layer?",
        ("+model.layers.pool1={type: pool, kernel: 2, after: conv1}",),
        lambda run: f"{said(run)}. The pool itself adds one pixel, and doubles the jump for all behind it.",
    )
    yield Exercise(
        "Look at VGG-16, layer by layer.",
        ("model=vgg16",),
        lambda run: f"{said(run).rpartition(' ')[2]} pixels at the end, more or less the whole picture of 224.",
    )
