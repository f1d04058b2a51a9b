"""Why convolutions: sharing and sparsity."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cnnforge.course.computing import built, one_layer, outcome
from cnnforge.course.lesson import Lesson
from cnnforge.course.parts import Array, Bars, Code, Exercise, Grid, Heading, Items, Part, Strip, Table, Text, number
from cnnforge.course.photographs import digit
from cnnforge.report.table import by, fc_params
from cnnforge.shapes import count
from cnnforge.spec import Row, RunSpec


def parts(lesson: Lesson) -> Iterator[Part]:
    row = lesson.conv()
    fc = fc_params(row)
    assert fc is not None
    before, after = count(row.input), row.activation_size
    kh, kw, c, filters = row.params["w"].shape
    bias = "b" in row.params
    yield Text(
        f"A layer that turns {by(row.input)} into {by(row.output)} could also be fully connected: every one of the "
        f"{after:,} outputs reads every one of the {before:,} inputs. What would that cost?"
    )
    yield Code(
        f"fully connected:  {before:,} · {after:,}{f' + {after:,}' if bias else ''} = {fc:,} parameters\n"
        f"convolution:      ({kh}·{kw}·{c}{' + 1' if bias else ''}) · {filters} = {row.param_count:,} parameters"
    )
    yield Bars("parameters", "Parameters of the two layers", (
        ("fully connected", float(fc), f"{fc:,}"), ("convolution", float(row.param_count), f"{row.param_count:,}"),
    ))  # fmt: skip
    yield Text(
        f"{_millions(fc)} against {row.param_count:,}: {fc / row.param_count:,.0f} times as many, for one layer of a "
        "small picture. Two ideas make the difference."
    )
    yield from _as_a_matrix()
    yield from _sparsity(row)
    yield from _sharing(row)
    yield from _shift(row)
    yield from _exercises()
    yield Heading("Source")
    yield Items((
        "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: *Gradient-based learning applied to document recognition*. "
        "Proceedings of the IEEE, 1998, section II: local receptive fields, shared weights, subsampling.",
    ))  # fmt: skip


def _millions(count: int) -> str:
    if count >= 1e9:
        return f"About {count / 1e9:,.0f} billion"
    return f"About {count / 1e6:,.0f} million" if count >= 1e6 else f"{count:,}"


def as_matrix(size: int, kernel: Array) -> Array:
    """(outputs, inputs): the fully connected layer that does what this filter does to a picture of size x size."""
    k = len(kernel)
    model = built(one_layer({"type": "conv", "filters": 1, "kernel": k, "bias": False}, (size, size, 1)))
    model.params["one.w"] = kernel[:, :, None, None]
    basis = np.eye(size * size).reshape(size * size, size, size, 1)
    columns: Array = model.forward(basis).reshape(size * size, -1).T
    return columns


def _as_a_matrix() -> Iterator[Part]:
    kernel = np.array([[1.0, 2], [3, 4]])
    matrix = as_matrix(3, kernel)
    yield Heading("The same layer as a matrix")
    yield Text(
        "A convolution *is* a fully connected layer of a special kind. Feed it pictures that are 1 at one pixel and 0 "
        "elsewhere: what comes out is a column of its matrix. A 2x2 filter over a 3x3 picture, four outputs and nine "
        "inputs:"
    )
    yield Strip("matrix", "A row for each output, a column for each input", (
        Grid("filter", kernel), "→", Grid("matrix", matrix),
    ))  # fmt: skip
    zeros = int((matrix == 0).sum())
    yield Text(
        f"A fully connected layer could have {matrix.size} different numbers there. {zeros} of them are 0, and the "
        f"other {matrix.size - zeros} are the same {kernel.size} again and again."
    )


def _sparsity(row: Row) -> Iterator[Part]:
    kh, kw, c, _ = row.params["w"].shape
    seen, before = kh * kw * c, count(row.input)
    yield Heading("Sparsity: an output reads few inputs")
    yield Text(
        f"Each output of `{row.name}` reads {kh}·{kw}·{c} = {seen} inputs and not {before:,}, {seen / before:.1%} of "
        "them. What a pixel means is decided by its neighbours; what lies in the far corner can wait for a deeper "
        "layer, which [sees further](field.md)."
    )
    yield Table(
        ("layer", "connections", "different numbers"),
        (
            ("fully connected", f"{before * row.activation_size:,}", f"{fc_params(row):,}"),
            ("convolution", f"{row.macs:,}", f"{row.param_count:,}"),
        ),
    )


def _sharing(row: Row) -> Iterator[Part]:
    assert row.window is not None
    places = row.window.out[0] * row.window.out[1]
    yield Heading("Sharing: all places use the same numbers")
    yield Text(
        f"A filter that finds an edge in one corner finds it in every other. So all {by(row.window.out)} = "
        f"{places:,} places use the same numbers, and each number learns from {places:,} places of every picture. A "
        "fully connected layer would have to learn the same edge at every place anew."
    )


def _shift(row: Row) -> Iterator[Part]:
    assert row.window is not None
    h, w, c = row.input
    if row.window.stride != (1, 1) or any(row.window.pads) or min(h, w) < 16 or min(row.window.out) < 8:
        return
    yield Heading("A picture that moves")
    picture = np.zeros((h, w, c))
    picture[3:11, 3:11] = digit(2)[..., None] / 255
    moved = np.roll(picture, (2, 3), axis=(0, 1))
    net = one_layer(row.block.model_dump(exclude_none=True), row.input)
    one, other = outcome(net, picture), outcome(net, moved)
    same = float(np.abs(np.roll(one, (2, 3), axis=(0, 1))[2:, 3:] - other[2:, 3:]).max())
    yield Text(
        "From sharing follows something that no fully connected layer has: move the picture, and the result moves "
        f"with it. A digit was put into a {by(row.input[:2])} picture, and once more 2 rows further down and 3 "
        "columns further right. The result of the second, moved back, differs from that of the first by "
        f"{number(same)} at most."
    )


def _exercises() -> Iterator[Part]:
    def said(run: RunSpec) -> str:
        row = run.model.table[0]
        return f"{fc_params(row):,} against {row.param_count:,}"

    yield Exercise(
        "A picture of 224x224, as photographs are: how many parameters would the fully connected layer have?",
        ("model.input=[224,224,3]",),
        lambda run: (
            f"{said(run)}. {_millions(fc_params(run.model.table[0]) or 0)}, and the convolution has not changed."
        ),
    )
    yield Exercise(
        "Let the filter be as large as the picture. What is left of the difference?",
        ("model.layers.conv1.kernel=32",),
        lambda run: (
            f"{said(run)}: nothing. There is one place for it, so nothing is shared, and it sees every pixel: it "
            "is a fully connected layer."
        ),
    )
    yield Exercise(
        "Which filter leaves no neighbours at all?",
        ("model.layers.conv1.kernel=1",),
        lambda run: f"1x1: {said(run)}. It is a small fully connected layer over the channels, used at every pixel.",
    )
