"""Does a training step take as long as ``cnnforge check --time`` says, and as much memory?

For each net: the forecast from a new calibration, the forecast from the calibration of all nets before it (which is
what a sweep meets), and the median of real steps: forward, loss, backward, Adam, in float32.

    python -m benchmarks.forecast [--net lenet plain_vgg …] [--batch 64] [--rounds 5] [--steps 5]

NET is a model config, with @SIZE for pictures of that many rows and columns, or a function of tests.nets. Forecast and
steps take turns: other work on the machine then disturbs both alike.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from statistics import median
from time import perf_counter

import numpy as np

from cnnforge.backends import create
from cnnforge.config import compose, validate
from cnnforge.executable import Executable, Weights
from cnnforge.plan.forecast import TRAINING, measuring_batch, step_seconds
from cnnforge.report.calibration import measured
from cnnforge.report.check import plan_of
from cnnforge.spec import ModelSpec, RunSpec, TrainerSpec
from tests import nets

NETS = ("lenet", "simple_convnet", "plain_vgg", "resnet20", "mobilenet_v2@32", "densenet121@32", "plain_deep")


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", nargs="+", default=NETS)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5)
    args = parser.parse_args(words)
    print(f"batch {args.batch}, medians of {args.rounds} rounds of {args.steps} steps, in ms")
    print(
        f"{'net':<16}{'measured':>10}{'forecast':>10}{'ratio':>7}{'shared':>10}{'ratio':>7}  measured with  calibrating"
    )
    known: dict[str, float] = {}
    for name in args.net:
        run = RunSpec(model=_model(name), trainer=TrainerSpec(batch_size=args.batch))
        plan = plan_of(run)
        batch = measuring_batch(plan, sum(row.macs for row in run.model.table))
        step = _step(run)
        real: list[float] = []
        forecasts: list[float] = []
        spent: list[float] = []
        for _ in range(args.rounds):
            began = perf_counter()
            costs = measured(run, batch)
            spent.append(perf_counter() - began)
            forecasts.append(_known(step_seconds(plan, costs, batch)))
            for _ in range(args.steps):
                began = perf_counter()
                step()
                real.append(perf_counter() - began)
        known = costs | known  # what an earlier net measured stays
        shared = _known(step_seconds(plan, known, batch))
        took, said = median(real), median(forecasts)
        print(
            f"{name:<16}{took * 1e3:>10.2f}{said * 1e3:>10.2f}{said / took:>7.2f}{shared * 1e3:>10.2f}"
            f"{shared / took:>7.2f}{batch:>15}{median(spent):>11.1f} s",
            flush=True,
        )


def _known(seconds: float | None) -> float:
    assert seconds is not None
    return seconds


def _model(name: str) -> ModelSpec:
    make = getattr(nets, name, None)
    name, _, size = name.partition("@")
    words = [f"model={name}"] + ([f"model.input=[{size},{size},3]"] if size else [])
    return make() if make else validate(compose(words), match_data=False).model


def _step(run: RunSpec):
    """One real training step on noise."""
    backend, plan = create(run.trainer.backend), plan_of(run)
    weights = Weights(plan, backend)
    weights.initialise(plan, 0)
    executable = Executable(plan, backend, weights)
    bound = executable.bound(plan.batch)
    backend.put(np.random.default_rng(0).standard_normal(plan.inputs["x"].shape), bound.x)

    def step() -> None:
        executable.set_step(step=1, draw=0, first=0, lr=1e-3, inv_n=1 / plan.batch, scalars=run.optimizer.scalars(1))
        bound.run(*TRAINING)

    step()
    return step


if __name__ == "__main__":
    main()
