"""Whole runs with Muon against torch.optim.Muon and AdamW, convolutions flattened as its users do.

PyTorch's Newton-Schulz iteration runs in bfloat16. With only that changed to float64, the runs agree as closely as with
any other optimizer; as it is, they agree as well as bfloat16 lets them.
"""

import numpy as np
import pytest
from pydantic import TypeAdapter

from cnnforge.optim import AnyOptimizer
from cnnforge.spec import ModelSpec
from tests.building import build

torch = pytest.importorskip("torch", minversion="2.9")
if not hasattr(torch.optim, "Muon"):
    pytest.skip("this PyTorch has no Muon", allow_module_level=True)

from tests.parity.reference import Reference  # noqa: E402

LAYERS = {
    "conv1": {"type": "conv", "filters": 6, "kernel": 3, "bias": False},
    "norm1": {"type": "batch_norm", "activation": "tanh"},
    "conv2": {"type": "conv", "filters": 40, "kernel": [1, 2], "activation": "tanh"},
    "conv3": {"type": "conv", "filters": 8, "kernel": 3, "groups": 4, "activation": "tanh"},
    "fc": {"type": "fc", "units": 20, "activation": "tanh"},
    "output": {"type": "fc", "units": 10, "activation": "softmax"},
}
SPEC = ModelSpec.model_validate({"name": "net", "input": [8, 8, 2], "layers": LAYERS})
FC = ModelSpec.model_validate(
    {"name": "fc", "input": [4, 4, 1], "layers": {name: LAYERS[name] for name in ("fc", "output")}}
)
BATCH = 8
VARIANTS = {
    "defaults": {},
    "plain momentum": {"nesterov": False, "momentum": 0.6},
    "as large as AdamW's": {"adjust_lr_fn": "match_rms_adamw", "lr": 2e-3},
    "other iteration": {"ns_coefficients": [2.0, -1.5, 0.5], "ns_steps": 3, "weight_decay": 0.5},
    "output by AdamW": {"adamw": {"match": ["output.*"], "lr": 3e-3, "betas": [0.8, 0.95], "weight_decay": 0.1}},
    "groups": {"groups": [{"match": "fc.*", "lr": 0.5, "weight_decay": 0.3}], "decay": "weights"},
}


@pytest.fixture(autouse=True)
def _one_thread():
    """Small nets: several threads mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def in_its_own_precision(grad, ns_coefficients, ns_steps, eps):
    """``torch.optim._muon._zeropower_via_newtonschulz`` without its ``bfloat16()``."""
    a, b, c = ns_coefficients
    x = grad.clone()
    if grad.size(0) > grad.size(1):
        x = x.T
    x = x / x.norm().clamp(min=eps)
    for _ in range(ns_steps):
        gram = x @ x.T
        update = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.addmm(x, update, x, beta=a)
    return x.T if grad.size(0) > grad.size(1) else x


def theirs_of(ours, params):
    """Muon over (filters, the rest) of each weight, sharing its memory; AdamW over what we leave to it."""
    weights, others, matrices = [], [], []
    for name, p in params.items():
        vector = p.ndim < 2
        own = ours.rule(name, vector)
        rate, decay = own.rates(name, vector)
        group = {"lr": own.lr * rate, "weight_decay": decay}
        if own.type == "muon":
            matrix = torch.nn.Parameter(p.detach().view(len(p), -1))
            matrices.append((p, matrix))
            weights.append(group | {"params": [matrix]})
        else:
            others.append(group | {"params": [p]})
    muon = torch.optim.Muon(
        weights, momentum=ours.momentum, nesterov=ours.nesterov, ns_coefficients=ours.ns_coefficients,
        eps=ours.epsilon, ns_steps=ours.ns_steps, adjust_lr_fn=ours.adjust_lr_fn,
    )  # fmt: skip
    adamw = torch.optim.AdamW(others, betas=ours.adamw.betas, eps=ours.adamw.epsilon)

    def step():
        for p, matrix in matrices:
            matrix.grad = p.grad.view(len(p), -1)
        muon.step()
        adamw.step()

    return step


def learn(spec, fields, steps, dtype="float64", backend="numpy"):
    """Ours and PyTorch's loss at each step, and both sets of weights at the end."""
    rule = TypeAdapter(AnyOptimizer).validate_python({"type": "muon", "lr": 0.01} | fields)
    built = build(spec, batch=BATCH, dtype=dtype, optimizer=rule, backend=backend)
    built.exe.weights.initialise(built.plan, seed=0)
    reference = Reference(spec, built.exe.weights.params, built.exe.weights.state)
    step_theirs = theirs_of(rule, reference.params)
    rng, losses = np.random.default_rng(3), []
    patterns = rng.normal(size=(10, *spec.input))
    for step in range(steps):
        labels = rng.integers(0, 10, BATCH)
        x = (0.5 * (patterns[labels] + rng.normal(size=(BATCH, *spec.input)))).astype(dtype)
        built.bound.x[...], built.bound.labels[...] = x, labels
        scalars = rule.scalars(step + 1)
        built.exe.set_step(step=step + 1, draw=step, first=0, lr=rule.lr, inv_n=1 / BATCH, scalars=scalars)
        built.bound.run("forward", "loss", "backward", "update")
        for p in reference.params.values():
            p.grad = None
        loss = reference.loss(reference.forward(x, training=True)[0], labels)
        loss.backward()
        step_theirs()
        losses.append((float(built.bound.outputs["loss"].mean()), loss.item()))
    ours = {name: np.array(p, np.float64) for name, p in built.exe.weights.params.items()}
    return np.array(losses), ours, {name: reference.to_ours(name, t) for name, t in reference.params.items()}


@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)
def test_fifty_steps(fields, monkeypatch):
    monkeypatch.setattr("torch.optim._muon._zeropower_via_newtonschulz", in_its_own_precision)
    losses, ours, theirs = learn(SPEC, fields, 50)
    np.testing.assert_allclose(losses[:, 0], losses[:, 1], rtol=1e-10)
    assert losses[-5:, 0].mean() < 0.8 * losses[:5, 0].mean(), "nothing was learned"
    for name, p in ours.items():
        np.testing.assert_allclose(p, theirs[name], atol=1e-10 * abs(p).max(), rtol=0, err_msg=name)


def test_two_matrices_alone(monkeypatch):
    """What torch.optim.Muon takes as it is."""
    monkeypatch.setattr("torch.optim._muon._zeropower_via_newtonschulz", in_its_own_precision)
    _, ours, theirs = learn(FC, {}, 50)
    for name in ("fc.w", "output.w"):
        np.testing.assert_allclose(ours[name], theirs[name], atol=1e-10 * abs(ours[name]).max(), rtol=0)


@pytest.mark.parametrize(("backend", "dtype"), [("numpy", "float64"), ("numba", "float32")])
def test_in_bfloat16_a_few_steps_agree_loosely(backend, dtype):
    """bfloat16 has 8 bits: a step's numbers agree to some hundredths of the largest, and so does a short run."""
    steps = 5
    losses, ours, theirs = learn(SPEC, {"weight_decay": 0.0}, steps, dtype, backend)
    np.testing.assert_allclose(losses[:, 0], losses[:, 1], rtol=0.02)
    begun = learn(SPEC, {}, 0, dtype, backend)[1]
    for name in ("conv1.w", "conv2.w", "conv3.w", "fc.w", "output.w"):
        moved, other = ours[name] - begun[name], theirs[name].astype("float64") - begun[name]
        cosine = (moved * other).sum() / np.linalg.norm(moved) / np.linalg.norm(other)
        assert cosine > 0.98, name
        assert np.linalg.norm(moved) == pytest.approx(np.linalg.norm(other), rel=0.05), name
