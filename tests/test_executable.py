"""Plans bound to memory: shared weights, frozen weights, slots, partial batches, the step block."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnforge.backends import create
from cnnforge.backends.null import NullBackend
from cnnforge.executable import Executable, Weights
from cnnforge.ir.graph import DEVICE_FIELDS, STEP_FIELDS, is_vector
from cnnforge.ir.precision import PRECISIONS
from cnnforge.lower import eval_graph, train_graph
from cnnforge.optim import OPTIMIZERS
from cnnforge.optim.adam import Adam
from cnnforge.plan import make_plan
from cnnforge.spec import ModelSpec
from tests.building import build, labels
from tests.strategies import models

ADAM = Adam(type="adam")
SPEC = ModelSpec.model_validate(
    {
        "name": "m",
        "input": [6, 6, 2],
        "layers": {
            "a": {"type": "conv", "filters": 3, "kernel": 3, "activation": "relu"},
            "n": {"type": "batch_norm"},
            "b": {"type": "fc", "units": 4, "activation": "relu"},
            "c": {"type": "fc", "units": 3, "activation": "softmax"},
        },
    }
)
TRAINING = ("forward", "loss", "backward", "update")


def half_frozen(spec: ModelSpec, which: int) -> ModelSpec:
    """Every other layer with weights keeps them."""
    names = [name for name, block in spec.layers.items() if hasattr(block, "trainable")]
    frozen = {name: spec.layers[name].model_copy(update={"trainable": False}) for name in names[which::2]}
    return spec.model_copy(update={"layers": dict(spec.layers) | frozen})


@settings(max_examples=60)
@given(spec=models(), which=st.integers(0, 1), kind=st.sampled_from(sorted(OPTIMIZERS)))
def test_frozen_weights_never_change_and_have_no_gradient(spec, which, kind):
    optimizer = OPTIMIZERS[kind](type=kind, weight_decay=0.1)
    built = build(half_frozen(spec, which), optimizer=optimizer)
    before = {name: array.copy() for name, array in built.exe.weights.params.items()}
    for step in range(3):
        built.run(*TRAINING, step=step)
    for name, p in built.plan.params.items():
        assert (name in built.exe.grads) == p.trainable
        if not p.trainable:
            np.testing.assert_array_equal(built.exe.weights.params[name], before[name])
        else:
            assert (built.exe.weights.params[name] != before[name]).any()
    learning = {name: p for name, p in built.plan.params.items() if p.trainable}
    assert set(built.exe.slots) == {
        f"{name}/{slot}" for name, p in learning.items() for slot in optimizer.rule(name, is_vector(p)).slots()
    }


def test_freezing_one_layer_changes_no_other_gradient():
    free, frozen = build(SPEC), build(half_frozen(SPEC, 0))
    for built in (free, frozen):
        for name, array in built.exe.weights.params.items():
            array[...] = np.random.default_rng(len(name)).normal(size=array.shape)
        built.bound.x[...] = np.random.default_rng(1).normal(size=built.bound.x.shape)
        built.bound.labels[...] = 1
        built.run(*TRAINING[:3])
    assert set(frozen.exe.grads) < set(free.exe.grads)
    for name, grad in frozen.exe.grads.items():
        np.testing.assert_array_equal(grad, free.exe.grads[name])


def test_plans_of_one_model_share_its_weights():
    device = create("numpy")
    train = make_plan(train_graph(SPEC, 4, "float64", 0, ADAM), device.capabilities)
    inference = make_plan(eval_graph(SPEC, 2, "float64"), device.capabilities)
    weights = Weights(inference, device)
    weights.initialise(inference, seed=0)
    arena = device.buffer(max(train.sizes["arena"], inference.sizes["arena"]))
    executables = [Executable(plan, device, weights, arena) for plan in (train, inference)]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 6, 6, 2))

    def predictions():
        bound = executables[1].bound(2)
        bound.x[...] = x
        bound.run("forward", "output")
        return bound.outputs["prediction"].copy()

    before = predictions()
    bound = executables[0].bound(4)
    bound.x[...], bound.labels[...] = rng.normal(size=bound.x.shape), [0, 1, 2, 0]
    executables[0].set_step(step=1, draw=0, first=0, lr=0.1, inv_n=0.25, scalars=ADAM.scalars(1))
    bound.run(*TRAINING)
    after = predictions()
    assert (before != after).any()
    np.testing.assert_array_equal(after, predictions())
    assert all(a.base is not None for a in weights.params.values())


def test_a_batch_is_bound_once_and_at_most_as_large_as_planned():
    built = build(SPEC, batch=3, capacity=5)
    assert built.exe.bound(3) is built.bound
    assert built.exe.bound(5).x.shape == (5, 6, 6, 2)
    for size in (0, 6):
        with pytest.raises(AssertionError, match="planned for 5"):
            built.exe.bound(size)


@settings(max_examples=30)
@given(spec=models(), kind=st.sampled_from(sorted(OPTIMIZERS)))
def test_a_partial_batch_between_full_ones_learns_what_it_would_in_a_plan_of_its_own(spec, kind):
    optimizer = OPTIMIZERS[kind](type=kind)
    full, small = (build(spec, batch=size, optimizer=optimizer) for size in (5, 2))
    alone = build(spec, batch=5, optimizer=optimizer)
    for step, (size, own) in enumerate([(5, full), (2, small), (5, full)]):
        losses = []
        for built in (own, alone):
            bound = built.exe.bound(size)
            bound.x[...] = np.random.default_rng(step).normal(size=bound.x.shape)
            bound.labels[...] = labels(spec, bound.labels, np.random.default_rng(step))
            scalars = optimizer.scalars(step + 1)
            built.exe.set_step(step=step + 1, draw=step, first=0, lr=0.1, inv_n=1 / size, scalars=scalars)
            bound.run(*TRAINING)
            losses.append(bound.outputs["loss"].copy())
        np.testing.assert_array_equal(*losses)
        copy_learned(own, small if own is full else full)
    for name, array in alone.exe.weights.params.items():
        np.testing.assert_array_equal(array, full.exe.weights.params[name])


def copy_learned(source, target):
    """Everything that lives from step to step."""
    for mapping in ("params", "state"):
        for name, array in getattr(source.exe.weights, mapping).items():
            getattr(target.exe.weights, mapping)[name][...] = array
    for name, array in source.exe.slots.items():
        target.exe.slots[name][...] = array


def test_slots_are_named_by_parameter_and_cover_their_buffer():
    built = build(half_frozen(SPEC, 0), optimizer=ADAM)
    assert set(built.exe.slots) == {f"{p}/{s}" for p in ("n.gamma", "n.beta", "c.w", "c.b") for s in ("mean", "square")}
    for i, array in enumerate(built.exe.slots.values()):
        array[...] = i
    assert sum(array.nbytes for array in built.exe.slots.values()) == built.plan.sizes["slots"]
    for i, (name, array) in enumerate(built.exe.slots.items()):
        assert array.shape == built.exe.weights.params[name.split("/")[0]].shape
        assert (array == i).all()


@pytest.mark.parametrize("gather", [False, True])
def test_what_processes_add_up_is_what_the_update_reads(gather):
    built = build(SPEC, optimizer=ADAM, gather=gather)
    built.run("forward", "loss", "backward", "gather")
    grads = np.concatenate([built.exe.grads[name].ravel() for name in built.plan.grads])
    np.testing.assert_array_equal(np.sort(built.exe.sums), np.sort(grads))
    built.exe.forget()
    assert not any(grad.any() for grad in built.exe.grads.values())
    assert built.exe.sums.any() == gather, "what was gathered stays"


def test_what_a_training_goes_on_from_is_weights_state_and_slots():
    built = build(SPEC, optimizer=ADAM)
    assert built.exe.kept.keys() == {*built.exe.weights.params, *built.exe.weights.state, *built.exe.slots}


def test_a_slot_belongs_to_the_parameter_it_is_named_after():
    """Adam's mean after one step is (1 - beta1) times the mean gradient of that parameter."""
    built = build(half_frozen(SPEC, 1), optimizer=ADAM)
    built.run(*TRAINING)
    for name, grad in built.exe.grads.items():
        np.testing.assert_allclose(built.exe.slots[f"{name}/mean"], 0.1 * grad / 3, rtol=1e-12)


def test_the_step_block_holds_what_it_is_given():
    built = build(SPEC, optimizer=ADAM)
    built.exe.set_step(step=1, draw=2, first=3, lr=4, inv_n=5, scalars=(6, 7), keep=8)
    (v,) = [v for v in built.plan.places if v.kind == "step"]
    np.testing.assert_array_equal(built.exe._view(v), range(1, 9))
    assert STEP_FIELDS == ("step", "draw", "first", "lr", "inv_n", "c1", "c2", "keep")


def test_a_model_without_anything_that_changes_takes_no_step_block():
    built = build(SPEC, training=False)
    built.exe.set_step(step=1, draw=0, first=0, lr=1, inv_n=1, scalars=(0, 0))
    assert built.plan.sizes["step"] == 0


class TestInitialWeights:
    def weights(self, spec, seed=0):
        device = create("numpy")
        plan = make_plan(eval_graph(spec, 1, "float64"), device.capabilities)
        weights = Weights(plan, device)
        weights.initialise(plan, seed)
        return weights

    def test_they_depend_on_the_seed_and_their_own_name_only(self):
        one = self.weights(SPEC)
        layers = {"new": SPEC.layers["n"], **SPEC.layers}
        edited = self.weights(SPEC.model_copy(update={"layers": layers}))
        frozen = self.weights(half_frozen(SPEC, 0))
        for name, array in one.params.items():
            np.testing.assert_array_equal(array, edited.params[name])
            np.testing.assert_array_equal(array, frozen.params[name])
        other = self.weights(SPEC, seed=1)
        assert all((one.params[n] != other.params[n]).any() for n in ("a.w", "b.w", "c.w"))

    def test_normalisation_begins_as_nothing(self):
        one = self.weights(SPEC)
        assert (one.params["n.gamma"] == 1).all()
        assert (one.params["n.beta"] == 0).all()
        assert (one.state["n.mean"] == 0).all()
        assert (one.state["n.var"] == 1).all()
        assert (one.params["a.b"] == 0).all()


@settings(max_examples=20)
@given(spec=models())
def test_a_plan_binds_and_runs_without_a_device(spec):
    device = NullBackend()
    plan = make_plan(train_graph(spec, 2, "float32", 0, ADAM), device.capabilities)
    weights = Weights(plan, device)
    weights.initialise(plan, 0)
    executable = Executable(plan, device, weights)
    executable.set_step(step=1, draw=0, first=0, lr=1.0, inv_n=0.5, scalars=(1.0, 1.0))
    bound = executable.bound(1)
    bound.run(*TRAINING)
    assert bound.x == (1, *spec.input)
    assert device.get(bound.outputs["loss"]) == (1,)


FLAT = ModelSpec.model_validate(
    {"name": "f", "input": [3, 2, 2], "layers": {"a": {"type": "fc", "units": 3, "activation": "softmax"}}}
)


@pytest.mark.parametrize("spec", [SPEC, FLAT], ids=["conv", "flattened at once"])
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_inputs_of_a_turn_lie_in_memory_of_their_own(spec, backend):
    """Filling one turn's, or using the arena, does not disturb a step on another's."""
    plain, turns = (build(spec, batch=4, dtype="float32", optimizer=ADAM, backend=backend) for _ in range(2))
    bounds = [turns.exe.bound(4, turn) for turn in (0, 1)]
    arrays = [(bound.x, bound.labels) for bound in (turns.bound, *bounds)]
    for i, one in enumerate(arrays):
        for other in arrays[i + 1 :]:
            assert not any(np.shares_memory(a, b) for a, b in zip(one, other, strict=True))
            assert not np.shares_memory(other[0], turns.exe.arena)
    rng = np.random.default_rng(3)
    for step in range(4):
        bound, other = bounds[step % 2], bounds[1 - step % 2]
        bound.x[...] = plain.bound.x[...] = rng.normal(size=bound.x.shape)
        bound.labels[...] = plain.bound.labels[...] = rng.integers(0, 3, 4)
        turns.exe.arena[...] = 255
        other.x[...], other.labels[...] = np.nan, 2
        for built, at in ((plain, plain.bound), (turns, bound)):
            built.exe.set_step(step=step + 1, draw=step, first=0, lr=0.1, inv_n=0.25, scalars=(0.5, 0.5))
            at.run("forward", "loss")
            other.x[...] = -np.inf
            at.run("backward", "update")
        np.testing.assert_array_equal(plain.bound.outputs["loss"], bound.outputs["loss"])
    for name, array in plain.exe.weights.params.items():
        np.testing.assert_array_equal(turns.exe.weights.params[name], array)
    inputs = turns.bound.x.nbytes + turns.bound.labels.nbytes
    assert turns.exe.nbytes == plain.exe.nbytes + 2 * inputs


def test_a_turns_smaller_batch_lies_in_the_same_memory():
    built = build(SPEC, batch=4, dtype="float32", optimizer=ADAM)
    large, small = built.exe.bound(4, 0), built.exe.bound(2, 0)
    large.x[...], large.labels[...] = np.arange(large.x.size).reshape(large.x.shape), np.arange(4) % 3
    np.testing.assert_array_equal(small.x, large.x[:2])
    np.testing.assert_array_equal(small.labels, large.labels[:2])
    assert built.exe.bound(4, 0) is large


@pytest.mark.parametrize("layers", [
    {"a": {"type": "conv", "filters": 6, "kernel": 3, "activation": "relu"}, "p": {"type": "pool", "kernel": 2}},
    {"a": {"type": "conv", "filters": 24, "kernel": 3, "padding": 1}, "n": {"type": "batch_norm", "activation": "relu"},
     "b": {"type": "conv", "filters": 32, "kernel": 3, "padding": 1}, "d": {"type": "dropout", "rate": 0.3}},
], ids=["few channels", "many"])  # fmt: skip
def test_the_number_of_threads_changes_no_bit_of_a_compiled_step(layers):
    """Sums over the batch are cut into as many parts whatever the threads, and added up in one order."""
    net = {"name": "m", "input": [12, 12, 16 if "n" in layers else 3]}
    net["layers"] = layers | {"out": {"type": "fc", "units": 3, "activation": "softmax"}}
    spec = ModelSpec.model_validate(net)
    left = []
    for threads in (1, 2):
        device = create("numba", threads)
        plan = make_plan(train_graph(spec, 37, "float32", 0, ADAM), device.capabilities)
        weights = Weights(plan, device)
        weights.initialise(plan, 0)
        executable = Executable(plan, device, weights)
        bound = executable.bound(37)
        rng = np.random.default_rng(0)
        for step in range(3):
            bound.x[...], bound.labels[...] = rng.normal(size=bound.x.shape), rng.integers(0, 3, 37)
            executable.set_step(step=step + 1, draw=step, first=0, lr=0.01, inv_n=1 / 37, scalars=(0.5, 0.5))
            bound.run("forward", "loss", "backward", "update")
        left.append({name: array.copy() for name, array in weights.params.items()})
    for name, array in left[0].items():
        np.testing.assert_array_equal(left[1][name], array, err_msg=name)


def scaled(precision: str = "float16", batch: int = 100) -> Executable:
    """A training in a precision that NumPy's arrays have, if not its kernels."""
    device = create("numpy")
    can = replace(device.capabilities, precisions=(*PRECISIONS,))
    plan = make_plan(train_graph(SPEC, batch, precision, 0, ADAM), can)
    return Executable(plan, device, Weights(plan, device))


def test_a_loss_scale_begins_at_pytorchs_for_a_mean_and_is_kept():
    exe = scaled(batch=100)
    np.testing.assert_array_equal(exe.scaling["loss_scale"], [2.0**16 / 64, 0])
    np.testing.assert_array_equal(scaled(batch=128).scaling["loss_scale"], [2.0**16 / 128, 0])
    assert exe.kept.keys() - {*exe.weights.params, *exe.weights.state, *exe.slots} == {"loss_scale"}
    block = exe.backend.view(exe._buffers["step"], 0, (len(STEP_FIELDS) + len(DEVICE_FIELDS),), "float64")
    exe.set_step(step=5, draw=4, first=3, lr=0.1, inv_n=0.5, scalars=(0.25, 0.75), keep=0.9)
    assert block.tolist() == [5, 4, 3, 0.1, 0.5, 0.25, 0.75, 0.9, 1024, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_what_is_not_scaled_has_no_loss_scale(precision):
    assert not scaled(precision).scaling


def test_a_training_that_restarts_knows_nothing_of_the_last_one():
    exe = scaled(batch=1)
    for array in (*exe.slots.values(), *exe.scaling.values()):
        array[...] = 7
    exe.restart()
    assert not any(slot.any() for slot in exe.slots.values())
    np.testing.assert_array_equal(exe.scaling["loss_scale"], [2.0**16, 0])
