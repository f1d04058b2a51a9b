"""Backpropagation through a convolution."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cnnforge.course.computing import built, convolved, one_layer
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
    matrix,
    number,
    product_line,
)
from cnnforge.course.topics.pooling import FOUR
from cnnforge.init import FILTERS
from cnnforge.losses.mse import Mse
from cnnforge.model import Model
from cnnforge.spec import RunSpec

#: What a parameter is moved by, up and down.
STEP = 1e-5
#: Parameters that are checked one by one, at most, and a bound for what rounding makes of a finite difference.
MOST, ROUNDING = 64, 1e-7
PICTURE = matrix("1 2 0 1; 0 3 1 2; 4 1 0 0; 1 0 6 1")


def parts(lesson: Lesson) -> Iterator[Part]:
    row = lesson.first
    lesson.small(row.input, 8)
    model = lesson.model
    if not isinstance(model.effective_loss, Mse):
        raise lesson.off_topic(f"its loss is {model.effective_loss.type}", "model.loss=mse")
    if row.input[2] != 1:
        raise lesson.off_topic("it has one grey picture", "model.input=[4,4,1]")
    if not any(r.trainable_count for r in model.table):
        raise lesson.off_topic("none of its layers learns", f"model.layers.{row.name}.trainable=true")
    size = row.input[:2]
    picture = PICTURE if size == PICTURE.shape else np.resize(PICTURE, size)
    net = built(model, lesson.run.seed)
    target = _target(picture, model.output)
    yield Text(
        "Learning needs one thing of every parameter: if it grew a little, how much would the loss grow? That "
        "number is its *gradient*. Moving every parameter a small step against its gradient makes the loss smaller. "
        "*Backpropagation* finds all of them in one go, from the loss back to the picture."
    )
    alone = len(model.table) == 1 and row.type == "conv" and row.output[2] == 1 and row.window is not None
    if alone and row.window is not None and row.window.stride == (1, 1) and not any(row.window.pads):
        yield from _by_hand(net, picture, target)
    yield from _checked(net, picture, target)
    yield from _a_step(net, picture, target)
    yield from _other_layers()
    yield from _exercises()
    yield Heading("Source")
    yield Items((
        "D. Rumelhart, G. Hinton, R. Williams: *Learning representations by back-propagating errors*. Nature, 1986.",
        "V. Dumoulin, F. Visin: *A guide to convolution arithmetic for deep learning*. arXiv:1603.07285, 2016: the way "
        "back of a convolution is a transposed convolution.",
    ))  # fmt: skip


def _target(picture: Array, output: tuple[int, ...]) -> Array:
    """What Sobel's filter gives, where that fits; zeros otherwise."""
    wanted = convolved(picture, np.array(FILTERS["sobel_vertical"], float))
    return wanted.reshape(output) if wanted.size == np.prod(output) else np.zeros(output)


def _by_hand(net: Model, picture: Array, target: Array) -> Iterator[Part]:
    name = next(key for key, value in net.params.items() if value.ndim == 4)
    kernel = net.params[name][:, :, 0, 0].copy()
    y = net.forward(picture[None, :, :, None])[0, :, :, 0]
    t = target.reshape(y.shape)
    n, (kh, kw) = y.size, kernel.shape
    loss, grads = net.loss_and_grads(picture[None, :, :, None], target[None])
    yield Heading("Forward")
    yield Strip("forward", "What the filter gives", (
        Grid("x", picture, "brightness"), "*", Grid("w", kernel), "=", Grid("y", y), " ", Grid("wanted: t", t),
    ))  # fmt: skip
    yield Text("Wanted is what Sobel's filter would give. The loss is the mean of the squared differences:")
    pairs = zip(y.ravel(), t.ravel(), strict=True)
    differences = " + ".join(f"({number(a)} - {number(b)})²".replace("- -", "+ ") for a, b in pairs)
    yield Code(f"loss = ({differences}) / {n} = {number(loss)}")
    yield Heading("Back to the output")
    dy = 2 * (y - t) / n
    yield Text(f"How does the loss change with each output? The square has the derivative 2(y - t), and there are {n}:")
    yield Strip("dy", "dy = 2 (y - t) / n", (Grid("y - t", y - t), "→", Grid("dy", dy)))
    yield Heading("Back to the filter")
    yield Text(
        f"The filter's first number was multiplied with {n} numbers of the picture, one for each output: those that "
        "lay under it when the filter moved. If it grows by a little, each output grows by that little times its "
        "pixel. So its gradient is the sum of these pixels, each times its dy:"
    )
    oh, ow = dy.shape
    yield Code(f"dw[0, 0] = {product_line(picture[:oh, :ow], dy)}")
    yield Text(
        "The second number of the filter saw the pixels one column further right. That is a sliding window: **the "
        "gradient of the filter is a convolution of the picture with dy.**"
    )
    dw = convolved(picture, dy)
    yield Strip("dw", "x * dy = dw", (
        Grid("x", picture, "brightness", (Box(0, 0, oh, ow),)), "*", Grid("dy", dy), "=",
        Grid("dw", dw, boxes=(Box(0, 0),)),
    ))  # fmt: skip
    apart = float(np.abs(dw - grads[name][:, :, 0, 0]).max())
    yield Text(
        f"The library's own gradient of `{name}` differs from this by {number(apart)}. "
        f"The bias was added to every output, so its gradient is the sum of dy: {number(float(dy.sum()))}."
    )
    yield Heading("Back to the picture")
    dx = convolved(dy, kernel, backwards=True)
    yield Text(
        "A layer further back needs to know how the loss changes with *its* output, which is this layer's x. A "
        f"pixel in the middle went into up to {kh * kw} outputs, each time under another number of the filter. So "
        "every dy is spread over the window that it came from, times the filter, and where windows overlap they add "
        "up. This is a *transposed* convolution (`conv_transpose`):"
    )
    yield Strip("dx", "dx: dy spread through the filter", (
        Grid("dy", dy, boxes=(Box(0, 0),)), "spread by", Grid("w", kernel), "=",
        Grid("dx", dx, boxes=(Box(0, 0, kh, kw),)),
    ))  # fmt: skip


def _checked(net: Model, picture: Array, target: Array) -> Iterator[Part]:
    _, grads = net.loss_and_grads(picture[None, :, :, None], target[None])
    names = [(name, place) for name, g in grads.items() for place in np.ndindex(g.shape)][:MOST]
    rows, worst = [], 0.0
    for name, place in names:
        numeric, exact = slope(net, picture, target, name, place), float(grads[name][place])
        worst = max(worst, abs(numeric - exact))
        rows.append((f"`{name}`{list(place)}", f"{_plain(exact)}", f"{_plain(numeric)}"))
    yield Heading("Is it right?")
    yield Text(
        f"There is a slow way that cannot be wrong: make one parameter larger by {STEP:.5f}, compute the loss; make "
        "it smaller, compute again; divide the difference by the distance. It takes two losses for each parameter, "
        "so nobody trains with it, and everybody checks with it."
    )
    yield Table(("parameter", "backpropagation", "finite difference"), tuple(rows))
    said = f"less than {ROUNDING:.7f}" if worst < ROUNDING else f"{worst:.1e} at most"
    yield Text(f"They differ by {said}, which is rounding. cnnforge's tests hold every block and loss to this check.")


def slope(net: Model, picture: Array, target: Array, name: str, place: tuple[int, ...]) -> float:
    """The finite difference of the loss by one parameter; the network is left as it was."""
    own = net.params[name].copy()
    losses = []
    for sign in (1, -1):
        moved = own.copy()
        moved[place] += sign * STEP
        net.params[name] = moved
        losses.append(net.loss_and_grads(picture[None, :, :, None], target[None])[0])
    net.params[name] = own
    return (losses[0] - losses[1]) / (2 * STEP)


def _plain(value: float) -> str:
    return f"{value + 0.0:.4f}".replace("-0.0000", "0.0000")


def _a_step(net: Model, picture: Array, target: Array) -> Iterator[Part]:
    rate = 0.01
    losses = []
    for _ in range(4):
        loss, grads = net.loss_and_grads(picture[None, :, :, None], target[None])
        losses.append(loss)
        for name, grad in grads.items():
            net.params[name] = net.params[name] - rate * grad
    yield Heading("And then?")
    yield Text(
        f"Every parameter moves by its gradient times {rate}, in the other direction: "
        f"`w = w - {rate}·dw`. The loss: {' → '.join(f'{loss:.3f}' for loss in losses)}. That is all of learning, many "
        "times over. [Learned filters](learned.md) does it until Sobel's numbers are found."
    )


def _other_layers() -> Iterator[Part]:
    yield Heading("Pools and ReLU")
    yield Text(
        "A maximum depends on one of its pixels alone: the largest. The whole gradient goes there, and none to the "
        "others. A mean shares it out. ReLU lets the gradient through where it let the number through, and stops it "
        "elsewhere. Here is how the sum of all outputs of a pool changes with each pixel:"
    )
    grids = []
    for mode in ("max", "average"):
        pool = built(one_layer({"type": "pool", "kernel": 2, "mode": mode}, (4, 4, 1)))
        grids.append(Grid(f"{mode} pool", _slopes(pool, FOUR), bounds=(0, 1)))
    yield Strip("pools", "Where a gradient of 1 for each output goes", (Grid("x", FOUR, "brightness"), "→", *grids))


def _slopes(net: Model, picture: Array) -> Array:
    """(H, W): how the sum of the outputs changes with each pixel, by finite differences, to three digits."""
    basis = np.eye(picture.size).reshape(picture.size, *picture.shape, 1) * STEP
    up, down = (net.forward(picture[None, :, :, None] + sign * basis).sum((1, 2, 3)) for sign in (1, -1))
    slopes: Array = np.round((up - down) / (2 * STEP), 3).reshape(picture.shape) + 0.0
    return slopes


def _exercises() -> Iterator[Part]:
    def said(run: RunSpec) -> str:
        net = built(run.model, run.seed)
        target = _target(PICTURE, run.model.output)
        loss, grads = net.loss_and_grads(PICTURE[None, :, :, None], target[None])
        worst = max(
            abs(slope(net, PICTURE, target, name, place) - float(g[place]))
            for name, g in grads.items() for place in list(np.ndindex(g.shape))[:MOST]
        )  # fmt: skip
        right = "agree" if worst < ROUNDING else f"differ by {worst:.1e}"
        return f"{sum(g.size for g in grads.values())} gradients, loss {number(loss)}; the two ways {right}"

    yield Exercise(
        "Begin with Sobel's filter. What are the gradients?",
        ("model.layers.conv1.init.filter=sobel_vertical",),
        lambda run: f"All 0: {said(run)}. There is nothing to learn any more.",
    )
    yield Exercise(
        "Add a ReLU behind the convolution. One output was negative: what becomes of its share in the gradients?",
        ("model.layers.conv1.activation=relu",),
        lambda run: (
            f"{said(run)}. ReLU made that output 0, and stops its gradient: the filter hears nothing of it any "
            "more, although the loss would like it to be larger."
        ),
    )
    yield Exercise(
        "Add a max pool. Do the finite differences still agree?",
        ("+model.layers.pool1={type: pool, kernel: 2}",),
        lambda run: f"{said(run)}: of four outputs one is left, and only its window is heard of.",
    )
