"""Gradients cut off by length or by value: whole training steps, at any size, on any number of threads."""

import numpy as np
import pytest
from pydantic import ValidationError

from cnnforge.backends.numba.backend import NumbaBackend
from cnnforge.optim import OPTIMIZERS
from cnnforge.spec import ModelSpec
from tests import one_node
from tests.building import build

SPEC = ModelSpec.model_validate(
    {
        "name": "t",
        "input": [6, 6, 2],
        "layers": {
            "c": {"type": "conv", "filters": 5, "kernel": 3, "activation": "relu"},
            "o": {"type": "fc", "units": 3, "activation": "softmax"},
        },
    }
)


def sgd(**fields):
    return OPTIMIZERS["sgd"](type="sgd", lr=1.0, **fields)


def moved(optimizer, backend="numpy"):
    """How far one step of plain gradient descent goes, in all weights together; and the length it reports."""
    made = build(SPEC, batch=8, optimizer=optimizer, dtype="float32", backend=backend)
    before = {name: np.array(array, np.float64) for name, array in made.exe.weights.params.items()}
    made.exe.set_step(step=1, draw=0, first=0, lr=1.0, inv_n=1 / 8, scalars=(0.0, 0.0))
    made.bound.run("forward", "loss", "backward", "update")
    steps = [before[name] - array for name, array in made.exe.weights.params.items()]
    length = made.bound.outputs.get("grad_norm")
    return np.concatenate([np.ravel(s) for s in steps]), None if length is None else float(length[0])


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_a_step_is_as_long_as_the_clip_says(backend):
    free, nothing = moved(sgd(), backend)
    assert nothing is None
    length = np.linalg.norm(free)
    clipped, told = moved(sgd(clip={"norm": length / 3}), backend)
    assert told == pytest.approx(length, rel=1e-4)
    np.testing.assert_allclose(clipped, free / 3, atol=1e-4 * abs(free).max())
    loose, told = moved(sgd(clip={"norm": 2 * length}), backend)
    np.testing.assert_array_equal(loose, free)
    most = abs(free).max() / 2
    cut, _ = moved(sgd(clip={"value": most}), backend)
    np.testing.assert_allclose(cut, free.clip(-most, most), atol=1e-4 * most)


def test_what_is_frozen_does_not_count():
    _, whole = moved(sgd(clip={"norm": 1.0}))
    _, part = moved(sgd(clip={"norm": 1.0}, groups=({"match": "c.*", "frozen": True},)))
    assert 0 < part < whole


@pytest.mark.parametrize("op", ["clip_norm", "clip_value"])
@pytest.mark.parametrize("size", [4095, 4096, 4097, 70_001])
def test_sizes_around_a_piece_and_threads(op, size, monkeypatch):
    sums = np.random.default_rng(0).normal(size=size).astype(np.float32)
    block = np.array([1, 0, 0, 0.1, 0.25, 0, 0, 0])
    outs = [0, ((1,), "float32")] if op == "clip_norm" else [0]
    wanted = one_node.run(op, [sums, block], outs, {"most": 0.3}, twice=False)
    found = []
    for threads in (1, 2):
        monkeypatch.setattr(one_node, "_device", lambda name, threads=threads: NumbaBackend(threads))
        found.append(one_node.run(op, [sums, block], outs, {"most": 0.3}, "numba", twice=False))
    for one, two, other in zip(*found, wanted, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize("clip", [{}, {"norm": 1.0, "value": 1.0}, {"norm": 0.0}, {"value": -1.0}])
def test_one_or_the_other(clip):
    with pytest.raises(ValidationError):
        sgd(clip=clip)


@pytest.mark.parametrize("clip", [{"norm": 0.5}, {"value": 0.02}])
def test_pytorch_clips_the_same(clip):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    grads = [rng.normal(size=shape) for shape in ((3, 4), (7,))]
    tensors = [torch.nn.Parameter(torch.zeros(g.shape, dtype=torch.float64)) for g in grads]
    for tensor, g in zip(tensors, grads, strict=True):
        tensor.grad = torch.tensor(g)
    if "norm" in clip:
        length = torch.nn.utils.clip_grad_norm_(tensors, clip["norm"]).item()
    else:
        torch.nn.utils.clip_grad_value_(tensors, clip["value"])
    n = 5
    flat = np.concatenate([np.ravel(g) for g in grads]) * n
    ((op, most),) = ((f"clip_{name}", value) for name, value in clip.items())
    block = np.array([1, 0, 0, 0.1, 1 / n, 0, 0, 0])
    outs = [0, ((1,), "float64")] if op == "clip_norm" else [0]
    found, *told = one_node.run(op, [flat, block], outs, {"most": most}, twice=False)
    theirs = np.concatenate([t.grad.numpy().ravel() for t in tensors]) * n
    np.testing.assert_allclose(found, theirs, rtol=1e-12)
    if told:
        assert told[0][0] == pytest.approx(length)
