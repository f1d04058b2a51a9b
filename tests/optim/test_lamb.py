"""LAMB over whole models: algorithm 2 of the paper in float64, what it leaves to AdamW, and how long its steps are."""

import numpy as np
import pytest
from pydantic import TypeAdapter

from cnnforge.lower import train_graph
from cnnforge.optim import AnyOptimizer
from tests.building import build
from tests.optim.test_groups import SPEC, run


def make(**fields):
    return TypeAdapter(AnyOptimizer).validate_python({"type": "lamb", **fields})


class AlgorithmTwo:
    """You et al., ICLR 2020, algorithm 2, on whole arrays; ``adapted``: tensors whose step is scaled."""

    def __init__(self, params, adapted, decay, betas=(0.9, 0.999), epsilon=1e-6):
        self.x = {name: np.array(p, np.float64) for name, p in params.items()}
        self.m = {name: np.zeros(p.shape) for name, p in self.x.items()}
        self.v = {name: np.zeros(p.shape) for name, p in self.x.items()}
        self.adapted, self.decay, self.betas, self.epsilon, self.t = adapted, decay, betas, epsilon, 0

    def step(self, grads, rates):
        self.t += 1
        for name, g in grads.items():
            b1, b2 = self.betas
            self.m[name] = b1 * self.m[name] + (1 - b1) * g
            self.v[name] = b2 * self.v[name] + (1 - b2) * g**2
            m, v = self.m[name] / (1 - b1**self.t), self.v[name] / (1 - b2**self.t)
            r = m / (np.sqrt(v) + self.epsilon) + self.decay[name] * self.x[name]
            trust = 1.0
            if name in self.adapted and self.x[name].any():
                trust = np.linalg.norm(self.x[name]) / np.linalg.norm(r)
            self.x[name] = self.x[name] - rates[name] * trust * r


@pytest.mark.parametrize("adapt", ["weights", "all"])
@pytest.mark.parametrize(("backend", "dtype", "limit"), [("numpy", "float64", 1e-11), ("numba", "float32", 1e-4)])
def test_fifty_steps_are_the_papers(adapt, backend, dtype, limit):
    """With a group's rate and decay, and decay of weights alone."""
    groups = [{"match": "conv2.*", "lr": 0.5}, {"match": "fc.b", "weight_decay": 0.3}]
    optimizer = make(lr=0.01, adapt=adapt, weight_decay=0.1, decay="weights", groups=groups)
    built = build(SPEC, dtype=dtype, optimizer=optimizer, backend=backend)
    params = built.exe.weights.params
    params["fc.b"][...] = 0
    weights = {"conv1.w", "conv2.w", "fc.w"}
    decay = {name: 0.1 if name in weights else 0.3 if name == "fc.b" else 0.0 for name in params}
    rates = {name: 0.01 * (0.5 if name.startswith("conv2") else 1.0) for name in params}
    theirs = AlgorithmTwo(params, weights if adapt == "weights" else set(params), decay)
    for step in range(50):
        grads = {}
        for name, dw in built.exe.grads.items():
            dw[...] = np.random.default_rng([step, *name.encode()]).normal(size=dw.shape)
            grads[name] = dw.astype("float64") / 3
        scalars = optimizer.scalars(step + 1)
        built.exe.set_step(step=step + 1, draw=step, first=0, lr=0.01, inv_n=1 / 3, scalars=scalars)
        built.bound.run("update")
        theirs.step(grads, rates)
    for name, array in params.items():
        np.testing.assert_allclose(array, theirs.x[name], rtol=limit, atol=limit * abs(theirs.x[name]).max())


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_a_step_is_as_long_as_the_rate_times_the_weights(backend):
    optimizer = make(adapt="all", weight_decay=0)
    before, after = (run(optimizer, 1.0, backend, steps=steps).exe.weights.params for steps in (0, 1))
    for name, array in before.items():
        moved = np.linalg.norm(after[name].astype("float64") - array)
        assert moved == pytest.approx(0.1 * np.linalg.norm(array), rel=1e-4), name


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_weights_of_length_0_move_as_adams(backend):
    optimizer = make(adapt="all", weight_decay=0)
    built = build(SPEC, dtype="float32", optimizer=optimizer, backend=backend)
    built.exe.weights.params["fc.w"][...] = 0
    built.exe.grads["fc.w"][...] = 5
    built.exe.set_step(step=1, draw=0, first=0, lr=0.1, inv_n=1, scalars=optimizer.scalars(1))
    built.bound.run("update")
    np.testing.assert_allclose(built.exe.weights.params["fc.w"], -0.1, rtol=1e-4)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_what_is_not_finite_shows_in_its_tensor(backend):
    optimizer = make(adapt="all")
    built = build(SPEC, dtype="float32", optimizer=optimizer, backend=backend)
    for dw in built.exe.grads.values():
        dw[...] = 1
    built.exe.grads["conv2.w"][0, 0, 0, 0] = np.nan
    built.exe.set_step(step=1, draw=0, first=0, lr=0.1, inv_n=1, scalars=optimizer.scalars(1))
    built.bound.run("update")
    assert [name for name, p in built.exe.weights.params.items() if not np.isfinite(p).all()] == ["conv2.w"]


def test_biases_and_norms_are_adamws_unless_all_are_adapted():
    def ops(**fields):
        graph = train_graph(SPEC, 2, "float32", 0, make(**fields))
        return [(n.op, n.attrs.get("sizes")) for n in graph.nodes if n.path == ("optimizer",)]

    sizes = (3 * 3 * 2 * 4, 3 * 3 * 4 * 5, 3 * 3 * 5 * 3)
    assert ops() == [("lamb", sizes), ("adamw", None)]
    assert ops(adapt="all") == [("lamb", (*sizes, 4, 4, 5, 3))]
