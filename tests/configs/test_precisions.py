"""Every shipped network plans and binds for a GPU in every precision, on a machine without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnforge.backends.cupy.capabilities import CAPABILITIES
from cnnforge.backends.null import NullBackend
from cnnforge.config import compose, read_model, validate, validate_model
from cnnforge.executable import Executable, Weights
from cnnforge.ir.precision import PRECISIONS
from cnnforge.lower import eval_graph, step_graph
from cnnforge.plan import Plan, make_plan
from cnnforge.spec import ModelSpec, RunSpec, TrainerSpec

CONFIGS = Path(__file__).parents[2] / "configs"
MODELS = sorted(file.stem for file in (CONFIGS / "model").glob("*.yaml"))
EXPERIMENTS = sorted(file.stem for file in (CONFIGS / "experiment").glob("*.yaml"))
#: What only a GPU computes in.
ON_GPU = sorted(name for name, numbers in PRECISIONS.items() if numbers.backend)
#: Those of hundreds of nodes.
LARGE = {
    "densenet121", "efficientnet_b0", "googlenet", "mobilenet_v1", "mobilenet_v2", "resnet18", "resnet20", "resnet20_b",
    "resnet32", "resnet34", "resnet50", "resnet56", "resnet101", "shufflenet_v1", "cifar_resnet9", "cifar10_best",
    "cifar10_fast", "resnet20_cifar10",
}  # fmt: skip


def marked(names: list[str]) -> list[object]:
    return [pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else []) for name in names]


def planned(run: RunSpec) -> Plan:
    """Training and inference, bound to nothing; the plan of training."""
    plans = [
        make_plan(graph, CAPABILITIES)
        for graph in (step_graph(run, 4), eval_graph(run.model, 4, run.trainer.precision))
    ]
    device = NullBackend(CAPABILITIES)
    for plan in plans:
        bound = Executable(plan, device, Weights(plan, device)).bound(3)
        bound.run(*bound.calls)
    return plans[0]


def run(model: ModelSpec, precision: str) -> RunSpec:
    return RunSpec(model=model, trainer=TrainerSpec(precision=precision))


@pytest.mark.parametrize("precision", ON_GPU)
@pytest.mark.parametrize("name", marked(MODELS))
def test_a_network_plans_and_binds(name: str, precision: str) -> None:
    model = validate_model(read_model(CONFIGS / "model" / f"{name}.yaml"))
    plan = planned(run(model, precision))
    assert plan.precision == precision
    if PRECISIONS[precision].mixed:
        full = make_plan(step_graph(run(model, "float32"), 4), CAPABILITIES)
        same = ("params", "grads", "slots", "state")
        assert {name: plan.sizes[name] for name in same} == {name: full.sizes[name] for name in same}


@pytest.mark.parametrize("precision", ON_GPU)
@pytest.mark.parametrize("name", marked(EXPERIMENTS))
def test_an_experiment_plans_and_binds(name: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONFIGS.parent)
    made = [f"experiment={name}", f"trainer.precision={precision}", "trainer.backend=cupy"]
    assert planned(validate(compose(made), match_data=False)).precision == precision
