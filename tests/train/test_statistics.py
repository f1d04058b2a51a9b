"""What is said of each layer, against sums by hand."""

import numpy as np
import pytest

from cnnforge.optim import OPTIMIZERS
from cnnforge.spec import ModelSpec
from cnnforge.train.statistics import LayerStatistics
from tests.building import build

SPEC = ModelSpec.model_validate(
    {
        "name": "t",
        "input": [4, 4, 1],
        "layers": {
            "c": {"type": "conv", "filters": 3, "kernel": 3, "activation": "relu"},
            "o": {"type": "fc", "units": 2, "activation": "softmax"},
        },
    }
)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_norms_ratios_and_dead_units(backend):
    made = build(SPEC, batch=4, optimizer=OPTIMIZERS["sgd"](type="sgd", lr=0.5), dtype="float32", backend=backend)
    weights = made.exe.weights.params
    weights["c.b"][:] = [0, -1e6, 0]  # its second filter never fires
    rng = np.random.default_rng(0)
    made.bound.x[...], made.bound.labels[...] = rng.normal(size=(4, 4, 4, 1)), [0, 1, 1, 0]
    names = {row.path: row.name for row in SPEC.table}
    statistics = LayerStatistics(made.exe, names, every=10, last=27)
    assert [step for step in range(1, 31) if statistics.due(step)] == [1, 10, 20, 27, 30]
    before = {name: np.array(array, np.float64) for name, array in weights.items()}
    made.exe.set_step(step=1, draw=0, first=0, lr=0.5, inv_n=0.25, scalars=(0.0, 0.0))
    made.bound.run("forward", "loss")
    found = statistics.before(made.bound)
    made.bound.run("backward", "update")
    found |= statistics.after(0.25)
    assert found["layer/c/dead"] >= 1 / 3
    for name in ("c.w", "o.w"):
        gradient = np.linalg.norm(made.exe.grads[name].astype(np.float64)) / 4
        assert found[f"layer/{name}/grad_norm"] == pytest.approx(gradient)
        # plain gradient descent moves by lr times the gradient
        assert found[f"layer/{name}/update_ratio"] == pytest.approx(
            0.5 * gradient / np.linalg.norm(before[name]), rel=1e-4
        )
    assert set(found) == {"layer/c/dead"} | {
        f"layer/{w}/{what}" for w in ("c.w", "o.w") for what in ("grad_norm", "update_ratio")
    }
