"""Putting a spec on a backend, for tests that look inside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cnnforge.executable import Bound, Executable, Weights
from cnnforge.ir.graph import Graph
from cnnforge.lower import eval_graph, train_graph
from cnnforge.optim import Optimizer
from cnnforge.plan import Plan, make_plan
from cnnforge.spec import ModelSpec
from tests.devices import create


@dataclass
class Built:
    spec: ModelSpec
    graph: Graph
    plan: Plan
    exe: Executable
    bound: Bound

    def run(self, *phases, step: int = 0) -> None:
        n = len(self.bound.x)
        self.exe.set_step(step=step + 1, draw=step, first=0, lr=0.1, inv_n=1 / n, scalars=(0.5, 0.5))
        self.bound.run(*phases)

    def loss(self) -> float:
        self.run("forward", "loss")
        return float(self.bound.outputs["loss"].sum())


def build(
    spec: ModelSpec,
    batch: int = 3,
    dtype: str = "float64",
    training: bool = True,
    optimizer: Optimizer | None = None,
    backend: str = "numpy",
    guard: int = 0,
    capacity: int | None = None,
    seed: int = 0,
    gather: bool = False,
    average: bool = False,
    tally: bool = False,
) -> Built:
    """Plan for ``capacity`` samples (``batch`` where not given), bind for ``batch``, fill with noise from ``seed``."""
    device = create(backend)
    capacity = capacity or batch
    graph = (
        train_graph(spec, capacity, dtype, seed, optimizer, gather=gather, average=average, tally=tally)
        if training
        else eval_graph(spec, capacity, dtype, tally=tally)
    )
    plan = make_plan(graph, device.capabilities, guard)
    weights = Weights(plan, device)
    rng = np.random.default_rng(seed)
    for array in weights.params.values():
        array[...] = rng.normal(size=array.shape) * 0.5
    for name, array in weights.state.items():
        array[...] = rng.uniform(0.5, 1.5, array.shape) if name.endswith("var") else rng.normal(size=array.shape)
    exe = Executable(plan, device, weights)
    bound = exe.bound(batch)
    bound.x[...] = rng.normal(size=bound.x.shape)
    bound.labels[...] = labels(spec, bound.labels, rng)
    return Built(spec, graph, plan, exe, bound)


def labels(spec: ModelSpec, like, rng):
    """Labels that the spec's loss takes."""
    loss = spec.effective_loss.type
    if loss == "softmax_cross_entropy":
        return rng.integers(0, spec.output[-1], like.shape)
    return rng.integers(0, 2, like.shape) if loss == "sigmoid_cross_entropy" else rng.normal(size=like.shape)
