"""One layer's arithmetic."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cnnforge.course.computing import built
from cnnforge.course.lesson import Lesson
from cnnforge.course.parts import Code, Exercise, Grid, Heading, Items, Part, Strip, Table, Text, number
from cnnforge.report.table import by
from cnnforge.spec import ModelSpec, Row, RunSpec

#: Pictures of these sizes, to see what depends on them.
SIZES = (16, 39, 100, 1000)


def parts(lesson: Lesson) -> Iterator[Part]:
    row = lesson.conv()
    w = row.window
    assert w is not None
    h, width, _ = row.input
    oh, ow, filters = row.output
    kh, kw = w.kernel
    yield Text(
        "A layer is a convolution, a bias for each filter, and a function that every number goes through. Four numbers "
        "describe it, and everything else follows from them and the input."
    )
    yield Table(
        ("letter", "what it is", "key in YAML", "here"),
        (
            ("f", "size of the filter", "`kernel`", by(w.kernel) if kh != kw else f"{kh}"),
            ("s", "stride", "`stride`", by(w.stride) if w.stride[0] != w.stride[1] else f"{w.stride[0]}"),
            ("p", "padding", "`padding`", f"{w.pads[0]}" if len(set(w.pads)) == 1 else str(list(w.pads))),
            ("n_C", "number of filters", "`filters`", f"{filters}"),
            ("n_H x n_W x n_C before", "input", "`input`", by(row.input)),
        ),
        words=3,
    )  # fmt: skip
    yield Heading("1. The size of the output")
    yield Code(
        "n_H = floor((n_H before + 2p - f) / s) + 1\n"
        f"    = floor(({h} + {w.pads[0]} + {w.pads[1]} - {w.extent[0]}) / {w.stride[0]}) + 1 = {oh}\n"
        f"n_W = floor(({width} + {w.pads[2]} + {w.pads[3]} - {w.extent[1]}) / {w.stride[1]}) + 1 = {ow}\n"
        f"n_C = number of filters = {filters}"
    )
    yield Text(
        f"So {by(row.input)} becomes **{by(row.output)}**: {row.activation_size:,} numbers, the layer's *activations*. "
        "More about the formula: [padding](padding.md), [stride](stride.md)."
    )
    yield Heading("2. The parameters")
    yield from _parameters(row)
    yield Heading("3. The work")
    taps = kh * kw * row.params["w"].shape[2]
    yield Text(
        f"Each of the {row.activation_size:,} activations is a sum of {taps} products. One product and its addition "
        "are a *multiply-accumulate*, a MAC; biases are not counted."
    )
    yield Code(f"MACs = {oh}·{ow}·{filters} · {taps} = {row.macs:,}")
    yield Heading("4. One number from beginning to end")
    yield from _one_number()
    yield Heading("5. What does not depend on the picture")
    yield _sizes(lesson.model, row)
    yield Text(
        f"{row.param_count:,} parameters, whatever the picture: a filter does not know how often it will be laid on. "
        "Activations and work grow with the picture. This is why a small convolution can look at large pictures, "
        "and why it does not overfit as easily as it might: see [why convolutions](why.md)."
    )
    yield from _exercises()
    yield Heading("Source")
    yield Items(("Letters and counts are those of [Notation](../notation.md); `cnnforge check` prints them.",))


def _parameters(row: Row) -> Iterator[Part]:
    kh, kw, c, filters = row.params["w"].shape
    bias = "b" in row.params
    yield Text(
        f"A filter has {kh}·{kw}·{c} = {kh * kw * c} weights{' and one bias' if bias else ', and no bias here'}. There "
        f"are {filters} filters."
    )
    one = f"({kh}·{kw}·{c}{' + 1' if bias else ''})"
    yield Code(f"parameters = {one} · {filters} = {row.param_count:,}")


def _one_number() -> Iterator[Part]:
    model = built({
        "name": "one", "input": [2, 2, 1],
        "layers": {"one": {"type": "conv", "filters": 1, "kernel": 2, "bias_init": {"constant": -3}},
                   "relu": {"type": "activation", "function": "relu"}},
    })  # fmt: skip
    picture, kernel = np.array([[2.0, 1], [0, 3]]), np.array([[1.0, -1], [2, 1]])
    model.params["one.w"] = kernel[:, :, None, None]
    found = model.activations(picture[None, :, :, None])
    z, a = float(found["one"].squeeze()), float(found["relu"].squeeze())
    yield Strip("number", "Products, added up", (
        Grid("input", picture, "brightness"), "*", Grid("filter", kernel), "→",
        Grid("z", np.array([[z]])), "→", Grid("a = max(z, 0)", np.array([[a]]))
    ))  # fmt: skip
    terms = " + ".join(
        f"{number(x)}·{f'({number(k)})' if k < 0 else number(k)}"
        for x, k in zip(picture.ravel(), kernel.ravel(), strict=True)
    )
    yield Code(
        f"z = w·x + b = {terms} + ({number(float(model.params['one.b'][0]))}) = {number(z)}\na = relu(z) = {number(a)}"
    )
    model.params["one.b"] = np.array([-6.0])
    z, a = (float(model.activations(picture[None, :, :, None])[name].squeeze()) for name in ("one", "relu"))
    yield Text(
        f"The bias decides how much evidence a filter wants: with -6 in place of -3, z is {number(z)}, and ReLU "
        f"makes it {number(a)}. Without the function between them two layers could do no more than one: sums of sums "
        "are sums."
    )


def _sizes(model: ModelSpec, row: Row) -> Table:
    rows = []
    for size in SIZES:
        block = row.block
        shape = (size, size, row.input[2])
        weights = sum(int(np.prod(p.shape)) for p in block.params(shape).values())
        out = block.output(shape)
        rows.append((by(shape), by(out), f"{int(np.prod(out)):,}", f"{block.macs(shape):,}", f"{weights:,}"))
    return Table(("input", "output", "activations", "MACs", "parameters"), tuple(rows), words=2)


def _exercises() -> Iterator[Part]:
    def said(run: RunSpec) -> str:
        row = run.model.table[0]
        return f"{by(row.output)}, {row.param_count:,} parameters, {row.macs:,} MACs"

    yield Exercise(
        "Twenty filters instead of ten: what doubles?",
        ("model.layers.conv1.filters=20",),
        lambda run: f"{said(run)}: everything.",
    )
    yield Exercise(
        "5x5 instead of 3x3: how many more parameters, and why not more activations?",
        ("model.layers.conv1.kernel=5",),
        lambda run: (
            f"{said(run)}. 25 / 9 as many weights; the output is even smaller, since a wider window has fewer places."
        ),
    )
    yield Exercise(
        "Stride 2: what becomes of the work, what of the parameters?",
        ("model.layers.conv1.stride=2",),
        lambda run: f"{said(run)}: about a quarter of the work, and the same parameters.",
    )
    yield Exercise(
        "LeNet's first layer: 32x32x3, six 5x5 filters.",
        ("model.input=[32,32,3]", "model.layers.conv1.kernel=5", "model.layers.conv1.filters=6"),
        lambda run: f"{said(run)}.",
    )
