"""How long a training step will take on this machine.

The kernels of the plan are measured where they are used: a step runs a few times with noise for data, each call is
timed by itself, and the medians are kept per machine in the user's cache, under a signature of op, shapes and
attributes. Any other net, batch size or optimizer that asks for the same calls is then forecast without measuring.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from importlib.metadata import version
from math import inf
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from cnnforge.backends import create, resolve
from cnnforge.folders import user_cache
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
#: Calls kept in a calibration; the oldest are forgotten.
KEPT = 20_000


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
    machine = this_machine(run)
    path = _file(machine)
    costs, notes = _load(path)
    step = step_seconds(plan, costs, batch)
    if step is None and measure:
        found = measured(run, batch)
        costs = {name: seconds for name, seconds in costs.items() if name not in found} | found
        notes += _save(path, machine, costs)
        step = step_seconds(plan, costs, batch)
    return None if step is None else TimeForecast(step, plan.batch, batch, run.data.training_samples()), notes


def measured(run: RunSpec, batch: int) -> dict[str, float]:
    """Median seconds of every call in a training step of ``batch`` samples by signature, and of ``STEP``."""
    from time import perf_counter

    backend = create(run.trainer.backend, run.trainer.threads)
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


def this_machine(run: RunSpec) -> dict[str, Any]:
    """What measured times depend on beside the calls themselves."""
    return {
        "calibration": VERSION,
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "numpy": version("numpy"),
        "python": platform.python_version(),
        "backend": resolve(run.trainer.backend),
        "threads": run.trainer.threads,
    }


def _cpu() -> str:
    """The processor's model, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.processor() or platform.machine()


def _file(machine: Mapping[str, Any]) -> Path:
    name = blake2b(json.dumps(machine, sort_keys=True).encode(), digest_size=8).hexdigest()
    return user_cache() / f"calibration-{name}.json"


def _load(path: Path) -> tuple[dict[str, float], list[str]]:
    """What was measured before, and a line where the file cannot be used."""
    try:
        seconds = json.loads(path.read_text("utf-8"))["seconds"]
        if not all(isinstance(s, float) and 0 <= s < inf for s in seconds.values()):
            raise ValueError("times that are none")
        return seconds, []
    except FileNotFoundError:
        return {}, []
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return {}, [
            f"the measured times in {path} cannot be read ({_reason(error)}); they are measured anew when asked"
        ]


def _save(path: Path, machine: Mapping[str, Any], costs: Mapping[str, float]) -> list[str]:
    """Write the calibration whole or not at all; a line where that does not work."""
    newest = dict(list(costs.items())[-KEPT:])
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps({"machine": machine, "seconds": newest}, indent=1) + "\n", "utf-8")
        temporary.replace(path)
        return []
    except OSError as error:
        return [f"the measured times cannot be kept in {path} ({_reason(error)}); they are used this once"]


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
