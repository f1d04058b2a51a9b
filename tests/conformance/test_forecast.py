"""The memory forecast against what really happens: bytes asked for, and resident memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cnnforge.backends import create
from cnnforge.config import compose, validate
from cnnforge.executable import Executable, Weights
from cnnforge.report.check import check, plan_of

ROOT = Path(__file__).parents[2]


def test_lenets_forecast_is_what_binding_allocates() -> None:
    asked: list[int] = []

    class Counting(type(create("auto"))):
        def buffer(self, nbytes):
            asked.append(nbytes)
            return super().buffer(nbytes)

    run = validate(compose(["model=lenet"]))
    device, plan = Counting(), plan_of(run)
    executable = Executable(plan, device, Weights(plan, device))
    executable.bound(plan.batch)
    executable.bound(plan.batch // 2)
    assert sum(asked) == check(run).memory["total"] == executable.nbytes


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="resident memory is read from /proc")
@pytest.mark.parametrize(
    ("overrides", "batch"),
    [
        (["model=resnet20"], 64),
        (["model=mobilenet_v2", "model.input=[32,32,3]"], 64),
        (["model=simple_convnet"], 320),
    ],
)
def test_resident_memory_grows_by_the_forecast(overrides: list[str], batch: int) -> None:
    """Three steps of over 100 MB in a fresh process, within 5%: neither more memory than forecast nor unused memory."""
    command = [sys.executable, "-m", "tests.conformance.resident", str(batch), *overrides]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["forecast"] > 100e6
    assert abs(found["grown"] / found["forecast"] - 1) < 0.05, found
