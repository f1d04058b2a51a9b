"""Updates of several pieces against the numpy backend, and the step block, which is read when a step runs."""

import numpy as np
import pytest

from cnnforge.backends.numba.backend import NumbaBackend
from cnnforge.backends.numba.rules.elementwise import PIECE
from tests import one_node

_MOMENTS = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
#: op, attributes, slots
OPTIMIZERS = {
    "plain": ("sgd", {"momentum": 0.0, "nesterov": False}, 0),
    "momentum": ("sgd", {"momentum": 0.9, "nesterov": False}, 1),
    "nesterov": ("sgd", {"momentum": 0.9, "nesterov": True}, 1),
    "rmsprop": ("rmsprop", {"alpha": 0.99, "epsilon": 1e-8, "momentum": 0.0}, 1),
    "rmsprop with momentum": ("rmsprop", {"alpha": 0.9, "epsilon": 1e-3, "momentum": 0.9}, 2),
    "adam": ("adam", _MOMENTS, 2),
    "adamw": ("adamw", _MOMENTS, 2),
}


def _node(op, attrs, slots, size, decay):
    rng = np.random.default_rng(0)
    params, grads = (rng.normal(size=size).astype(np.float32) for _ in range(2))
    state = [abs(rng.normal(size=size)).astype(np.float32) for _ in range(slots)]
    block = np.array([7, 0, 0, 1e-2, 1 / 64, 1 - 0.9**7, 1 - 0.999**7])
    return [params, grads, block, *state], [0, *range(3, 3 + slots)], {**attrs, "weight_decay": decay}


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("size", [1, PIECE - 1, 2 * PIECE, 3 * PIECE + 5])
@pytest.mark.parametrize(("op", "attrs", "slots"), OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_an_update_is_numpys(op, attrs, slots, size, decay):
    ins, outs, attrs = _node(op, attrs, slots, size, decay)
    found = one_node.run(op, ins, outs, attrs, "numba")
    for got, expected in zip(found, one_node.run(op, ins, outs, attrs), strict=True):
        np.testing.assert_allclose(got, expected, rtol=5e-7, atol=3e-7)


@pytest.mark.parametrize(("op", "attrs", "slots"), OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_step_block_is_read_when_it_runs(op, attrs, slots):
    (params, grads, block, *state), _, attrs = _node(op, attrs, slots, 40, 0.0)
    backend = NumbaBackend(1)
    step = backend.kernel(op)((params, grads, block, *state), (params, *state), (), **attrs)
    block[3] = 0.0  # the learning rate
    before = params.copy()
    backend.run([step])
    np.testing.assert_array_equal(params, before)
    block[3] = 0.5
    backend.run([step])
    assert (params != before).all()


@pytest.mark.parametrize(("op", "attrs", "slots"), OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_gradient_that_is_not_finite_shows_in_its_parameter_alone(op, attrs, slots):
    ins, outs, attrs = _node(op, attrs, slots, 40, 0.0)
    ins[1][3], ins[1][17] = np.nan, np.inf
    params = one_node.run(op, ins, outs, attrs, "numba")[0]
    np.testing.assert_array_equal(np.flatnonzero(~np.isfinite(params)), [3, 17])
