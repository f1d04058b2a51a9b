"""Every shipped net and experiment on the way to a GPU: planned, bound to kernels, and looked at, without one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cnnforge.backends.cupy.backend import CupyBackend
from cnnforge.backends.cupy.capabilities import CAPABILITIES
from cnnforge.backends.cupy.device import Queued
from cnnforge.backends.cupy.ops import KERNELS
from cnnforge.backends.null import NullBackend
from cnnforge.config import compose, read_model, validate, validate_model
from cnnforge.executable import Executable, Weights
from cnnforge.lower import eval_graph, step_graph, train_graph
from cnnforge.optim.adam import Adam
from cnnforge.plan import PHASES, make_plan
from tests.backends.cupy.blank import BlankDevice
from tests.backends.cupy.emulator import Emulator
from tests.ownership import Ownership

CONFIGS = Path(__file__).parents[3] / "configs"
MODELS = sorted(file.stem for file in (CONFIGS / "model").glob("*.yaml"))
EXPERIMENTS = sorted(file.stem for file in (CONFIGS / "experiment").glob("*.yaml"))
#: Nets of every kind that is there; the others differ from one of them by how often they repeat.
SOME = {"lenet", "resnet20", "resnet50", "mobilenet_v2", "googlenet", "shufflenet_v1", "small_mnist", "alexnet"}
ADAM = Adam(type="adam")
#: Samples planned for, and those of an epoch's last step.
LARGEST, PARTIAL = 16, 7
#: Ops that the host has a part in, so that no CUDA graph has them.
HOST = {"gather_ranks"}


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)


def model(name):
    return validate_model(read_model(CONFIGS / "model" / f"{name}.yaml"))


def training(name, batch=LARGEST):
    return train_graph(model(name), batch, "float32", 0, ADAM)


def executable(plan, backend):
    return Executable(plan, backend, Weights(plan, backend))


def launched(plan, backend=None):
    """What one step of the largest batch launches, by kernel: counted while nothing runs."""
    backend = backend or CupyBackend(BlankDevice())
    executable(plan, backend).bound(plan.batch).run(*PHASES)
    return backend.device.launched


def examine(graph):
    """Plans, binds without a device, plays the plan on a map of memory, and binds what a GPU is given."""
    null = NullBackend(CAPABILITIES)
    plan = make_plan(graph, null.capabilities)
    Ownership(plan).play(*PHASES)
    on_null, on_gpu = executable(plan, null), executable(plan, CupyBackend(BlankDevice()))
    for batch in (plan.batch, min(PARTIAL, plan.batch)):
        on_null.bound(batch).run(*PHASES)
        bound = on_gpu.bound(batch)
        bound.run(*PHASES)
        for call in (call for calls in bound.calls.values() for call in calls):
            parts = [op for op, _, _ in call.node.attrs["parts"]] if "parts" in call.node.attrs else [call.node.op]
            assert KERNELS.keys() >= set(parts), call.node.op
            assert isinstance(call.step, Queued) == HOST.isdisjoint(parts), f"{call.node.op}: in a CUDA graph or not?"
    return plan


@pytest.mark.parametrize("name", [n if n in SOME else pytest.param(n, marks=pytest.mark.slow) for n in MODELS])
def test_every_model_is_planned_and_bound(name):
    examine(training(name))
    plan = examine(eval_graph(model(name), LARGEST, "float32"))
    assert all(segment.kind == "native" for segment in plan.segments)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_planned_and_bound(name):
    """With its own optimizer, loss, labels and precision."""
    run = validate(compose([f"experiment={name}", "trainer.backend=cupy"]), match_data=False)
    examine(step_graph(run, LARGEST))


def test_several_processes_meet_outside_of_graphs_alone():
    graph = train_graph(model("resnet20"), LARGEST, "float32", 0, ADAM, ranks=4, sync_norms=True)
    plan = examine(graph)
    assert any(n.op in HOST for segment in plan.segments for n in segment.nodes)


def test_numbers_of_a_large_batch_fit_their_types():
    """No size is beyond what a kernel counts, where a batch fills a large card."""
    assert launched(make_plan(training("resnet50", 512), CAPABILITIES))


#: Kernels of one training step with Adam, where cuBLAS has the products: each part of a chain by itself, and in chains.
LAUNCHES = {"lenet": (44, 37), "resnet20": (279, 223), "resnet50": (692, 591), "mobilenet_v2": (641, 578)}


@pytest.mark.parametrize("name", LAUNCHES)
def test_chains_take_launches_away(name):
    graphs = [training(name) for _ in range(2)]
    apart = launched(make_plan(graphs[0], replace(CAPABILITIES, chains=frozenset())))
    assert (apart.total(), launched(make_plan(graphs[1], CAPABILITIES)).total()) == LAUNCHES[name]


def test_as_many_are_launched_where_there_is_memory():
    """The emulator counts the same: what is counted above is what runs."""
    plan = make_plan(train_graph(model("lenet1"), 2, "float32", 0, ADAM), CAPABILITIES)
    backend = CupyBackend(Emulator())
    exe = executable(plan, backend)
    exe.set_step(step=1, draw=0, first=0, lr=0.1, inv_n=0.5, scalars=(0.5, 0.5))
    exe.bound(2).run(*PHASES)
    assert backend.device.launched == launched(plan, CupyBackend(BlankDevice(library=False))).total()
