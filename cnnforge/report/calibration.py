"""How long a training step will take on this machine.

The kernels of the plan are measured where they are used: a step runs a few times with noise for data, each call is
timed by itself, and the medians are kept per machine in the user's cache, under a signature of op, shapes and
attributes. Any other net, batch size or optimizer that asks for the same calls is then forecast without measuring.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from statistics import median
from typing import TYPE_CHECKING, Any

from cnnforge.backends import create, resolve
from cnnforge.measurements import Measurements, this_machine
from cnnforge.plan import Plan
from cnnforge.plan.forecast import STEP, TRAINING, measuring_batch, signature, step_seconds, training_nodes
from cnnforge.report.check import plan_of
from cnnforge.report.table import seconds_text
from cnnforge.spec import RunSpec

if TYPE_CHECKING:
    from cnnforge.backends.base import Backend, Step

#: Part of a calibration's name: raise it when kernels or measuring change so much that old numbers mislead.
VERSION = 1
#: Share of an epoch that reading and normalising batches adds to its steps.
DATA_SHARE = 0.05
#: Rounds of a step: as many as fit into the seconds, within (fewest, most). A short step needs many: what else the
#: machine does comes in bursts.
ROUNDS, SECONDS = (2, 100), 0.7


@dataclass(frozen=True)
class TimeForecast:
    """Seconds that training will take.

    step:     of one step with ``batch`` samples;  samples: in an epoch, None where only reading the data would tell
    measured: with how many samples calls were measured; other times are scaled
    """

    step: float
    batch: int
    measured: int
    samples: int | None

    def seconds(self, samples: int) -> float:
        """Of training on so many samples, data included."""
        return self.step * samples / self.batch * (1 + DATA_SHARE)

    def to_json(self) -> dict[str, Any]:
        """As ``cnnforge check --json`` shows it."""
        return {
            "step_seconds": self.step,
            "batch": self.batch,
            "measured_batch": self.measured,
            "samples": self.samples,
            "epoch_seconds": None if self.samples is None else self.seconds(self.samples),
            "seconds_per_1000_samples": self.seconds(1000),
        }

    def __str__(self) -> str:
        whole = "for 1,000 samples" if self.samples is None else f"an epoch of {self.samples:,} samples"
        time = seconds_text(self.seconds(self.samples or 1000))
        scaled = "" if self.measured == self.batch else f"; scaled from a batch of {self.measured}"
        return (
            f"training time {seconds_text(self.step)} a step, {time} {whole}\n"
            f"  (as measured on this machine; {DATA_SHARE:.0%} for data included, validation not{scaled})"
        )


NOT_MEASURED = "training time: not measured on this machine; cnnforge check --time does it once"


def forecast_time(run: RunSpec, plan: Plan, measure: bool) -> tuple[TimeForecast | None, list[str]]:
    """How long training takes, where this machine's calibration knows every call; with ``measure`` it comes to know.

    Returns (forecast or None, what was wrong with the cache, in lines). The cache is a convenience: where it cannot be
    read or written, measuring goes on without it.
    """
    batch = measuring_batch(plan, sum(row.macs for row in run.model.table))
    file = Measurements("calibration", facts(run), "seconds", "the measured times")
    costs, notes = file.load(lambda s: isinstance(s, float) and 0 <= s < inf)
    step = step_seconds(plan, costs, batch)
    if step is None and measure:
        found = measured(run, batch)
        costs = {name: seconds for name, seconds in costs.items() if name not in found} | found
        notes += file.save(costs)
        step = step_seconds(plan, costs, batch)
    return None if step is None else TimeForecast(step, plan.batch, batch, run.data.training_samples()), notes


def measured(run: RunSpec, batch: int) -> dict[str, float]:
    """Median seconds of every call in a training step of ``batch`` samples by signature, and of ``STEP``."""
    from time import perf_counter

    backend = create(run.trainer.backend, run.trainer.threads, device=run.trainer.device)
    plan = plan_of(run, batch)
    names = [signature(node, batch) for node in training_nodes(plan)]
    steps = _bind(plan, backend)
    rounds: list[list[float]] = []
    beside: list[float] = []

    def timed(calls: list[float]) -> Iterator[Step]:
        for step in steps:
            began = perf_counter()
            yield step  # the backend runs it before it asks for the next
            backend.sync()
            calls.append(perf_counter() - began)

    backend.run(timed([]))  # touches memory for the first time
    (fewest, most), until = ROUNDS, perf_counter() + SECONDS
    while len(rounds) < fewest or (len(rounds) < most and perf_counter() < until):
        calls: list[float] = []
        began = perf_counter()
        backend.run(timed(calls))
        beside.append(perf_counter() - began - sum(calls))
        rounds.append(calls)
    costs: dict[str, list[float]] = {}
    for name, *times in zip(names, *rounds, strict=True):
        costs.setdefault(name, []).extend(times)
    return {name: median(times) for name, times in costs.items()} | {STEP: median(beside)}


def _bind(plan: Plan, backend: Backend) -> list[Step]:
    """A step's calls with noise for pictures and plausible weights: with zeros some would be faster."""
    import numpy as np

    from cnnforge.executable import Executable, Weights

    noise = np.random.default_rng(0).standard_normal(1 << 16, np.float32)
    weights = Weights(plan, backend)
    for name, p in plan.params.items():
        backend.put(np.resize(noise, p.value.shape) * (2 / p.fan[0]) ** 0.5, weights.params[name])
    executable = Executable(plan, backend, weights)
    bound = executable.bound(plan.batch)
    backend.put(np.resize(noise, plan.inputs["x"].shape), bound.x)
    # lr: 0 keeps the weights as they are, at the same cost.
    executable.set_step(step=1, draw=0, first=0, lr=0.0, inv_n=1 / plan.batch, scalars=(0.5, 0.5))
    return list(bound.steps(*TRAINING))


def facts(run: RunSpec) -> dict[str, Any]:
    """What measured times depend on beside the calls themselves."""
    trainer = run.trainer
    return {"calibration": VERSION, **this_machine(), "backend": resolve(trainer.backend), "threads": trainer.threads}
