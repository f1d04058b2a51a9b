"""The arena: nothing overlaps that lives at once, nothing is written past its end, nothing is allocated on top."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnnforge.backends import capabilities_of
from cnnforge.backends.numpy.backend import NumpyBackend
from cnnforge.executable import Executable, Weights
from cnnforge.lower import eval_graph, train_graph
from cnnforge.optim.adam import Adam
from cnnforge.optim.sgd import Sgd
from cnnforge.plan import make_plan
from cnnforge.plan.arena import aligned
from cnnforge.plan.forecast import memory
from cnnforge.spec import ModelSpec
from tests.building import Built, build
from tests.ownership import Ownership
from tests.strategies import models

ADAM = Adam(type="adam")
SGD = Sgd(type="sgd", momentum=0.9)
CAN = capabilities_of("numpy")
TRAINING = ("forward", "loss", "backward", "update")

LENET = ModelSpec.model_validate(
    {
        "name": "lenet",
        "input": [32, 32, 3],
        "layers": {
            "conv1": {"type": "conv", "filters": 6, "kernel": 5, "activation": "relu"},
            "pool1": {"type": "pool", "kernel": 2, "stride": 2},
            "conv2": {"type": "conv", "filters": 16, "kernel": 5, "activation": "relu"},
            "pool2": {"type": "pool", "kernel": 2, "stride": 2},
            "fc3": {"type": "fc", "units": 120, "activation": "relu"},
            "fc4": {"type": "fc", "units": 84, "activation": "relu"},
            "output": {"type": "fc", "units": 10, "activation": "softmax"},
        },
    }
)


def left_behind(built: Built) -> dict[str, np.ndarray]:
    """Everything that a step may change, copied."""
    exe = built.exe
    kept = {"loss": built.bound.outputs["loss"], "hits": built.bound.outputs["hits"]}
    kept |= exe.weights.params | exe.weights.state | exe.grads | exe.slots
    return {name: array.copy() for name, array in kept.items()}


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


# Overlap


@pytest.mark.parametrize("backend", ["numpy", "numba", "cupy"])
@settings(max_examples=100)
@given(
    spec=models(),
    training=st.booleans(),
    guard=st.sampled_from([0, 1, 64]),
    fuse=st.booleans(),
    batch=st.sampled_from([2, 32]),
)
def test_nothing_is_overwritten_while_it_is_wanted(backend, spec, training, guard, fuse, batch):
    can = capabilities_of(backend)
    can = can if fuse else replace(can, chains=frozenset(), pairs=frozenset(), joins=frozenset())
    graph = train_graph(spec, batch, "float32", 0, ADAM) if training else eval_graph(spec, batch, "float32")
    plan = make_plan(graph, can, guard)
    ways = [(("forward", "output"), ("output", "prediction"))]
    if training:
        ways += [(TRAINING, ("loss", "hits")), (("forward", "loss", "backward"), ("loss", "hits"))]
    else:
        ways += [(("forward", "output", "loss"), ("output", "prediction", "loss", "hits"))]
    for phases, wanted in ways:
        memory_map = Ownership(plan)
        memory_map.play(*phases)
        memory_map.outputs(*wanted)


def test_the_map_of_owners_sees_two_values_in_one_place():
    """The checker itself: put any two values that live together in one place, and it says so."""
    plan = make_plan(train_graph(LENET, 2, "float32", 0, ADAM), CAN)
    by_name = {v.name: v for v in plan.places if plan.places[v].buffer == "arena"}
    winner, later = by_name["pool1.max_pool2d.winner"], by_name["conv2.conv2d"]
    places = dict(plan.places) | {later: plan.places[winner]}
    with pytest.raises(AssertionError, match="overwritten"):
        Ownership(replace(plan, places=places)).play(*TRAINING)


@settings(max_examples=60)
@given(spec=models(), training=st.booleans())
def test_what_the_arena_held_before_does_not_matter(spec, training):
    """NaN in every float and nonsense in every index before the step: nothing is read before it is written."""
    results = []
    for filling in (0x00, 0xFF, 0x7B):
        built = build(spec, training=training, optimizer=SGD if training else None)
        x, labels = built.bound.x.copy(), built.bound.labels.copy()
        built.exe.arena.fill(filling)
        built.bound.x[...], built.bound.labels[...] = x, labels
        built.run(*(TRAINING if training else ("forward", "output", "loss")))
        results.append(left_behind(built))
    assert_same(results[0], results[1])
    assert_same(results[0], results[2])


def beside_each_other(requests):
    """A placement without any sharing."""
    offsets, at = [], 0
    for request in requests:
        offsets.append(at)
        at += aligned(request.nbytes)
    return offsets, at


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spec=models())
def test_sharing_memory_changes_no_bit(monkeypatch, spec):
    shared = build(spec, optimizer=ADAM, dtype="float32")
    with monkeypatch.context() as m:
        m.setattr("cnnforge.plan.plan.place", beside_each_other)
        apart = build(spec, optimizer=ADAM, dtype="float32")
    assert apart.plan.sizes["arena"] >= shared.plan.sizes["arena"]
    for built in (shared, apart):
        for step in range(2):
            built.run(*TRAINING, step=step)
    assert_same(left_behind(shared), left_behind(apart))


# Writing too far

PATTERN = 0xA5


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@settings(max_examples=40)
@given(spec=models(), training=st.booleans(), capacity=st.sampled_from([3, 5, 19]))
def test_no_kernel_writes_outside_its_buffers(backend, spec, training, capacity):
    """Everything in the arena that belongs to nobody keeps its pattern, also with fewer samples than planned."""
    optimizer = ADAM if training else None
    built = build(
        spec, training=training, optimizer=optimizer, guard=64, capacity=capacity, dtype="float32", backend=backend
    )
    free = np.ones(len(built.exe.arena), bool)
    for v, place in built.plan.places.items():
        if place.buffer == "arena":
            free[place.offset : place.offset + v.nbytes] = False
    # Behind the last buffer, at least, lie 64 bytes that are nobody's.
    assert free.sum() >= 64
    built.exe.arena[free] = PATTERN
    for step in range(2):
        built.run(*(TRAINING if training else ("forward", "output", "loss")), step=step)
    assert (built.exe.arena[free] == PATTERN).all()


@settings(max_examples=60)
@given(spec=models(), guard=st.sampled_from([64, 100]))
def test_guards_lie_behind_every_buffer(spec, guard):
    """No two values that live together are closer than the guard: nothing overlaps when each is that much longer."""
    plan = make_plan(train_graph(spec, 2, "float32", 0, ADAM), CAN, guard)
    longer = {
        v: replace(v, dtype="uint8", shape=(v.nbytes + guard,)) for v, p in plan.places.items() if p.buffer == "arena"
    }

    def swap(values):
        return tuple(longer.get(v, v) for v in values)

    segments = tuple(
        replace(
            s, nodes=tuple(replace(n, ins=swap(n.ins), outs=swap(n.outs), scratch=swap(n.scratch)) for n in s.nodes)
        )
        for s in plan.segments
    )
    Ownership(
        replace(
            plan,
            segments=segments,
            places={longer.get(v, v): p for v, p in plan.places.items()},
            inputs={name: longer.get(v, v) for name, v in plan.inputs.items()},
        )
    ).play(*TRAINING)


@settings(max_examples=30)
@given(spec=models())
def test_flat_buffers_are_filled_without_gaps_and_frozen_weights_come_last(spec):
    names = [n for n, block in spec.layers.items() if hasattr(block, "trainable")]
    layers = dict(spec.layers)
    for name in names[::2]:
        layers[name] = layers[name].model_copy(update={"trainable": False})
    spec = spec.model_copy(update={"layers": layers})
    plan = make_plan(train_graph(spec, 2, "float32", 0, ADAM), CAN)
    trainable = sum(p.value.nbytes for p in plan.params.values() if p.trainable)
    assert plan.sizes["grads"] == trainable
    assert plan.sizes["slots"] == (2 * trainable if plan.grads else 0)
    used = np.zeros(plan.sizes["params"], int)
    for p in plan.params.values():
        offset = plan.places[p.value].offset
        used[offset : offset + p.value.nbytes] += 1
        assert (offset < trainable) == p.trainable
    assert (used == 1).all()
    for name, grad in plan.grads.items():
        assert plan.places[grad].offset == plan.places[plan.params[name].value].offset


# Allocation


def peak_of_a_step(batch: int, dtype: str = "float32") -> int:
    """Bytes that Python and NumPy held at most during a warm step, beyond what they held before."""
    built = build(LENET, batch=batch, optimizer=ADAM, dtype=dtype)
    for step in range(3):
        built.run(*TRAINING, step=step)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        built.run(*TRAINING, step=3)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak - before


def test_a_training_step_allocates_only_numpys_iteration_buffers():
    """They are of a fixed size: up to 8,192 elements for each operand whose type has to be converted."""
    peaks = {batch: peak_of_a_step(batch) for batch in (8, 64, 128)}
    assert max(peaks.values()) < 256 * 1024, peaks
    # Sixteen times the samples: an activation that is copied on the way would be megabytes more.
    assert peaks[128] <= peaks[8] + 32 * 1024, peaks
    assert peaks[128] <= peaks[64] + 1024, peaks


# Sums


class Counting(NumpyBackend):
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def buffer(self, nbytes):
        self.asked.append(nbytes)
        return super().buffer(nbytes)


@settings(max_examples=40)
@given(spec=models(), batch=st.integers(1, 4), optimizer=st.sampled_from([ADAM, SGD]))
def test_the_forecast_is_what_binding_allocates(spec, batch, optimizer):
    train = make_plan(train_graph(spec, batch, "float32", 0, optimizer), CAN)
    evaluation = make_plan(eval_graph(spec, 2 * batch, "float32"), CAN)
    device = Counting()
    weights = Weights(train, device)
    arena = device.buffer(max(train.sizes["arena"], evaluation.sizes["arena"]))
    executables = [Executable(plan, device, weights, arena) for plan in (train, evaluation)]
    for executable in executables:
        executable.bound(executable.plan.batch)
    forecast = memory(train, evaluation)
    assert forecast["total"] == sum(device.asked)
    assert forecast["total"] == sum(n for name, n in forecast.items() if name != "total")
    assert all(n >= 0 for n in forecast.values())
    alone = Counting()
    assert memory(train)["total"] == Executable(train, alone, Weights(train, alone)).nbytes == sum(alone.asked)


@settings(max_examples=100)
@given(spec=models(), training=st.booleans())
def test_the_arena_lies_between_its_bounds(spec, training):
    graph = train_graph(spec, 3, "float32", 0, ADAM) if training else eval_graph(spec, 3, "float32")
    plan = make_plan(graph, CAN)
    assert plan.bound <= plan.sizes["arena"] <= plan.unshared
    assert plan.activations <= plan.sizes["arena"]


def test_sharing_is_worth_it():
    plan = make_plan(train_graph(LENET, 64, "float32", 0, ADAM), CAN)
    assert plan.sizes["arena"] < 0.5 * plan.unshared
    # Inference forgets as it goes: no placement could be smaller than what its largest layer needs.
    inference = make_plan(eval_graph(LENET, 64, "float32"), CAN)
    assert inference.sizes["arena"] == inference.bound <= plan.sizes["arena"]
