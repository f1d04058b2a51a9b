"""How much a training step's resident memory grows: run as a process of its own by test_forecast.py.

    python -m tests.conformance.resident BATCH MODEL [OVERRIDE …]

Prints as JSON the forecast's ``total`` and the
growth, in bytes, of this process's resident memory from before the weights and the executable are made until three
steps have run. The interpreter, NumPy and the kernels are loaded and warm before the first reading.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from cnnforge.backends import create, resolve
from cnnforge.config import compose, validate
from cnnforge.executable import Executable, Weights
from cnnforge.lower import train_graph
from cnnforge.optim import Adam
from cnnforge.plan import make_plan
from cnnforge.plan.forecast import memory
from tests.building import build, labels


def resident() -> int:
    """Bytes of this process that are in memory now (Linux)."""
    lines = Path("/proc/self/status").read_text().split("\n")
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def main(batch: int, *overrides: str) -> None:
    spec = validate(compose(overrides), match_data=False).model
    # A batch at which the same kernels are taken as at the real one: their code is no part of the forecast.
    warm = build(spec, batch=16, dtype="float32", optimizer=Adam(type="adam"), backend=resolve("auto"))
    warm.run("forward", "loss", "backward", "update")
    del warm
    backend, rng = create("auto"), np.random.default_rng(0)
    plan = make_plan(train_graph(spec, batch, "float32", 0, Adam(type="adam")), backend.capabilities)
    before = resident()
    weights = Weights(plan, backend)
    weights.initialise(plan, 0)
    executable = Executable(plan, backend, weights)
    bound = executable.bound(batch)
    bound.labels[...] = labels(spec, bound.labels, rng)
    for step in range(3):
        for picture in bound.x:  # one at a time: the whole batch in float64 would count as growth
            picture[...] = rng.normal(size=picture.shape)
        executable.set_step(step=step + 1, draw=step, first=0, lr=1e-3, inv_n=1 / batch, scalars=(0.5, 0.5))
        bound.run("forward", "loss", "backward", "update")
    print(json.dumps({"forecast": memory(plan)["total"], "grown": resident() - before}))


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
