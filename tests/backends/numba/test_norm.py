"""Norms over the batch at sizes with many pieces, shards and edges, and their chains, against the numpy backend."""

import numpy as np
import pytest

from cnnforge.backends.numba.backend import NumbaBackend
from cnnforge.backends.numba.capabilities import ways
from cnnforge.plan.capabilities import HOST
from cnnforge.shapes import window
from tests import one_node

#: (N, H, W, C): of few channels rows hold several positions; of many a shard is a few rows only.
SHAPES = {
    "one channel": (3, 37, 29, 1),
    "six channels": (9, 28, 27, 6),
    "ten channels, one sample": (1, 33, 31, 10),
    "sixteen": (33, 16, 16, 16),
    "whole vectors": (8, 33, 32, 64),
    "a vector and a part": (5, 20, 21, 23),
    "many channels, few positions": (7, 2, 3, 520),
    "more channels than a piece": (2, 3, 3, 4200),
}
EPSILON = {"epsilon": 1e-3}
#: Of sums in another order, and of a mean far from 0.
TOLERANCE = 3e-5


def arrays(shape, seed=0):
    """x, far from 0; and everything else that a norm's nodes read."""
    rng = np.random.default_rng(seed)
    x, dy, other = (rng.normal(size=shape).astype(np.float32) for _ in range(3))
    c = shape[-1]
    gamma, beta = rng.normal(size=(2, c)).astype(np.float32)
    x = x * rng.uniform(0.5, 2, c).astype(np.float32) + rng.uniform(-10, 10, c).astype(np.float32)
    mean, var = x.reshape(-1, c).mean(axis=0), x.reshape(-1, c).var(axis=0)
    return x, dy, other, gamma, beta, mean, var


def run(op, ins, outs, attrs, backend="numba"):
    outs = [out if isinstance(out, int) else (out, "float32") for out in outs]
    return one_node.run(op, ins, outs, attrs, backend)


def close(found, expected, scale=1.0):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE * scale * float(1 + abs(b).max()))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
class TestAgainstNumpy:
    def test_forward(self, shape):
        x, _, _, gamma, beta, mean, var = arrays(shape)
        outs = [shape, *[(shape[-1],)] * 3]
        close(*(run("batch_norm", [x, gamma, beta], outs, EPSILON, b) for b in ("numba", "numpy")), scale=10)
        ins = [x, gamma, beta, mean, var]
        close(*(run("batch_norm_inference", ins, [shape], EPSILON, b) for b in ("numba", "numpy")), scale=10)

    def test_backward(self, shape):
        x, dy, _, gamma, _, mean, var = arrays(shape)
        per_channel = [(shape[-1],)] * 2
        sums, expected = (
            run("batch_norm_dparams", [x, mean, var, dy], per_channel, EPSILON, b) for b in ("numba", "numpy")
        )
        close(sums, expected, scale=10)
        ins = [x, gamma, mean, var, *expected, dy]
        close(*(run("batch_norm_dx", ins, [shape], EPSILON, b) for b in ("numba", "numpy")), scale=10)

    def test_a_constant_has_no_variance(self, shape):
        x, _, _, gamma, beta, _, _ = arrays(shape)
        y, mean, var, unbiased = run(
            "batch_norm", [np.full_like(x, 3), gamma, beta], [shape, *[(shape[-1],)] * 3], EPSILON
        )
        np.testing.assert_allclose(mean, 3, rtol=1e-6)
        assert max(var.max(), unbiased.max()) < 1e-12
        np.testing.assert_allclose(y, np.broadcast_to(beta, shape), atol=1e-4)


# Chains: what each part gives by itself on the numpy backend.


def activated(name, y):
    """An activation on the numpy backend; "" is none."""
    return run(name, [y], [y.shape], {}, "numpy")[0] if name else y


NORMS = ["batch_norm", "batch_norm_inference"]


def forward_case(norm, shape):
    """ins, y of the norm alone, and the further outputs."""
    x, _, other, gamma, beta, mean, var = arrays(shape)
    if norm == "batch_norm":
        ins = [x, gamma, beta]
        y, *statistics = run(norm, ins, [shape, *[(shape[-1],)] * 3], EPSILON, "numpy")
        return ins, y, statistics, other
    ins = [x, gamma, beta, mean, var]
    return ins, run(norm, ins, [shape], EPSILON, "numpy")[0], [], other


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("norm", NORMS)
class TestForwardChains:
    @pytest.mark.parametrize("function", ["relu", "relu6"])
    def test_an_activation(self, norm, shape, function):
        ins, y, statistics, _ = forward_case(norm, shape)
        parts = ((norm, len(ins), EPSILON), (function, 0, {}))
        found = run(f"{norm}+{function}", ins, [shape, *(s.shape for s in statistics)], {"parts": parts})
        close(found, [activated(function, y), *statistics], scale=10)

    @pytest.mark.parametrize("function", ["", "relu"])
    def test_an_addition(self, norm, shape, function):
        ins, y, statistics, other = forward_case(norm, shape)
        parts = ((norm, len(ins), EPSILON), ("add", 1, {}), *([(function, 0, {})] if function else []))
        op = "+".join(name for name, _, _ in parts)
        outs = [s.shape for s in statistics]
        found = run(op, [*ins, other], [shape, *outs], {"parts": parts})
        close(found, [activated(function, y + other), *statistics], scale=10)
        over = run(op, [*ins, other], [len(ins), *outs], {"parts": parts})
        for a, b in zip(found, over, strict=True):
            np.testing.assert_array_equal(a, b)


HALVES = {name: shape for name, shape in SHAPES.items() if min(shape[1:3]) > 1}


def pooled_case(shape):
    win = window(shape[1:3], (2, 2), (2, 2), "valid")
    return win, (shape[0], *win.out, shape[-1])


@pytest.mark.parametrize("shape", HALVES.values(), ids=HALVES)
class TestPooledChains:
    @pytest.mark.parametrize("function", ["", "relu", "relu6"])
    @pytest.mark.parametrize("norm", NORMS)
    def test_forward(self, norm, shape, function):
        ins, y, statistics, _ = forward_case(norm, shape)
        win, pooled = pooled_case(shape)
        parts = (
            (norm, len(ins), EPSILON),
            ("max_pool2d", 0, {"window": win}),
            *([(function, 0, {})] if function else []),
        )
        op = "+".join(name for name, _, _ in parts)
        outs = [(pooled, "float32"), *((s.shape, "float32") for s in statistics), (pooled, "uint8")]
        assert ways(op, ins, [np.empty(*outs[0])], {"parts": parts}) != (HOST,)
        *found, winner = one_node.run(op, ins, outs, {"parts": parts}, "numba")
        best, expected = one_node.run("max_pool2d", [y], [(pooled, "float32"), (pooled, "uint8")], {"window": win})
        close(found, [activated(function, best), *statistics], scale=10)
        assert (winner == expected).mean() > 0.999  # two that differ by rounding only

    def test_backward(self, shape):
        x, _, _, gamma, _, mean, var = arrays(shape)
        win, pooled = pooled_case(shape)
        rng = np.random.default_rng(1)
        winner, dy = rng.integers(0, 4, pooled).astype(np.uint8), rng.normal(size=pooled).astype(np.float32)
        (spread,) = run("max_pool2d_dx", [winner, dy], [shape], {"window": win}, "numpy")
        expected = run("batch_norm_dparams", [x, mean, var, spread], [(shape[-1],)] * 2, EPSILON, "numpy")
        parts = (("max_pool2d_dx", 2, {"window": win}), ("batch_norm_dparams", 3, EPSILON))
        found = run(
            "max_pool2d_dx+batch_norm_dparams", [winner, dy, x, mean, var], [(shape[-1],)] * 2, {"parts": parts}
        )
        close(found, expected, scale=10)

        ins = [x, gamma, mean, var, *expected]
        dx = run("batch_norm_dx", [*ins, spread], [shape], EPSILON, "numpy")
        parts = (("max_pool2d_dx", 2, {"window": win}), ("batch_norm_dx", 6, EPSILON))
        close(run("max_pool2d_dx+batch_norm_dx", [winner, dy, *ins], [shape], {"parts": parts}), dx, scale=10)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("function", ["relu", "relu6"])
def test_what_an_activation_let_through_is_summed(shape, function):
    x, dy, y, _, _, mean, var = arrays(shape)
    y = np.clip(5 * y, 0, 6 if function == "relu6" else None)
    (g,) = run(f"{function}_dx", [y, dy], [shape], {}, "numpy")
    expected = run("batch_norm_dparams", [x, mean, var, g], [(shape[-1],)] * 2, EPSILON, "numpy")
    op, parts = f"{function}_dx+batch_norm_dparams", ((f"{function}_dx", 2, {}), ("batch_norm_dparams", 3, EPSILON))
    for place in (shape, 1):
        found = run(op, [y, dy, x, mean, var], [place, *[(shape[-1],)] * 2], {"parts": parts})
        np.testing.assert_array_equal(found[0], g)
        close(found[1:], expected, scale=10)


def test_of_equal_values_in_a_window_the_first_wins():
    x = np.tile(np.array([1, 1, 3, 3], np.float32), (2, 6, 3, 5)).reshape(2, 6, 12, 5)
    win = window((6, 12), (2, 2), (2, 2), "valid")
    one, zero = np.ones(5, np.float32), np.zeros(5, np.float32)
    parts = (("batch_norm_inference", 5, EPSILON), ("max_pool2d", 0, {"window": win}), ("relu", 0, {}))
    shape = (2, 3, 6, 5)
    y, winner = one_node.run(
        "batch_norm_inference+max_pool2d+relu",
        [x, one, zero, zero, one],
        [(shape, "float32"), (shape, "uint8")],
        {"parts": parts},
        "numba",
    )
    np.testing.assert_array_equal(
        winner, one_node.run("max_pool2d", [x], [(shape, "float32"), (shape, "uint8")], {"window": win})[1]
    )
    assert (y > 0).all()


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "ceil_mode", "native"),
    [(2, 2, "valid", False, True), (2, 2, "valid", True, False), (3, 2, "valid", False, False), (2, 1, 0, False, False),
     (2, 2, 1, False, False)],
)  # fmt: skip
def test_only_windows_of_halves_are_pooled_in_a_chain(kernel, stride, padding, ceil_mode, native):
    win = window((7, 7), (kernel, kernel), (stride, stride), padding, ceil_mode=ceil_mode)
    x, y = np.empty((1, 7, 7, 4), np.float32), np.empty((1, *win.out, 4), np.float32)
    parts = (("batch_norm", 3, EPSILON), ("max_pool2d", 0, {"window": win}))
    assert (ways("batch_norm+max_pool2d", (x,), (y,), {"parts": parts}) != (HOST,)) is native
    parts = (("max_pool2d_dx", 2, {"window": win}), ("batch_norm_dx", 6, EPSILON))
    assert (ways("max_pool2d_dx+batch_norm_dx", (y, y, x), (x,), {"parts": parts}) != (HOST,)) is native


class TestWhatIsNotFinite:
    """A loss that is not finite has to be seen."""

    @pytest.mark.parametrize("op", ["batch_norm+relu", "batch_norm+relu6", "batch_norm+max_pool2d+relu"])
    def test_nan_stays(self, op):
        shape = (2, 8, 8, 20)
        x, _, _, gamma, beta, _, _ = arrays(shape)
        x[1, 3, 3, 17] = np.nan
        win, pooled = pooled_case(shape)
        parts = tuple(
            (name, 3 * (not i), {"window": win} if "pool" in name else EPSILON) for i, name in enumerate(op.split("+"))
        )
        last = [(pooled, "uint8")] if "pool" in op else []
        outs = [(pooled if last else shape, "float32"), *[((20,), "float32")] * 3, *last]
        y, mean, *_ = one_node.run(op, [x, gamma, beta], outs, {"parts": parts}, "numba", twice=False)
        assert np.isnan(mean).nonzero()[0].tolist() == [17]
        assert np.isnan(y).any(axis=(0, 1, 2)).nonzero()[0].tolist() == [17]
        assert np.isnan(y[..., 17]).all()

    def test_an_infinite_activation_lets_its_gradient_through(self):
        shape = (1, 2, 2, 4)
        x, dy, _, _, _, mean, var = arrays(shape)
        y = np.full(shape, np.inf, np.float32)
        parts = (("relu_dx", 2, {}), ("batch_norm_dparams", 3, EPSILON))
        g, *_ = run("relu_dx+batch_norm_dparams", [y, dy, x, mean, var], [shape, (4,), (4,)], {"parts": parts})
        np.testing.assert_array_equal(g, dy)


@pytest.mark.parametrize("shape", [(16, 33, 32, 64), (9, 40, 41, 10)], ids=str)
def test_the_number_of_threads_changes_no_bit(shape, monkeypatch):
    x, dy, _, gamma, beta, mean, var = arrays(shape)
    win, pooled = pooled_case(shape)
    c = shape[-1]
    parts = (("batch_norm", 3, EPSILON), ("max_pool2d", 0, {"window": win}))
    masked = (("relu_dx", 2, {}), ("batch_norm_dparams", 3, EPSILON))
    found = []
    for threads in (1, 2):
        monkeypatch.setattr(one_node, "_device", lambda name, threads=threads: NumbaBackend(threads))
        outs = [(pooled, "float32"), *[((c,), "float32")] * 3, (pooled, "uint8")]
        y, *statistics, winner = one_node.run("batch_norm+max_pool2d", [x, gamma, beta], outs, {"parts": parts})
        pool = (("max_pool2d_dx", 2, {"window": win}), ("batch_norm_dparams", 3, EPSILON))
        found.append(
            [
                *(y, *statistics, winner),
                *run("max_pool2d_dx+batch_norm_dparams", [winner, y, x, mean, var], [(c,)] * 2, {"parts": pool}),
                *run("relu_dx+batch_norm_dparams", [x, dy, x, mean, var], [shape, (c,), (c,)], {"parts": masked}),
            ]
        )
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)
