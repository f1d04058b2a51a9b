"""Whole nets of composite blocks against hand-written PyTorch modules: forward, every gradient, running statistics."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from cnnforge.blocks import BLOCKS, Composite  # noqa: E402
from cnnforge.config import read_model, validate_model  # noqa: E402
from tests.building import build  # noqa: E402
from tests.parity.nets import NETS  # noqa: E402

#: Our short names in PyTorch's words.
WORDS = {"w": "weight", "gamma": "weight", "b": "bias", "beta": "bias", "mean": "running_mean", "var": "running_var"}


def to_torch(array) -> np.ndarray:
    array = np.asarray(array)
    order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim)
    return np.ascontiguousarray(array if order is None else array.transpose(order))


def theirs(name: str) -> str:
    owner, _, short = name.rpartition(".")
    return f"{owner}.{WORDS[short]}"


#: Largest difference relative to the largest number of the tensor. Whole deep nets are compared in float64 alone: in
#: float32 the last bit decides on which side of 0 a ReLU's input lies, in any two right programs.
TOLERANCE = {"float64": 1e-9, "float32": 1e-4}
SHALLOW = ("inception", "squeeze and excite", "shuffle and references")
CASES = [(name, "float64") for name in NETS] + [(name, "float32") for name in SHALLOW]


def error(ours, reference) -> float:
    reference = reference.detach().numpy()
    assert ours.shape == reference.shape
    return float(abs(ours - reference).max() / max(abs(reference).max(), 1e-6))


def pair(name: str, dtype: str, training: bool, batch: int = 4):
    """Our net bound in ``dtype``, and PyTorch's with the same weights and statistics."""
    text, module = NETS[name]
    built = build(validate_model(read_model(text)), batch=batch, dtype=dtype, training=training)
    for key, array in built.exe.weights.params.items():
        if key.endswith("w"):  # deep nets: keep activations of one size, so that rounding stays rounding
            array *= 2 * np.sqrt(2 / np.prod(array.shape[:-1]))
    reference = module().to(getattr(torch, dtype))
    weights = built.exe.weights.params | built.exe.weights.state
    state = {theirs(key): torch.tensor(to_torch(array)) for key, array in weights.items()}
    counters = {key: value for key, value in reference.state_dict().items() if key.endswith("num_batches_tracked")}
    reference.load_state_dict(state | counters, strict=True)
    reference.train(training)
    return built, reference


def forward(built, reference):
    x = torch.tensor(built.bound.x.transpose(0, 3, 1, 2).copy())
    z = reference(x)
    return z, torch.nn.functional.cross_entropy(z, torch.tensor(built.bound.labels.copy()))


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_training(name, dtype):
    most = TOLERANCE[dtype]
    built, reference = pair(name, dtype, training=True)
    _, loss = forward(built, reference)
    loss.backward()
    built.run("forward", "loss", "backward", "update")
    assert abs(built.bound.outputs["loss"].mean() - loss.item()) <= most * max(1, abs(loss.item()))
    gradients = {key: p.grad for key, p in reference.named_parameters()}
    assert {theirs(key) for key in built.exe.grads} == gradients.keys()
    for key, grad in built.exe.grads.items():
        assert error(to_torch(grad) / len(built.bound.x), gradients[theirs(key)]) <= most, key
    statistics = dict(reference.named_buffers())
    for key, array in built.exe.weights.state.items():
        assert error(array, statistics[theirs(key)]) <= most, key


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_inference(name, dtype):
    built, reference = pair(name, dtype, training=False)
    with torch.no_grad():
        z, _ = forward(built, reference)
    built.run("forward", "output", "loss")
    assert error(built.bound.outputs["prediction"], torch.softmax(z, 1)) <= TOLERANCE[dtype]


def test_every_composite_block_is_in_a_net():
    composed = {name for name, block in BLOCKS.items() if issubclass(block, Composite)} | {"merge", "channel_shuffle"}
    types = {
        kind
        for text, _ in NETS.values()
        for kind in composed
        if f"type: {kind}" in text or (kind == "sequence" and "layers:" in text)
    }
    assert types == composed
