"""Convolutions whose lanes are samples, with what is fused into them, against the numpy backend's parts one by one."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cnnforge.backends.numba.backend import NumbaBackend
from cnnforge.backends.numba.capabilities import RULES, fuses
from cnnforge.backends.numba.rules.samples import MASKED, POOLED, UNPOOLED
from cnnforge.errors import ShapeError
from cnnforge.shapes import window
from tests import one_node

few = settings(max_examples=25)
#: (N, H, W, C), F, kernel, stride, padding
SHAPES = {
    "lenet, first": ((64, 32, 32, 3), 6, (5, 5), (1, 1), "valid"),
    "lenet, second, a group not full": ((37, 14, 14, 6), 16, (5, 5), (1, 1), "valid"),
    "odd rows and columns": ((17, 9, 12, 2), 7, (3, 2), (1, 1), (1, 0, 0, 1)),
    "strided": ((20, 16, 13, 3), 9, (3, 3), (2, 2), (1, 1, 1, 1)),
}


def _node(shape, f, kernel, stride, padding, integers=False):
    win = window(shape[1:3], kernel, stride, padding)
    rng = np.random.default_rng(0)

    def drawn(*size):
        values = rng.integers(-2, 3, size) if integers else rng.normal(size=size)
        return values.astype(np.float32)

    return win, drawn(*shape), drawn(*kernel, shape[3], f), drawn(f), drawn


def _pool(win):
    return window(win.out, (2, 2), (2, 2), "valid")


def _forward(x, w, b, win, op):
    """The parts of ``op`` one by one."""
    conv = {"window": win, "groups": 1, "flip": False}
    (y,) = one_node.run("conv2d", [x, w], [((len(x), *win.out, w.shape[3]), "float32")], conv)
    pooled = (len(x), *_pool(win).out, w.shape[3])
    y, winner = one_node.run("max_pool2d", [y], [(pooled, "float32"), (pooled, "uint8")], {"window": _pool(win)})
    if "bias" in op:
        y = y + b
    return (np.maximum(y, 0) if "relu" in op else y), winner


def _parts(op, win, b=True):
    own = {"conv2d": {"window": win, "groups": 1, "flip": False}, "max_pool2d": {"window": _pool(win)}}
    taken = {"conv2d": 2, "max_pool2d": 0, "bias": 1, "relu": 0}
    return {"parts": tuple((part, taken[part], own.get(part, {})) for part in op.split("+"))}


@pytest.mark.parametrize("integers", [True, False], ids=["ties", "normal"])
@pytest.mark.parametrize("op", POOLED)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_fused_pool_gives_what_the_parts_give(shape, op, integers):
    win, x, w, b, _ = _node(*shape, integers=integers)
    expected, places = _forward(x, w, b, win, op)
    ins = [x, w, b] if "bias" in op else [x, w]
    outs = [(expected.shape, "float32"), (expected.shape, "uint8")]
    y, winner = one_node.run(op, ins, outs, _parts(op, win), "numba")
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5 * abs(expected).max())
    if integers and "relu" not in op:
        np.testing.assert_array_equal(winner, places)


@pytest.mark.parametrize("op", UNPOOLED)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_fused_way_back_gives_what_the_parts_give(shape, op):
    win, x, w, _, drawn = _node(*shape)
    pooled = (len(x), *_pool(win).out, w.shape[3])
    winner, dy = np.random.default_rng(1).integers(0, 4, pooled).astype(np.uint8), drawn(*pooled)
    conv, pool = {"window": win, "groups": 1, "flip": False}, {"window": _pool(win)}
    (dz,) = one_node.run("max_pool2d_dx", [winner, dy], [((len(x), *win.out, w.shape[3]), "float32")], pool)
    parts = [("max_pool2d_dx", 2, pool), ("conv2d_dw", 1, conv)]
    expected = one_node.run("conv2d_dw", [x, dz], [(w.shape, "float32")], conv)
    ins = [winner, dy, x]
    if op.endswith("dx"):
        parts.append(("conv2d_dx", 1, conv))
        ins.append(w)
        expected += one_node.run("conv2d_dx", [dz, w], [(x.shape, "float32")], conv)
    found = one_node.run(op, ins, [(e.shape, "float32") for e in expected], {"parts": tuple(parts)}, "numba")
    for got, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5 * abs(wanted).max())


def _masked(shape, op):
    """ins, outs and attrs of a rectifier's way back and all gradients before it, and what the parts give."""
    win, x, w, _, drawn = _node(*shape)
    y, dy = (drawn(len(x), *win.out, w.shape[3]) for _ in range(2))
    y[0, 0, 0, :2] = 0, np.nan
    conv = {"window": win, "groups": 1, "flip": False}
    (dz,) = one_node.run("relu_dx", [y, dy], [(y.shape, "float32")], {})
    expected = one_node.run("bias_db", [dz], [(w.shape[3:], "float32")], {})
    expected += one_node.run("conv2d_dw", [x, dz], [(w.shape, "float32")], conv)
    ins, parts = [y, dy, x], [("relu_dx", 2, {}), ("bias_db", 0, {}), ("conv2d_dw", 1, conv)]
    if op.endswith("dx"):
        expected += one_node.run("conv2d_dx", [dz, w], [(x.shape, "float32")], conv)
        ins.append(w)
        parts.append(("conv2d_dx", 1, conv))
    return ins, [(e.shape, "float32") for e in expected], {"parts": tuple(parts)}, expected


@pytest.mark.parametrize("op", MASKED)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_what_a_rectifier_lets_through_goes_into_all_gradients(shape, op):
    ins, outs, attrs, expected = _masked(shape, op)
    for found, wanted in zip(one_node.run(op, ins, outs, attrs, "numba"), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * abs(wanted).max())


@pytest.mark.parametrize(
    ("name", "fused"), [("lenet, first", True), ("lenet, second, a group not full", False), ("strided", True)]
)
def test_gradients_go_this_way_together_where_each_would_alone(name, fused):
    # 16 filters fill a vector, so that one gradient would go another way.
    ins, outs, attrs, _ = _masked(SHAPES[name], MASKED[1])
    assert fuses(MASKED[1], tuple(ins), tuple(np.empty(*out) for out in outs), attrs) == fused


@pytest.mark.parametrize("op", ["conv2d", "conv2d_dx", "conv2d_dw"])
@few
@given(data=st.data())
def test_integers_come_out_to_the_bit(op, data):
    n, c, f = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 7)), data.draw(st.integers(1, 30))
    size, kernel, stride = (data.draw(st.tuples(st.integers(1, m), st.integers(1, m))) for m in (11, 4, 3))
    padding = data.draw(st.sampled_from(["valid", "same", (2, 0, 1, 3)]))
    try:
        win = window(size, kernel, stride, padding)
    except ShapeError:
        assume(False)
    _, x, w, _, drawn = _node((n, *size, c), f, kernel, stride, padding, integers=True)
    dy = drawn(n, *win.out, f)
    ins, out = {"conv2d": ([x, w], dy), "conv2d_dx": ([dy, w], x), "conv2d_dw": ([x, dy], w)}[op]
    attrs = {"window": win, "groups": 1, "flip": False}
    (expected,) = one_node.run(op, ins, [(out.shape, "float32")], attrs)
    (found,) = one_node.run(op, ins, [(out.shape, "float32")], attrs, "numba", way="samples")
    np.testing.assert_array_equal(found, expected)


def test_the_number_of_threads_changes_no_bit(monkeypatch):
    win, x, w, _, drawn = _node(*SHAPES["lenet, second, a group not full"])
    dy, found = drawn(len(x), *win.out, 16), []
    for threads in (1, 2):
        monkeypatch.setattr(one_node, "_device", lambda name, threads=threads: NumbaBackend(threads))
        attrs = {"window": win, "groups": 1, "flip": False}
        found.append(one_node.run("conv2d_dw", [x, dy], [(w.shape, "float32")], attrs, way="samples"))
        masked = _masked(SHAPES["strided"], MASKED[1])
        found[-1] += one_node.run(MASKED[1], *masked[:3])
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


def test_what_is_not_a_number_is_seen_behind_the_pool():
    win, x, w, b, _ = _node(*SHAPES["lenet, first"])
    for place in ((0, 4, 4, 0), (5, 9, 8, 2)):
        x[place] = np.nan
    op = "conv2d+max_pool2d+bias+relu"
    shape = (len(x), *_pool(win).out, 6)
    y, _ = one_node.run(op, [x, w, b], [(shape, "float32"), (shape, "uint8")], _parts(op, win), "numba")
    expected, _ = _forward(x, w, b, win, op)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))


@pytest.mark.parametrize(
    ("n", "c", "pool", "fused"),
    [(64, 3, (2, 2), True), (4, 3, (2, 2), False), (64, 16, (2, 2), False), (64, 3, (3, 2), False)],
)
def test_where_it_is_the_better_way(n, c, pool, fused):
    win = window((12, 12), (3, 3), (1, 1), "valid")
    x, w = np.empty((n, 12, 12, c), np.float32), np.empty((3, 3, c, 16), np.float32)
    own = window(win.out, pool, (2, 2), "valid")
    y = np.empty((n, *own.out, 16), np.float32)
    op = "conv2d+max_pool2d"
    parts = _parts(op, win)["parts"]
    attrs = {"parts": (parts[0], ("max_pool2d", 0, {"window": own}))}
    assert op in RULES
    assert fuses(op, (x, w), (y, y), attrs) == fused
