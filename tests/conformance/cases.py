"""One hypothesis strategy per op: inputs, attributes, and what naive loops say comes out.

A new op needs a case here: ``test_every_op_has_a_case`` fails without.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import ml_dtypes  # noqa: F401 - NumPy then knows bfloat16
import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from cnnforge.errors import ShapeError
from cnnforge.ir.graph import DEVICE_FIELDS, STEP_FIELDS
from cnnforge.ir.vjp import FROM_INPUT, FROM_OUTPUT
from cnnforge.rng import philox, stream
from cnnforge.shapes import Window, window
from tests import formulas, oracles


@dataclass
class Case:
    """``outs``: as ``one_node.run`` takes them; ``expected``: None for an output that nothing is said of.

    exact: integers all the way, so every backend must agree to the bit in every precision
    scale: the size of the terms that were added up, where rounding is relative to them and not to the result
    """

    ins: list[Any]
    outs: list[Any]
    expected: list[Any]
    attrs: dict[str, Any] = field(default_factory=dict)
    exact: bool = False
    scale: float = 1.0


CASES: dict[str, Callable[[str], st.SearchStrategy[Case]]] = {}


def case(*ops: str) -> Callable[..., Any]:
    """Register a composite ``(draw, op, dtype) -> Case`` for ``ops``."""

    def add(function: Callable[..., Case]) -> Callable[..., Case]:
        for op in ops:
            CASES[op] = lambda dtype, op=op: st.composite(lambda draw: function(draw, op, dtype))()
        return function

    return add


# Shapes and numbers.

axis = st.integers(1, 5)
shapes = st.lists(axis, min_size=2, max_size=4).map(tuple)


def _generator(draw) -> np.random.Generator:
    return np.random.default_rng(draw(st.integers(0, 2**32 - 1)))


def reals(draw, shape, dtype, deviation=2.0):
    """Normal numbers, a few of them exactly 0, a few large."""
    rng = _generator(draw)
    x = rng.normal(size=shape) * deviation
    x[rng.random(shape) < 0.1] = 0
    x[rng.random(shape) < 0.05] *= 10
    return x.astype(dtype)


def integers(draw, shape, dtype, low=-4, high=5):
    """Small integers: sums and products of them are exact, and they tie."""
    return _generator(draw).integers(low, high, shape).astype(dtype)


def _either(draw, low, high):
    """The same for both axes, or one for each."""
    return draw(st.tuples(st.integers(low, high), st.integers(low, high)))


@st.composite
def windows(draw, pool: bool = False) -> tuple[tuple[int, int], Window]:
    """((H, W), window) of odd sizes, four-sided padding, ``same``; for pools also ceil_mode."""
    size = _either(draw, 1, 7)
    kernel = _either(draw, 1, 3)
    stride = _either(draw, 1, 3)
    dilation = (1, 1) if pool else _either(draw, 1, 2)
    most = min(kernel) - 1 if pool else 2
    side = st.integers(0, most)
    padding = draw(st.sampled_from(["valid", "same"]) | side | st.tuples(side, side, side, side))
    try:
        return size, window(size, kernel, stride, padding, dilation, pool and draw(st.booleans()))
    except ShapeError:
        assume(False)
        raise


# Convolution, matrix products.


@case("conv2d", "conv2d_dx", "conv2d_dw")
def _convolution(draw, op, dtype):
    size, win = draw(windows())
    groups = draw(st.integers(1, 3))
    n, cg, fg = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    x = integers(draw, (n, *size, groups * cg), dtype)
    w = integers(draw, (*win.kernel, cg, groups * fg), dtype)
    dy = integers(draw, (n, *win.out, groups * fg), dtype)
    attrs = {"window": win, "groups": groups, "flip": draw(st.booleans())}
    if op == "conv2d":
        ins, y = [x, w], oracles.conv2d(x, w, **attrs)
    elif op == "conv2d_dx":
        ins, y = [dy, w], oracles.conv2d_dx(dy, w, x.shape, **attrs)
    else:
        ins, y = [x, dy], oracles.conv2d_dw(x, dy, w.shape, **attrs)
    return Case(ins, [(y.shape, dtype)], [y], attrs, exact=True)


@case("matmul", "matmul_dx", "matmul_dw")
def _products(draw, op, dtype):
    n, i, u = draw(axis), draw(st.integers(1, 9)), draw(axis)
    x, w, dy = integers(draw, (n, i), dtype), integers(draw, (i, u), dtype), integers(draw, (n, u), dtype)
    left, right, ins = {"matmul": (x, w, [x, w]), "matmul_dx": (dy, w.T, [dy, w]), "matmul_dw": (x.T, dy, [x, dy])}[op]
    y = np.array([[sum(a * b for a, b in zip(row, column, strict=True)) for column in right.T] for row in left])
    return Case(ins, [(y.shape, dtype)], [y], exact=True)


@case("bias")
def _bias(draw, op, dtype):
    shape = draw(shapes)
    x, b = integers(draw, shape, dtype), integers(draw, shape[-1:], dtype)
    y = np.array([x[at] + b[at[-1]] for at in np.ndindex(shape)]).reshape(shape)
    return Case([x, b], [(shape, dtype)], [y], exact=True)


@case("bias_db")
def _bias_db(draw, op, dtype):
    shape = draw(shapes)
    dy = integers(draw, shape, dtype)
    return Case([dy], [(shape[-1:], dtype)], [[sum(dy[..., c].reshape(-1)) for c in range(shape[-1])]], exact=True)


@case("add")
def _add(draw, op, dtype):
    shape = draw(shapes)
    a, b = integers(draw, shape, dtype), integers(draw, shape, dtype)
    return Case([a, b], [(shape, dtype)], [[p + q for p, q in zip(a, b, strict=True)]], exact=True)


@case("reshape")
def _reshape(draw, op, dtype):
    # The same memory, so what comes out under the input's shape is the input.
    x = reals(draw, draw(shapes), dtype)
    return Case([x], [0], [x], exact=True)


# Merging.


@case("multiply")
def _multiply(draw, op, dtype):
    shape = draw(shapes)
    a, b = integers(draw, shape, dtype), integers(draw, shape, dtype)
    return Case([a, b], [(shape, dtype)], [[p * q for p, q in zip(a, b, strict=True)]], exact=True)


@case("scale")
def _scale(draw, op, dtype):
    x, factor = integers(draw, draw(shapes), dtype), draw(st.sampled_from([0.125, -2.0, 0.0, 3.0]))
    y = np.empty(x.shape)
    for at in np.ndindex(x.shape):
        y[at] = factor * x[at]
    return Case([x], [(x.shape, dtype)], [y], {"factor": factor}, exact=True)


@case("scale_channels", "scale_channels_dgate")
def _scale_channels(draw, op, dtype):
    shape = tuple(draw(axis) for _ in range(4))
    n, c = shape[0], shape[3]
    x, gate, dy = (integers(draw, s, dtype) for s in (shape, (n, 1, 1, c), shape))
    if op == "scale_channels":
        y = np.empty(shape)
        for i, j, k, f in np.ndindex(shape):
            y[i, j, k, f] = x[i, j, k, f] * gate[i, 0, 0, f]
        return Case([x, gate], [(shape, dtype)], [y], exact=True)
    dgate = np.zeros((n, 1, 1, c))
    for i, j, k, f in np.ndindex(shape):
        dgate[i, 0, 0, f] += x[i, j, k, f] * dy[i, j, k, f]
    return Case([x, dy], [(dgate.shape, dtype)], [dgate], exact=True)


@case("concat")
def _concat(draw, op, dtype):
    front = draw(shapes)[:-1]
    parts = [integers(draw, (*front, draw(axis)), dtype) for _ in range(draw(st.integers(2, 4)))]
    y = [[value for part in parts for value in part[at]] for at in np.ndindex(front)]
    y = np.array(y).reshape(*front, -1)
    return Case(parts, [(y.shape, dtype)], [y], exact=True)


@case("slice_channels")
def _slice_channels(draw, op, dtype):
    x = integers(draw, draw(shapes), dtype)
    start = draw(st.integers(0, x.shape[-1] - 1))
    size = draw(st.integers(1, x.shape[-1] - start))
    y = np.array([list(x[at])[start : start + size] for at in np.ndindex(x.shape[:-1])])
    y = y.reshape(*x.shape[:-1], size)
    return Case([x], [(y.shape, dtype)], [y], {"start": start}, exact=True)


@case("shortcut_pad", "shortcut_pad_dx")
def _shortcut_pad(draw, op, dtype):
    n, h, w, c = shape = tuple(draw(axis) for _ in range(4))
    stride = _either(draw, 1, 3)
    out = (n, -(-h // stride[0]), -(-w // stride[1]), c + draw(st.integers(0, 3)))
    x, dy = integers(draw, shape, dtype), integers(draw, out, dtype)
    y, dx = np.zeros(out), np.zeros(shape)
    for i, j, k, f in np.ndindex(*out[:3], c):
        y[i, j, k, f] = x[i, j * stride[0], k * stride[1], f]
        dx[i, j * stride[0], k * stride[1], f] = dy[i, j, k, f]
    if op == "shortcut_pad":
        return Case([x], [(out, dtype)], [y], {"stride": stride}, exact=True)
    return Case([dy], [(shape, dtype)], [dx], {"stride": stride}, exact=True)


@case("channel_shuffle")
def _channel_shuffle(draw, op, dtype):
    groups, size = draw(axis), draw(axis)
    x = integers(draw, (draw(axis), draw(axis), 2, groups * size), dtype)
    y = np.empty(x.shape)
    for g, i in np.ndindex(groups, size):
        y[..., i * groups + g] = x[..., g * size + i]
    return Case([x], [(x.shape, dtype)], [y], {"groups": groups}, exact=True)


# Pooling.


@case("max_pool2d", "max_pool2d_dx")
def _max_pool(draw, op, dtype):
    size, win = draw(windows(pool=True))
    x = integers(draw, (draw(st.integers(1, 2)), *size, draw(st.integers(1, 3))), dtype, low=-2, high=2)
    y, winner = oracles.max_pool2d(x, win)
    if op == "max_pool2d":
        return Case([x], [(y.shape, dtype), (y.shape, "uint8")], [y, winner], {"window": win}, exact=True)
    dy = integers(draw, y.shape, dtype)
    dx = oracles.max_pool2d_dx(x, dy, win)
    return Case([winner.astype("uint8"), dy], [(x.shape, dtype)], [dx], {"window": win}, exact=True)


@case("average_pool2d", "average_pool2d_dx")
def _average_pool(draw, op, dtype):
    size, win = draw(windows(pool=True))
    x = integers(draw, (draw(st.integers(1, 2)), *size, draw(st.integers(1, 3))), dtype)
    attrs = {"window": win, "count_include_pad": draw(st.booleans())}
    y = oracles.average_pool2d(x, **attrs)
    if op == "average_pool2d":
        return Case([x], [(y.shape, dtype)], [y], attrs, scale=4)
    dy = integers(draw, y.shape, dtype)
    return Case([dy], [(x.shape, dtype)], [oracles.average_pool2d_dx(x, dy, **attrs)], attrs, scale=9)


# Element-wise functions.


def _attributes(draw, name):
    if name in ("leaky_relu", "elu"):
        return {"alpha": draw(st.sampled_from([0.01, 0.25, 1.0, 1.7]))}
    return {"approximate": draw(st.sampled_from(["none", "tanh"]))} if name == "gelu" else {}


_FUNCTIONS = [name for name in (*FROM_OUTPUT, *FROM_INPUT) if name != "softmax"]


@case(*_FUNCTIONS, *(f"{name}_dx" for name in _FUNCTIONS))
def _elementwise(draw, op, dtype):
    name = op.removesuffix("_dx")
    x, attrs = reals(draw, draw(shapes), dtype), _attributes(draw, name)
    if draw(st.booleans()):  # exactly at the kinks, and between them
        x = integers(draw, x.shape, dtype, -7, 8)
    y, slope = formulas.activation(name, x, attrs)
    if op == name:
        return Case([x], [(x.shape, dtype)], [y], attrs)
    dy = reals(draw, x.shape, dtype)
    kept = y.astype(dtype) if name in FROM_OUTPUT else x
    # 1 - y and 1 - y^2 keep only as many digits as y leaves them; the product has dy's size.
    return Case([kept, dy], [(x.shape, dtype)], [dy * slope], attrs, scale=float(abs(dy).max()) * 4)


@case("prelu", "prelu_dx", "prelu_dalpha")
def _prelu(draw, op, dtype):
    shape = draw(shapes)
    x, dy = integers(draw, shape, dtype), integers(draw, shape, dtype)
    alpha = integers(draw, shape[-1:], dtype) / np.asarray(4, dtype)  # quarters are exact, and may be below 0
    y, dx, dalpha = formulas.prelu(x, alpha, dy)
    if op == "prelu":
        return Case([x, alpha], [(shape, dtype)], [y], exact=True)
    if op == "prelu_dx":
        return Case([x, alpha, dy], [(shape, dtype)], [dx], exact=True)
    return Case([x, dy], [(alpha.shape, dtype)], [dalpha], exact=True)


@case("softmax", "softmax_dx")
def _softmax(draw, op, dtype):
    x = reals(draw, draw(shapes), dtype, draw(st.sampled_from([1.0, 100.0])))
    y = formulas.softmax(x)
    if op == "softmax":
        return Case([x], [(x.shape, dtype)], [y])
    dy, kept = reals(draw, x.shape, dtype), y.astype(dtype)
    dx = formulas.softmax_dx(kept.astype(np.float64), dy)
    return Case([kept, dy], [(x.shape, dtype)], [dx], scale=float(abs(dy).max()))


# Dropout.


@case("dropout", "dropout_dx")
def _dropout(draw, op, dtype):
    shape = draw(shapes)
    # Axes along which everything goes or stays together: none, as dropout has it, or any.
    whole = [draw(st.booleans()) for _ in shape[1:]] if draw(st.booleans()) else [False] * len(shape[1:])
    kept = (shape[0], *(1 if w else n for w, n in zip(whole, shape[1:], strict=True)))
    rate, seed = draw(st.sampled_from([0.01, 0.3, 0.5, 0.9])), draw(st.integers(0, 99))
    x = reals(draw, shape, dtype)
    if op == "dropout_dx":
        mask = integers(draw, kept, "bool", 0, 2)
        return Case([mask, x], [(shape, dtype)], [x * mask / (1 - rate)], {"rate": rate}, scale=20)
    step, first = draw(st.integers(0, 2**40)), draw(st.integers(0, 2**31))
    block, key = np.zeros(7), stream(seed, "dropout", "drop1")
    block[1:3] = step, first
    mask = np.zeros(kept, bool)
    for n in range(shape[0]):
        for e in range(prod(kept[1:])):
            word = philox((e // 4, first + n, step % 2**32, step >> 32), key)[e % 4]
            mask[n].reshape(-1)[e] = (word >> 8) * 2.0**-24 >= rate
    outs, y = [(shape, dtype), (kept, "bool")], x * mask / (1 - rate)
    return Case([x, block], outs, [y, mask], {"rate": rate, "key": key}, scale=20)


# Batch normalisation.


@case("fold_batch_norm")
def _fold_batch_norm(draw, op, dtype):
    shape = draw(shapes)
    w, c = reals(draw, shape, dtype), shape[-1:]
    gamma, beta, mean, b = (reals(draw, c, dtype) for _ in range(4))
    var = abs(reals(draw, c, dtype)) + np.asarray(0.1, dtype)
    attrs = {"epsilon": draw(st.sampled_from([1e-5, 1e-3, 0.1]))}
    biased = draw(st.booleans())
    before = [b] if biased else []
    scale = gamma.astype("float64") / np.sqrt(var.astype("float64") + attrs["epsilon"])
    shift = ((b if biased else 0) - mean.astype("float64")) * scale + beta
    outs = [(shape, dtype), (c, dtype)]
    return Case([w, gamma, beta, mean, var, *before], outs, [w * scale, shift], attrs, scale=100)


@case("batch_norm", "batch_norm_inference", "batch_norm_dparams", "batch_norm_dx")
def _batch_norm(draw, op, dtype):
    shape = draw(shapes)
    # An offset far from 0: E[x^2] - E[x]^2 would lose every digit of the variance here.
    x = reals(draw, shape, dtype) + np.asarray(draw(st.sampled_from([0, 0, 100])), dtype)
    gamma, beta = reals(draw, shape[-1:], dtype), reals(draw, shape[-1:], dtype)
    attrs = {"epsilon": draw(st.sampled_from([1e-5, 1e-3, 0.1]))}
    mean, var, unbiased = formulas.batch_statistics(x)
    # With all values of a channel nearly alike everything is divided by a rounding error.
    assume((var > 1e-2).all() or op == "batch_norm_inference")
    size = float(abs(gamma).max() + abs(beta).max()) * (1 + float(abs(x).max()) / 10)
    per_channel = [(shape[-1:], dtype)] * 3
    if op == "batch_norm":
        y = formulas.batch_norm(x, gamma, beta, mean, var, **attrs)
        scale = size * float(1 + abs(x).max())
        return Case([x, gamma, beta], [(shape, dtype), *per_channel], [y, mean, var, unbiased], attrs, scale=scale)
    if op == "batch_norm_inference":
        mean, var = reals(draw, shape[-1:], dtype), abs(reals(draw, shape[-1:], dtype)) + np.asarray(0.1, dtype)
        y = formulas.batch_norm(x, gamma, beta, mean, var, **attrs)
        return Case([x, gamma, beta, mean, var], [(shape, dtype)], [y], attrs, scale=size * 100)
    mean, var, dy = mean.astype(dtype), var.astype(dtype), reals(draw, shape, dtype)
    dx, dgamma, dbeta = formulas.batch_norm_backward(x, gamma, mean, var, dy, **attrs)
    scale = size * float(1 + abs(dy).sum()) * float(1 + abs(x).max())
    if op == "batch_norm_dparams":
        return Case([x, mean, var, dy], per_channel[:2], [dgamma, dbeta], attrs, scale=scale)
    sums = [dgamma.astype(dtype), dbeta.astype(dtype)]
    return Case([x, gamma, mean, var, *sums, dy], [(shape, dtype)], [dx], attrs, scale=scale)


@case("batch_norm_running")
def _running(draw, op, dtype):
    c, momentum = draw(axis), draw(st.sampled_from([0.0, 0.5, 0.9]))
    new, old = ([reals(draw, (c,), dtype) for _ in range(2)] for _ in range(2))
    expected = [
        [momentum * a + (1 - momentum) * b for a, b in zip(*both, strict=True)] for both in zip(old, new, strict=True)
    ]
    return Case(new, old, expected, {"momentum": momentum}, scale=20)


# What several processes make of each other's parts of a batch.


def _batch_of_each(draw) -> list[int]:
    """The samples of some processes: none of one that has none."""
    counts = draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))
    assume(any(counts))
    return counts


@case("gather_ranks")
def _gather_ranks(draw, op, dtype):
    x, vectors = reals(draw, draw(shapes), dtype), [reals(draw, (draw(axis),), dtype) for _ in range(draw(axis))]
    row = np.concatenate([[len(x)], *vectors]).astype(dtype)
    return Case([x, *vectors], [((1, len(row)), dtype)], [row[None]], exact=True)


@case("batch_norm_merge")
def _batch_norm_merge(draw, op, dtype):
    counts, c, per_sample = _batch_of_each(draw), draw(axis), draw(axis)
    x = [reals(draw, (n, per_sample, c), dtype) + np.asarray(draw(st.sampled_from([0, 100])), dtype) for n in counts]
    gathered = np.zeros((len(counts), 1 + 2 * c), dtype)
    for row, part in zip(gathered, x, strict=True):
        if len(part):
            row[0], (row[1 : 1 + c], row[1 + c :], _) = len(part), formulas.batch_statistics(part)
    expected = formulas.batch_statistics(np.concatenate(x))
    scale = max(float(abs(part).max(initial=1)) for part in x)
    return Case([gathered], [((c,), dtype)] * 3, [*expected], {"per_sample": per_sample}, scale=scale**2)


@case("batch_norm_parts")
def _batch_norm_parts(draw, op, dtype):
    counts, c = _batch_of_each(draw), draw(axis)
    x, sums = reals(draw, (max(1, counts[0]), c), dtype), reals(draw, (len(counts), 2 * c), dtype)
    gathered = np.concatenate([np.array(counts, dtype)[:, None], sums], axis=1)
    total = [math.fsum(map(float, column)) * len(x) / sum(counts) for column in sums.T]
    return Case([x, gathered], [((c,), dtype)] * 2, [total[:c], total[c:]], scale=100)


@case("label_weights")
def _label_weights(draw, op, dtype):
    shape = draw(shapes)
    labels = _generator(draw).integers(-1, shape[-1], shape[:-1])
    weights = tuple(float(w) for w in _generator(draw).integers(0, 4, shape[-1]))
    total = math.fsum(weights[label] for label in labels.reshape(-1) if label >= 0)
    if draw(st.booleans()):  # mixed of two
        labels = np.empty((shape[0], 3), dtype)
        labels[:, :2] = _generator(draw).integers(0, shape[-1], (shape[0], 2))
        labels[:, 2] = _generator(draw).integers(0, 9, shape[0]) / 8
        total = _mixed_weight(labels, weights)
    return Case([labels], [((1,), dtype)], [[total]], {"weights": weights}, exact=True)


# Normalisation within a sample.


@case(*(f"{norm}{end}" for norm in ("group_norm", "layer_norm") for end in ("", "_dx", "_dgamma")))
def _sample_norm(draw, op, dtype):
    shape = draw(shapes)
    groups = draw(st.sampled_from([g for g in range(1, shape[-1] + 1) if shape[-1] % g == 0]))
    n, c = shape[0], shape[-1]
    x = reals(draw, shape, dtype) + np.asarray(draw(st.sampled_from([0, 0, 100])), dtype)
    gamma, beta, dy = reals(draw, (c,), dtype), reals(draw, (c,), dtype), reals(draw, shape, dtype)
    epsilon = draw(st.sampled_from([1e-2, 0.1]))  # parts of one element are divided by its root
    if op.startswith("group"):
        part = np.arange(n).reshape(n, *[1] * (len(shape) - 1)) * groups + np.arange(c) // (c // groups)
        kept, attrs = (n, groups), {"groups": groups}
    else:
        part, kept, attrs = np.arange(prod(shape[:-1])).reshape(*shape[:-1], 1), shape[:-1], {}
    part = np.broadcast_to(part, shape)
    h, mean, inverse = formulas.normalised(x, part, epsilon)
    scale = 30 * float(1 + abs(x).max()) * float(1 + abs(gamma).max()) * float(1 + abs(dy).sum() + abs(beta).max())
    if op in ("group_norm", "layer_norm"):
        outs, expected = [(shape, dtype), (kept, dtype), (kept, dtype)], [mean.reshape(kept), inverse.reshape(kept)]
        y = gamma * h + beta
        return Case([x, gamma, beta], outs, [y, *expected], attrs | {"epsilon": epsilon}, scale=scale)
    statistics = [s.reshape(kept).astype(dtype) for s in (mean, inverse)]
    if op.endswith("dgamma"):
        dgamma = (dy * h).reshape(-1, c).sum(axis=0)
        return Case([x, *statistics, dy], [((c,), dtype)], [dgamma], attrs, scale=scale)
    dx = formulas.normalised_backward(h, part, inverse, np.float64(dy) * gamma)
    return Case([x, gamma, *statistics, dy], [(shape, dtype)], [dx], attrs, scale=scale * float(abs(x).max() + 1))


@case("lrn", "lrn_dx")
def _lrn(draw, op, dtype):
    shape = draw(shapes)
    x, dy = reals(draw, shape, dtype), reals(draw, shape, dtype)
    attrs = {"size": draw(st.integers(1, 7)), "alpha": draw(st.sampled_from([1e-4, 0.5])), "beta": 0.75}
    k = draw(st.sampled_from([1.0, 2.0]))
    y, base, dx = formulas.lrn(x, dy, **attrs, k=k)
    scale = float(1 + abs(x).max()) ** 2
    if op == "lrn":
        return Case([x], [(shape, dtype)] * 2, [y, base], attrs | {"k": k}, scale=scale)
    return Case([x, base.astype(dtype), dy], [(shape, dtype)], [dx], attrs, scale=scale * float(1 + abs(dy).sum()))


# Losses.


@case(*formulas.LOSSES, *(f"{op}_dz" for op in formulas.LOSSES))
def _loss(draw, op, dtype):
    name = op.removesuffix("_dz")
    shape = draw(shapes)
    z = reals(draw, shape, dtype, draw(st.sampled_from([1.0, 30.0])))
    if name == "softmax_cross_entropy":
        labels = _generator(draw).integers(0, shape[-1], shape[:-1])
        if draw(st.booleans()):  # ties: the first of equal scores is the answer
            z = np.sign(z)
    else:
        labels = reals(draw, shape, dtype) if name == "mse" else integers(draw, shape, dtype, 0, 2)
    loss, hits, dz = formulas.LOSSES[name](z.astype(np.float64), labels)
    scale = float(1 + abs(z).max()) ** (2 if name == "mse" else 1)
    if op == name:
        return Case([z, labels], [(loss.shape, dtype)] * 2, [loss, hits], scale=scale)
    return Case([z, labels], [(shape, dtype)], [dz], scale=scale)


@case("class_targets")
def _class_targets(draw, op, dtype):
    shape = draw(shapes)
    labels = _generator(draw).integers(-1, shape[-1], shape[:-1])  # -1 is no class
    weights = tuple(float(w) for w in _generator(draw).integers(0, 4, shape[-1])) if draw(st.booleans()) else ()
    attrs = {"smoothing": draw(st.sampled_from([0.0, 0.1, 0.75])), "weights": weights}
    if weights and draw(st.booleans()):  # the labels of another process count too
        others = _generator(draw).integers(-1, shape[-1], (draw(axis), *shape[1:-1]))
        everything = np.concatenate([labels, others])
        sums = [sum(weights[label] for label in part.reshape(-1) if label >= 0) for part in (labels, others)]
        gathered = np.array([[len(labels), sums[0]], [len(others), sums[1]]], dtype)
        q = formulas.class_targets(everything, shape[-1], **attrs)[: len(labels)]
        return Case([labels, gathered], [(shape, dtype)], [q], attrs, scale=10)
    return Case([labels], [(shape, dtype)], [formulas.class_targets(labels, shape[-1], **attrs)], attrs, scale=10)


def _mixed_weight(labels, weights) -> float:
    return math.fsum(weights[int(a)] * share + weights[int(b)] * (1 - share) for a, b, share in labels.tolist())


@case("mixed_targets")
def _mixed_targets(draw, op, dtype):
    n, classes = draw(st.integers(1, 5)), draw(st.integers(2, 19))
    labels = np.empty((n, 3), dtype)
    labels[:, :2] = _generator(draw).integers(0, classes, (n, 2))
    labels[:, 2] = _generator(draw).integers(0, 9, n) / 8  # halves too: the first of equal shares is the answer
    weights = tuple(float(w) for w in _generator(draw).integers(0, 4, classes)) if draw(st.booleans()) else ()
    attrs = {"smoothing": draw(st.sampled_from([0.0, 0.1, 0.75])), "weights": weights}
    ins = [labels]
    if weights and draw(st.booleans()):  # the labels of another process count too
        others = labels[::-1] if draw(st.booleans()) else labels[:1]
        sums = [_mixed_weight(part, weights) for part in (labels, others)]
        ins.append(np.array([[len(labels), sums[0]], [len(others), sums[1]]], dtype))
        q, best = (a[: len(labels)] for a in formulas.mixed_targets(np.concatenate([labels, others]), classes, **attrs))
    else:
        q, best = formulas.mixed_targets(labels, classes, **attrs)
    return Case(ins, [(q.shape, dtype), (best.shape, "int64")], [q, best], attrs, scale=10)


@case("soft_cross_entropy", "soft_cross_entropy_dz")
def _soft_cross_entropy(draw, op, dtype):
    shape = draw(shapes)
    z = reals(draw, shape, dtype, draw(st.sampled_from([1.0, 30.0])))
    q, labels = abs(reals(draw, shape, dtype)), _generator(draw).integers(0, shape[-1], shape[:-1])
    if draw(st.booleans()):  # ties: the first of equal scores is the answer
        z = np.sign(z)
    loss, hits, dz = formulas.soft_cross_entropy(z.astype(np.float64), q, labels)
    scale = float(1 + abs(z).max()) * float(1 + q.sum())
    if op == "soft_cross_entropy":
        return Case([z, q, labels], [(loss.shape, dtype)] * 2, [loss, hits], scale=scale)
    return Case([z, q], [(shape, dtype)], [dz], scale=scale)


@case("weighted_sigmoid_cross_entropy", "weighted_sigmoid_cross_entropy_dz")
def _weighted_sigmoid_cross_entropy(draw, op, dtype):
    shape = draw(shapes)
    z, t = reals(draw, shape, dtype, draw(st.sampled_from([1.0, 30.0]))), integers(draw, shape, dtype, 0, 2)
    attrs = {"smoothing": draw(st.sampled_from([0.0, 0.2])), "pos_weight": draw(st.sampled_from([0.5, 1.0, 7.0]))}
    loss, hits, dz = formulas.weighted_sigmoid_cross_entropy(z.astype(np.float64), t, **attrs)
    scale = 8 * float(1 + abs(z).max())
    if op.endswith("_dz"):
        return Case([z, t], [(shape, dtype)], [dz], attrs, scale=scale)
    return Case([z, t], [(loss.shape, dtype)] * 2, [loss, hits], attrs, scale=scale)


# What cuts gradients off.


@case("clip_norm", "clip_value")
def _clip(draw, op, dtype):
    size, n, most = draw(st.integers(1, 40)), draw(st.integers(1, 64)), draw(st.sampled_from([0.01, 0.5, 100.0]))
    sums = reals(draw, (size,), dtype)
    block = np.array([1, 0, 0, 0.1, 1 / n, 0, 0, 0])
    means = sums.astype(np.float64) / n
    if op == "clip_value":
        return Case([sums, block], [0], [means.clip(-most, most) * n], {"most": most}, scale=100)
    length = np.sqrt((means**2).sum())
    return Case(
        [sums, block], [0, ((1,), dtype)], [means * n * min(1, most / (length + 1e-6)), np.array([length])],
        {"most": most}, scale=100,
    )  # fmt: skip


@case("average")
def _average(draw, op, dtype):
    mean, params = (reals(draw, (draw(st.integers(1, 40)),), dtype) for _ in range(2))
    params, keep = np.resize(params, mean.shape), draw(st.sampled_from([0.0, 0.5, 0.999]))
    block = np.zeros(len(STEP_FIELDS))
    block[STEP_FIELDS.index("keep")] = keep
    return Case([mean, params, block], [0], [keep * mean + (1 - keep) * params], scale=10)


@case("gather", "take")
def _gather(draw, op, dtype):
    grads, gathered = (reals(draw, (draw(st.integers(1, 40)),), dtype) for _ in range(2))
    gathered = np.resize(gathered, grads.shape)
    if op == "gather":
        return Case([grads, gathered], [1], [grads + gathered], {})
    return Case([gathered], [(grads.shape, dtype), 0], [gathered.copy(), np.zeros_like(gathered)], {})


# Precision.


@case("cast")
def _cast(draw, op, dtype):
    """float32 to a type of 2 bytes and back, what is too large, too small or halfway for it included; else a copy."""
    pairs = [("float32", half) for half in ("float16", "bfloat16")] if dtype == "float32" else []
    source, target = draw(st.sampled_from([(dtype, dtype), *pairs, *((half, full) for full, half in pairs)]))
    rng, size = _generator(draw), draw(st.integers(1, 40))
    x = rng.normal(size=size) * 2.0 ** rng.integers(-30, 20, size)
    x = np.where(rng.random(size) < 0.3, formulas.rounded(x, "float16") * (1 + 2.0**-11), x)
    x = np.where(rng.random(size) < 0.1, rng.choice([0.0, -0.0, np.inf, -np.inf, 65520, 65519.9], size), x)
    x = formulas.rounded(x, source).astype(source)
    return Case([x], [((size,), target)], [formulas.rounded(x.astype(np.float64), target)], exact=True)


@case("scale_loss")
def _scale_loss(draw, op, dtype):
    dz, scale = reals(draw, draw(shapes), dtype), 2.0 ** draw(st.integers(-20, 20))
    device = np.zeros(len(DEVICE_FIELDS))
    device[0] = scale
    return Case([dz, device], [(dz.shape, dtype)], [dz * scale], exact=True)


@case("guard")
def _guard(draw, op, dtype):
    sums = reals(draw, (draw(st.integers(1, 40)),), dtype)
    if draw(st.booleans()):
        sums[draw(st.integers(0, len(sums) - 1))] = draw(st.sampled_from([np.inf, -np.inf, np.nan]))
    before = formulas.Scaling(
        2.0 ** draw(st.sampled_from([-100, -3, 16, 100])), draw(st.sampled_from([0, 7, 1998, 1999])),
        draw(st.booleans()), draw(st.sampled_from([0, 0, 3])),
    )  # fmt: skip
    after = before.after(bool(np.isfinite(sums).all()))
    rest = [0.25, 7.0]  # the sums of losses and hits, which are nobody's business here
    devices = [np.array([s.scale, s.since, s.skip, s.stopped, *rest]) for s in (before, after)]
    return Case([sums, devices[0]], [0, 1], [sums / before.scale, devices[1]], exact=True)


@case("tally")
def _tally(draw, op, dtype):
    n, step, before = draw(st.integers(1, 700)), draw(st.integers(0, 9)), draw(st.sampled_from([0, 0, 3]))
    loss, hits = abs(reals(draw, (n,), dtype)), integers(draw, (n,), dtype, 0, 2)
    if draw(st.booleans()):
        loss[draw(st.integers(0, n - 1))] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    block, kept = np.zeros(len(STEP_FIELDS)), np.zeros(len(DEVICE_FIELDS))
    block[STEP_FIELDS.index("step")] = step
    kept[DEVICE_FIELDS.index("stopped")] = before
    kept[[DEVICE_FIELDS.index(name) for name in ("scale", "since", "loss", "hits")]] = 8, 2, 0.5, 7
    expected = kept.copy()
    stopped = before or (step if not np.isfinite(loss).all() else 0)
    expected[DEVICE_FIELDS.index("stopped")] = stopped
    if stopped:
        expected[DEVICE_FIELDS.index("skip")] = 1
    else:
        expected[DEVICE_FIELDS.index("loss")] += math.fsum(loss) if np.isfinite(loss).all() else loss.sum()
        expected[DEVICE_FIELDS.index("hits")] += hits.sum()
    return Case([loss, hits, block, kept], [3], [expected], scale=1e4)


# Optimizers.

_MOMENTS = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
_OPTIMIZERS = {
    "sgd": (
        {"momentum": 0.0, "nesterov": False},
        {"momentum": 0.9, "nesterov": False},
        {"momentum": 0.8, "nesterov": True},
    ),
    "rmsprop": ({"alpha": 0.99, "epsilon": 1e-8, "momentum": 0.0}, {"alpha": 0.9, "epsilon": 1e-3, "momentum": 0.9}),
    "adam": (_MOMENTS, {"beta1": 0.5, "beta2": 0.9, "epsilon": 1e-3}),
    "adamw": (_MOMENTS,),
}


@case(*_OPTIMIZERS)
def _optimizer(draw, op, dtype):
    attrs = dict(draw(st.sampled_from(_OPTIMIZERS[op])), weight_decay=draw(st.sampled_from([0.0, 0.01, 0.3])))
    attrs |= draw(st.sampled_from([{}, {"rate": 0.25}, {"rate": 3.0}]))
    slots = {"sgd": int(attrs.get("momentum", 0) > 0), "rmsprop": 1 + (attrs.get("momentum", 0) > 0)}.get(op, 2)
    # A size on either side of the piece that kernels work on at a time is tried in tests/optim.
    size, step, n = draw(st.integers(1, 12)), draw(st.integers(1, 1000)), draw(st.integers(1, 64))
    lr = draw(st.sampled_from([0.1, 1e-3]))
    params, sums = reals(draw, (size,), dtype), reals(draw, (size,), dtype)
    state = [abs(reals(draw, (size,), dtype)) for _ in range(slots)]
    corrections = (1 - attrs["beta1"] ** step, 1 - attrs["beta2"] ** step) if "beta1" in attrs else (0.0, 0.0)
    block = np.array([step, 0, 0, lr, 1 / n, *corrections, 0])
    expected = np.empty((1 + slots, size))
    for i in range(size):
        one = formulas.Scalar(op, float(params[i]), [float(s[i]) for s in state], attrs)
        one.update(float(sums[i]) / n, lr, step)
        expected[:, i] = one.p, *one.slots
    outs = [0, *range(3, 3 + slots)]
    return Case([params, sums, block, *state], outs, list(expected), attrs, scale=100)


def _of_tensors(draw, sizes, slots, dtype):
    """(params, sums, slots, step, samples, lr): tensors side by side."""
    total = sum(sizes)
    params, sums, *state = (reals(draw, (total,), dtype) for _ in range(2 + slots))
    step, n = draw(st.integers(1, 1000)), draw(st.integers(1, 64))
    return params, sums, state, step, n, draw(st.sampled_from([0.1, 1e-3]))


@case("lamb")
def _lamb(draw, op, dtype):
    attrs = dict(_MOMENTS, epsilon=1e-6, weight_decay=draw(st.sampled_from([0.0, 0.01, 0.3])))
    attrs |= draw(st.sampled_from([{}, {"rate": 0.25}, {"rate": 3.0}]))
    sizes = tuple(draw(st.lists(st.integers(1, 12), min_size=1, max_size=4)))
    params, sums, (mean, square), step, n, lr = _of_tensors(draw, sizes, 2, dtype)
    if draw(st.booleans()):
        params[: sizes[0]] = 0
    square = abs(square)
    block = np.array([step, 0, 0, lr, 1 / n, 1 - attrs["beta1"] ** step, 1 - attrs["beta2"] ** step, 0])
    ends = np.cumsum(sizes)[:-1]
    tensors = zip(*(np.split(a, ends) for a in (params, sums.astype("float64") / n, mean, square)), strict=True)
    done = [formulas.lamb(p, g, slots, attrs, lr, step) for p, g, *slots in tensors]
    expected = [np.concatenate(parts) for parts in zip(*done, strict=True)]
    return Case([params, sums, block, mean, square], [0, 3, 4], expected, attrs | {"sizes": sizes}, scale=100)


@case("muon")
def _muon(draw, op, dtype):
    attrs = {
        "momentum": draw(st.sampled_from([0.0, 0.6, 0.95])), "nesterov": draw(st.booleans()),
        "coefficients": draw(st.sampled_from([(3.4445, -4.775, 2.0315), (2.0, -1.5, 0.5)])),
        "steps": draw(st.integers(1, 5)), "epsilon": 1e-7, "weight_decay": draw(st.sampled_from([0.0, 0.1])),
    }  # fmt: skip
    attrs |= draw(st.sampled_from([{}, {"rate": 0.25}, {"rate": 3.0}]))
    matrices = tuple(draw(st.lists(st.tuples(st.integers(1, 7), st.integers(1, 7)), min_size=1, max_size=3)))
    factors = tuple(draw(st.sampled_from([1.0, 1.5])) for _ in matrices)
    params, sums, (mean,), step, n, lr = _of_tensors(draw, [h * w for h, w in matrices], 1, dtype)
    if draw(st.booleans()):  # nothing to do: no length to divide by
        sums[: matrices[0][0] * matrices[0][1]] = mean[: matrices[0][0] * matrices[0][1]] = 0
    ends = np.cumsum([h * w for h, w in matrices])[:-1]
    each = zip(matrices, factors, *(np.split(a.astype("float64"), ends) for a in (params, sums, mean)), strict=True)
    done = [
        formulas.muon(p.reshape(shape), g.reshape(shape) / n, m.reshape(shape), attrs, factor, lr)
        for shape, factor, p, g, m in each
    ]
    expected = [np.concatenate([part.reshape(-1) for part in parts]) for parts in zip(*done, strict=True)]
    attrs |= {"matrices": matrices, "factors": factors}
    return Case([params, sums, np.array([step, 0, 0, lr, 1 / n, 0, 0, 0]), mean], [0, 3], expected, attrs, scale=100)
