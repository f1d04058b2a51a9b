"""A whole network, line by line."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cnnforge.config import compose, validate
from cnnforge.course.computing import one_layer, outcome
from cnnforge.course.lesson import Lesson
from cnnforge.course.parts import Bars, Exercise, Heading, Items, Part, Pictures, Table, Text
from cnnforge.course.photographs import digit
from cnnforge.report.table import by
from cnnforge.shapes import count
from cnnforge.spec import ModelSpec, Row, RunSpec

#: Layers of more than so many are shown by their first and last.
MOST_BARS = 24


def parts(lesson: Lesson) -> Iterator[Part]:
    model = lesson.model
    rows = model.table
    total, macs = sum(row.param_count for row in rows), sum(row.macs for row in rows)
    if not macs:
        raise lesson.off_topic("no layer of it has weights", "a conv or an fc among its layers")
    yield Text(
        "A network is a list of layers, each reading what the one before it gives. LeNet (LeCun et al., 1998) read the "
        "digits on cheques. As courses teach it today it has two rounds of convolution and pooling, then three fully "
        "connected layers."
        if model.name == "lenet"
        else f"`{model.name}`, layer by layer."
    )
    yield Table(
        ("layer", "output", "f", "s", "p", "activations", "parameters", "MACs", "how"),
        (
            ("input", by(model.input), "", "", "", f"{count(model.input):,}", "", "", ""),
            *(_line(row) for row in rows),
            ("total", "", "", "", "", "", f"{total:,}", f"{macs:,}", ""),
        ),
        words=2,
    )  # fmt: skip
    weighted = sum(bool(row.macs) for row in rows)
    yield Text(
        f"{weighted} layers have weights, and that is how layers are counted: a pool belongs to the convolution "
        "before it. Each line follows from the one above it by the formulas of [one layer](layer.md) and "
        "[pooling](pooling.md). `flatten` only writes the volume down as a list."
    )
    shown = rows if len(rows) <= MOST_BARS else (*rows[: MOST_BARS // 2], *rows[-MOST_BARS // 2 :])
    yield Heading("Smaller and deeper")
    yield Text(
        "Height and width shrink, channels grow. Early layers know *where* in detail and *what* only roughly; late "
        "ones the other way round. The number of activations goes down slowly:"
    )
    yield Bars("activations", "Activations of each layer", tuple(
        (row.name, float(row.activation_size), _size(row)) for row in shown
    ))  # fmt: skip
    yield Heading("Where the parameters are, and where the work is")
    yield Bars("parameters", "Parameters of each layer", tuple(
        (row.name, float(row.param_count), _share(row.param_count, total)) for row in shown if row.param_count
    ))  # fmt: skip
    yield Bars("macs", "Multiply-accumulates of each layer", tuple(
        (row.name, float(row.macs), _share(row.macs, macs)) for row in shown if row.macs
    ))  # fmt: skip
    convs = [row for row in rows if row.type == "conv"]
    few, much = sum(row.param_count for row in convs) / total, sum(row.macs for row in convs) / macs
    said = f"The convolutions have {few:.0%} of the parameters and do {much:.0%} of the work"
    if few < much:
        yield Text(
            f"{said}: few numbers, used often. With fully connected layers it is the other way round. Whoever wants a "
            "smaller file looks at the fully connected layers, and whoever wants a faster network at the convolutions."
        )
    else:
        yield Text(f"{said}.")
    yield from _looking_inside(model)
    yield from _then_and_now()
    yield from _exercises()
    yield Heading("Source")
    yield Items((
        "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: *Gradient-based learning applied to document recognition*. "
        "Proceedings of the IEEE, 1998.",
    ))  # fmt: skip


def _line(row: Row) -> tuple[str, ...]:
    w = row.window
    letters = ("", "", "") if w is None else (
        f"{w.kernel[0]}" if w.kernel[0] == w.kernel[1] else by(w.kernel),
        f"{w.stride[0]}" if w.stride[0] == w.stride[1] else by(w.stride),
        f"{w.pads[0]}" if len(set(w.pads)) == 1 else ",".join(map(str, w.pads)),
    )  # fmt: skip
    numbers = f"{row.activation_size:,}", _some(row.param_count), _some(row.macs), _how(row)
    return row.name, by(row.output), *letters, *numbers


def _size(row: Row) -> str:
    return f"{row.activation_size:,}" + (f"  ({by(row.output)})" if len(row.output) == 3 else "")


def _some(count: int) -> str:
    return f"{count:,}" if count else ""


def _share(part: int, whole: int) -> str:
    share = part / (whole or 1)
    return f"{part:,}  ({share:.0%})" if share >= 0.005 else f"{part:,}  (below 1%)"


def _how(row: Row) -> str:
    """The parameters of a line, worked out."""
    if row.type == "conv":
        kh, kw, c, f = row.params["w"].shape
        return f"({kh}·{kw}·{c}{' + 1' if 'b' in row.params else ''})·{f}"
    if row.type == "fc":
        n, units = row.params["w"].shape
        return f"({n:,}{' + 1' if 'b' in row.params else ''})·{units}"
    return "nothing to learn" if not row.params else f"{row.type}"


def _looking_inside(model: ModelSpec) -> Iterator[Part]:
    """The first layer's feature maps of a digit, before any training."""
    row = model.table[0]
    h, w, c = model.input
    if row.type != "conv" or max(h, w) > 64 or len(row.output) != 3:
        return
    picture = digit(0) / 255
    times = min(h, w) // 8
    if not times:
        return
    large = picture.repeat(times, 0).repeat(times, 1)
    top, left = (h - large.shape[0]) // 2, (w - large.shape[1]) // 2
    x = np.zeros((h, w, c))
    x[top : top + large.shape[0], left : left + large.shape[1]] = large[..., None]
    maps = outcome(one_layer(row.block.model_dump(exclude_none=True), row.input), x)
    yield Heading("What the first layer gives of a digit")
    yield Pictures(
        "maps", f"The digit, and what {min(6, row.output[2])} filters of {row.name} make of it before any training",
        (x[..., 0], *(maps[..., i] for i in range(min(6, row.output[2])))), enlarge=3 if h <= 40 else 2,
    )  # fmt: skip
    yield Text(
        "Random filters already see edges and strokes. Training turns them to those that tell one digit from another: "
        "see [learned filters](learned.md)."
    )


def _then_and_now() -> Iterator[Part]:
    yield Heading("Then and now")
    names = ("lenet1", "lenet4", "lenet5", "lenet")
    rows = []
    for name in names:
        table = validate(compose([f"model={name}"]), match_data=False).model.table
        rows.append((
            f"[{name}](../../configs/model/{name}.yaml)", by(table[0].input), f"{sum(bool(r.macs) for r in table)}",
            f"{sum(r.param_count for r in table):,}", f"{sum(r.macs for r in table):,}",
        ))  # fmt: skip
    yield Table(("network", "input", "layers", "parameters", "MACs"), tuple(rows))
    yield Text(
        "LeNet-1 is of 1989, LeNet-4 and 5 are of 1998, a little simplified, as their files say. They have what "
        "their time had: tanh instead of ReLU, means instead of maxima. `lenet` is what courses have made of "
        "LeNet-5: three colours, ReLU, max pooling, softmax. The shape of it, convolutions and pools, then fully "
        "connected layers, has outlived them all."
    )


def _exercises() -> Iterator[Part]:
    def said(run: RunSpec) -> str:
        rows = run.model.table
        params, macs = sum(r.param_count for r in rows), sum(r.macs for r in rows)
        return f"{params:,} parameters and {macs:,} MACs"

    def flat(run: RunSpec) -> int:
        return next(row.output[0] for row in run.model.table if row.type == "flatten")

    yield Exercise(
        "Leave the second pool out. Where do the new parameters come from?",
        ("~model.layers.pool2",),
        lambda run: (
            f"{said(run)}: flatten now gives {flat(run):,} numbers, and fc3 has a weight for each of them and each "
            "of its units."
        ),
    )
    yield Exercise(
        "Grey pictures instead of colours: how many parameters are saved?",
        ("model.input=[32,32,1]",),
        lambda run: f"{said(run)}: 2·25·6 = 300 fewer, all in conv1. Only the first layer sees the colours.",
    )
    yield Exercise(
        "Put a 1x1 convolution with four filters before the fully connected layers. What does it save?",
        ("+model.layers.conv3={type: conv, filters: 4, kernel: 1, activation: relu, after: pool2}",),
        lambda run: f"{said(run)}: flatten gives {flat(run)} numbers instead of 400.",
    )
    yield Exercise(
        "Read another network the same way.",
        ("model=lenet5",),
        lambda run: f"{said(run)}.",
    )
