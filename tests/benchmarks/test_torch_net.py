"""PyTorch's side of the benchmarks is the same net: forward, every gradient, running statistics, the update."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")

from benchmarks import nets  # noqa: E402
from benchmarks.engines import OurInference, Ours, Rival, model_with, same_loss  # noqa: E402
from benchmarks.recipe import noise, recipe, torch_arrays  # noqa: E402
from benchmarks.torch_engines import Inference, TrainingStep, fastest_optimizer, net_of  # noqa: E402
from cnnforge.config import read_model, validate_model  # noqa: E402
from tests.building import build  # noqa: E402
from tests.parity.nets import NETS  # noqa: E402

#: What the benchmark's own nets do not use.
ODD = """
input: [11, 9, 4]
layers:
  conv1: {type: conv, filters: 6, kernel: [3, 2], stride: 2, padding: same, groups: 2, flip: true, activation: silu}
  slope: {type: activation, function: leaky_relu, alpha: 0.3}
  pool1: {type: pool, kernel: 3, stride: 1, padding: 1, mode: average, count_include_pad: true}
  side: {type: pool, kernel: [2, 3], stride: 1, padding: same}
  conv2: {type: conv, filters: 6, kernel: 3, padding: [0, 1, 2, 1], dilation: 2, activation: tanh, input: conv1}
  pool2: {type: pool, kernel: 2, stride: 2, ceil_mode: true, padding: 1}
  drop: {type: dropout, rate: 0.0}
  flat: {type: flatten}
  norm: {type: batch_norm, activation: relu}
  bend: {type: activation, function: gelu, approximate: tanh}
  fc: {type: fc, units: 7, bias: false}
  last: {type: fc, units: 5}
  output: {type: activation, function: softmax}
"""
#: One branch: its output is another row's, which relu may not overwrite.
PASSED_ON = """
input: [4, 4, 2]
layers:
  conv: {type: conv, filters: 3, kernel: 3}
  same: {type: branches, branches: {one: {}}, merge: add, activation: relu}
  both: {type: merge, inputs: [conv, same], mode: add}
  output: {type: fc, units: 3, activation: softmax}
"""
OWN = tuple(row.net for row in nets.TRAINING)
TEXTS = {name: text for name, (text, _) in NETS.items()} | {"odd": ODD, "passed on": PASSED_ON}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def spec_of(name):
    return validate_model(read_model(TEXTS[name])) if name in TEXTS else nets.spec(name)


def both(name, training):
    """Ours in float64, and the module with the same weights and statistics, by way of JSON."""
    spec = spec_of(name)
    built = build(spec, batch=3, training=training)
    statistics = {name: np.array(array) for name, array in built.exe.weights.state.items()}
    built.exe.weights.initialise(built.plan, 0)
    for key, array in statistics.items():
        built.exe.weights.state[key][...] = array
    plain = json.loads(json.dumps(recipe(spec, nets.ADAM)))
    module = net_of(plain).double().train(training)
    module.load_state_dict(tensors(spec, built.exe.weights.params | built.exe.weights.state, module), strict=True)
    x = torch.tensor(built.bound.x.transpose(0, 3, 1, 2).copy())
    return spec, built, module, x


def tensors(spec, arrays, module):
    counters = {key: value for key, value in module.state_dict().items() if key.endswith("num_batches_tracked")}
    return {key: torch.tensor(array) for key, array in torch_arrays(spec, arrays).items()} | counters


def error(ours, theirs) -> float:
    theirs = theirs.detach().numpy()
    assert ours.shape == theirs.shape
    return float(abs(ours - theirs).max() / max(abs(theirs).max(), 1e-6))


@pytest.mark.parametrize("name", [*OWN, *TEXTS])
def test_training(name):
    spec, built, module, x = both(name, training=True)
    loss = torch.nn.functional.cross_entropy(module(x), torch.tensor(built.bound.labels.copy()))
    loss.backward()
    built.run("forward", "loss", "backward", "update")
    assert abs(built.bound.outputs["loss"].mean() - loss.item()) <= 1e-9 * abs(loss.item())
    gradients = torch_arrays(spec, {key: array / 3 for key, array in built.exe.grads.items()})
    theirs = {key: p.grad for key, p in module.named_parameters()}
    assert gradients.keys() == theirs.keys()
    for key, grad in theirs.items():
        assert error(gradients[key], grad) <= 1e-8, key
    buffers = dict(module.named_buffers())
    for key, array in torch_arrays(spec, built.exe.weights.state).items():
        assert error(array, buffers[key]) <= 1e-9, key


@pytest.mark.parametrize("name", [*OWN, *TEXTS])
def test_inference(name):
    _, built, module, x = both(name, training=False)
    built.run("forward", "output")
    with torch.no_grad():
        found = torch.softmax(module(x), 1)
    assert error(built.bound.outputs["prediction"], found) <= 1e-9


@pytest.mark.parametrize("optimizer", [nets.ADAM, nets.MOMENTUM, nets.NESTEROV])
def test_three_steps_give_the_same_losses(optimizer):
    spec, faster = nets.spec("lenet"), optimizer.model_copy(update={"lr": 1e-3})
    ours = Ours(spec, faster, 8, "numpy", 1)
    plain, start = recipe(spec, faster), torch_arrays(spec, ours.arrays())
    theirs = TrainingStep(plain, start, ours.data, fastest_optimizer(plain, ours.data), channels_last=True)
    losses = []
    for _ in range(3):
        ours()
        losses.append((ours.loss(), float(theirs())))
    for mine, other in losses:
        assert mine == pytest.approx(other, rel=1e-4)
    assert losses[2][0] < losses[0][0]


def test_the_sides_are_compared_before_they_are_timed():
    spec = nets.spec("lenet")
    ours = Ours(spec, nets.ADAM, 4, "numpy", 1)
    start = ours.arrays()
    ours()
    rival = Rival(1, compiled=False)
    sides = rival.training(spec, ours, start, ours.loss())
    assert list(sides.engines) == list(rival.columns) == ["eager", "channels_last", "bfloat16"]
    start["conv1.w"] = start["conv1.w"] * 2
    with pytest.raises(AssertionError, match=r"not the same net: the first loss is .* \(eager\)"):
        rival.training(spec, ours, start, ours.loss())


def test_losses_that_are_no_numbers_differ():
    with pytest.raises(AssertionError):
        same_loss("eager", float("nan"), float("nan"))


@pytest.mark.parametrize("form", [{}, {"channels_last": True}, {"bfloat16": True, "channels_last": True}])
def test_predictions(form):
    spec = nets.spec("lenet")
    start = Ours(spec, nets.ADAM, 2, "numpy", 1).arrays()
    x, _ = noise(spec.input, 10, 5)
    ours = OurInference(model_with(spec, start, "numpy"), x)
    ours()
    theirs = Inference(recipe(spec, nets.ADAM), torch_arrays(spec, start), x, **form)()
    assert abs(theirs.float().numpy() - ours.result()).max() <= (0.05 if "bfloat16" in form else 1e-5)
