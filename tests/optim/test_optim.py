"""Optimizers over many steps against their formulas, PyTorch's defaults, and what a step reads from the step block."""

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from cnnforge.backends.numpy.capabilities import FLAT_CHUNK
from cnnforge.backends.numpy.capabilities import OPTIMIZERS as ELEMENTWISE
from cnnforge.optim import OPTIMIZERS, AnyOptimizer
from tests import formulas, one_node

VARIANTS = [
    {"type": "sgd"},
    {"type": "sgd", "weight_decay": 0.1},
    {"type": "sgd", "momentum": 0.9},
    {"type": "sgd", "momentum": 0.9, "weight_decay": 0.1},
    {"type": "sgd", "momentum": 0.9, "nesterov": True},
    {"type": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    {"type": "rmsprop"},
    {"type": "rmsprop", "weight_decay": 0.1},
    {"type": "rmsprop", "momentum": 0.9, "weight_decay": 0.1},
    {"type": "adam"},
    {"type": "adam", "weight_decay": 0.1},
    {"type": "adam", "betas": [0.5, 0.9], "epsilon": 1e-3},
    {"type": "adamw"},
    {"type": "adamw", "weight_decay": 0.3},
]


def make(**fields):
    return TypeAdapter(AnyOptimizer).validate_python(fields)


def update(optimizer, params, sums, slots, step, lr, inv_n):
    """New params and slots."""
    block = np.array([step, 0, 0, lr, inv_n, *optimizer.scalars(step), 0])
    outs = [0, *range(3, 3 + len(slots))]
    return one_node.run(optimizer.type, [params, sums, block, *slots], outs, optimizer.attrs())


@pytest.mark.parametrize("fields", VARIANTS, ids=str)
def test_twelve_steps_down_a_valley(fields):
    """Gradients of (p - target)^2, summed over a batch of 4, with a learning rate that changes."""
    optimizer, target = make(**fields), np.array([1.0, -2.0, 0.0, 3.0])
    params = np.array([0.5, 0.5, -0.5, 2.0])
    slots = [np.zeros(4) for _ in optimizer.slots()]
    each = [formulas.Scalar(optimizer.type, p, [0.0] * len(slots), optimizer.attrs()) for p in params]
    for step in range(1, 13):
        lr = 0.1 / step
        mean_gradient = 2 * (params - target)
        params, *slots = update(optimizer, params, 4 * mean_gradient, slots, step, lr, 1 / 4)
        for one, t in zip(each, target, strict=True):
            one.update(2 * (one.p - t), lr, step)
        np.testing.assert_allclose(params, [one.p for one in each], rtol=1e-12)
        for i, slot in enumerate(slots):
            np.testing.assert_allclose(slot, [one.slots[i] for one in each], rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("kind", ELEMENTWISE)
@pytest.mark.parametrize("size", [1, FLAT_CHUNK - 1, FLAT_CHUNK, FLAT_CHUNK + 1, 2 * FLAT_CHUNK + 3])
def test_a_long_buffer_is_worked_on_in_pieces_that_do_not_show(kind, size):
    optimizer = make(type=kind, weight_decay=0.1)
    rng = np.random.default_rng(0)
    params, sums = (rng.normal(size=size) for _ in range(2))
    slots = [abs(rng.normal(size=size)) for _ in optimizer.slots()]
    whole = update(optimizer, params, sums, slots, 3, 0.1, 0.5)
    ends = np.unique([0, size // 2, size - 1, min(FLAT_CHUNK, size - 1), max(0, min(FLAT_CHUNK, size) - 1)])
    some = update(optimizer, params[ends], sums[ends], [s[ends] for s in slots], 3, 0.1, 0.5)
    for a, b in zip(whole, some, strict=True):
        np.testing.assert_array_equal(a[ends], b)
    assert (whole[0] != params).all()


DEFAULTS = {
    "sgd": {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0, "lr": 1e-3},
    "rmsprop": {"alpha": 0.99, "epsilon": 1e-8, "momentum": 0.0, "weight_decay": 0.0, "lr": 1e-2},
    "adam": {"betas": (0.9, 0.999), "epsilon": 1e-8, "weight_decay": 0.0, "lr": 1e-3},
    "adamw": {"betas": (0.9, 0.999), "epsilon": 1e-8, "weight_decay": 1e-2, "lr": 1e-3},
    "muon": {
        "momentum": 0.95, "nesterov": True, "ns_coefficients": (3.4445, -4.775, 2.0315), "ns_steps": 5,
        "epsilon": 1e-7, "adjust_lr_fn": "original", "weight_decay": 0.1, "lr": 1e-3,
        "adamw": {"betas": (0.9, 0.999), "epsilon": 1e-8, "weight_decay": 1e-2, "lr": 1e-3, "match": ()},
    },
    # PyTorch has none: the paper's and its authors'.
    "lamb": {"betas": (0.9, 0.999), "epsilon": 1e-6, "weight_decay": 1e-2, "lr": 1e-3, "adapt": "weights"},
}  # fmt: skip


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_defaults_are_pytorchs(kind):
    assert make(type=kind).model_dump(exclude={"type"}) == DEFAULTS[kind] | {"decay": "all", "clip": None, "groups": ()}


@pytest.mark.parametrize(
    ("fields", "slots"),
    [
        ({"type": "sgd"}, ()),
        ({"type": "sgd", "momentum": 0.5}, ("velocity",)),
        ({"type": "rmsprop"}, ("square",)),
        ({"type": "rmsprop", "momentum": 0.5}, ("square", "velocity")),
        ({"type": "adam"}, ("mean", "square")),
        ({"type": "adamw"}, ("mean", "square")),
        ({"type": "lamb"}, ("mean", "square")),
        ({"type": "muon"}, ("mean",)),
    ],
    ids=str,
)
def test_slots(fields, slots):
    assert make(**fields).slots() == slots


def test_adams_bias_corrections():
    adam = make(type="adam", betas=[0.9, 0.99])
    assert adam.scalars(1) == pytest.approx((0.1, 0.01))
    assert adam.scalars(3) == pytest.approx((1 - 0.9**3, 1 - 0.99**3))
    assert make(type="sgd").scalars(3) == (0.0, 0.0)


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_adams_first_step_is_the_learning_rate_whatever_the_gradient(kind):
    optimizer = make(type=kind, weight_decay=0)
    params = np.zeros(3)
    new, *_ = update(optimizer, params, np.array([1e-3, -5.0, 1e4]), [np.zeros(3)] * 2, 1, 0.01, 1)
    np.testing.assert_allclose(new, [-0.01, 0.01, -0.01], rtol=1e-4)


def test_decoupled_decay_shrinks_a_weight_whatever_its_gradient_and_coupled_does_not():
    params, sums = np.ones(2), np.array([0.0, 1e3])
    adamw, *_ = update(make(type="adamw", weight_decay=0.5), params, sums, [np.zeros(2)] * 2, 1, 0.1, 1)
    np.testing.assert_allclose(adamw, [0.95, 0.85], rtol=1e-6)
    adam, *_ = update(make(type="adam", weight_decay=0.5), params, sums, [np.zeros(2)] * 2, 1, 0.1, 1)
    np.testing.assert_allclose(adam, [0.9, 0.9], rtol=1e-6)


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "sgd", "nesterov": True},
        {"type": "sgd", "momentum": 1.0},
        {"type": "sgd", "lr": 0},
        {"type": "sgd", "weight_decay": -0.1},
        {"type": "adam", "betas": [0.9]},
        {"type": "adam", "betas": [0.9, 1.0]},
        {"type": "adam", "epsilon": 0},
        {"type": "adam", "momentum": 0.9},
        {"type": "lamb", "adapt": "none"},
        {"type": "muon", "ns_steps": 0},
        {"type": "muon", "ns_coefficients": [3, -4]},
        {"type": "muon", "adjust_lr_fn": "none"},
        {"type": "muon", "adamw": {"lr": 0}},
        {"type": "muon", "adamw": {"match": [""]}},
        {"type": "adagrad"},
        {},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(fields):
    with pytest.raises(ValidationError):
        make(**fields)
