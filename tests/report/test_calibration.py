"""Measured times: kept per machine, used again, and no trouble where they cannot be kept. No timing is asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cnnforge.plan.forecast import STEP, signature, training_nodes
from cnnforge.report import calibration
from cnnforge.report.calibration import TimeForecast, forecast_time, measured
from cnnforge.report.check import plan_of
from cnnforge.spec import RunSpec, TrainerSpec
from cnnforge.spec.data import DigitsData, NpzData, SyntheticData

TREE = {
    "name": "m",
    "input": [6, 6, 1],
    "layers": {
        "a": {"type": "conv", "filters": 2, "kernel": 3, "activation": "relu"},
        "n": {"type": "batch_norm"},
        "d": {"type": "dropout"},
        "out": {"type": "fc", "units": 3, "activation": "softmax"},
    },
}
RUN = RunSpec.model_validate({"model": TREE, "trainer": {"batch_size": 8, "backend": "numpy"}})
PLAN = plan_of(RUN)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "cnnforge"


def test_every_call_of_a_step_is_measured() -> None:
    costs = measured(RUN, 8)
    assert set(costs) == {STEP, *(signature(node, 8) for node in training_nodes(PLAN))}
    assert all(seconds >= 0 for seconds in costs.values())


def test_measured_once_and_then_known(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert forecast_time(RUN, PLAN, measure=False) == (None, [])
    assert not cache.exists()
    found, notes = forecast_time(RUN, PLAN, measure=True)
    assert found is not None
    assert (found.batch, found.measured, found.samples, notes) == (8, 8, 1294, [])
    monkeypatch.setattr(calibration, "measured", None)  # nothing is measured again
    assert forecast_time(RUN, PLAN, measure=False) == forecast_time(RUN, PLAN, measure=True) == (found, [])
    (file,) = cache.iterdir()
    assert json.loads(file.read_text())["machine"] == calibration.facts(RUN)
    # Another seed or learning rate asks for the same calls, another batch size for others.
    same = RUN.model_copy(update={"seed": 5})
    assert forecast_time(same, plan_of(same), measure=False) == (found, [])
    other = RUN.model_copy(update={"trainer": TrainerSpec(batch_size=4, backend="numpy")})
    assert forecast_time(other, plan_of(other), measure=False) == (None, [])


def test_what_is_known_stays_when_another_net_is_measured(cache: Path) -> None:
    found, _ = forecast_time(RUN, PLAN, measure=True)
    other = RUN.model_copy(update={"trainer": TrainerSpec(batch_size=4, backend="numpy")})
    assert forecast_time(other, plan_of(other), measure=True)[0] is not None
    again, _ = forecast_time(RUN, PLAN, measure=False)
    assert found is not None
    assert again is not None
    assert len(list(cache.iterdir())) == 1


def test_threads_have_a_calibration_of_their_own() -> None:
    forecast_time(RUN, PLAN, measure=True)
    two = RUN.model_copy(update={"trainer": TrainerSpec(batch_size=8, threads=2, backend="numpy")})
    assert forecast_time(two, plan_of(two), measure=False) == (None, [])


def test_the_oldest_calls_are_forgotten(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnforge.measurements.KEPT", 3)
    forecast_time(RUN, PLAN, measure=True)
    (file,) = cache.iterdir()
    assert list(json.loads(file.read_text())["seconds"]) == list(measured(RUN, 8))[-3:]


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "7", "{}", '{"seconds": []}', '{"seconds": {"a": "b"}}', '{"seconds": {"a": NaN}}',
     '{"seconds": {"a": -1.0}}', "\x00\xff"],
)  # fmt: skip
def test_a_damaged_calibration_is_passed_by(cache: Path, content: str) -> None:
    forecast_time(RUN, PLAN, measure=True)
    (file,) = cache.iterdir()
    file.write_text(content, "latin-1")
    found, (note,) = forecast_time(RUN, PLAN, measure=False)
    assert found is None
    assert note.startswith(f"the measured times in {file} cannot be read (")
    assert "\n" not in note
    found, _ = forecast_time(RUN, PLAN, measure=True)
    assert found is not None
    assert forecast_time(RUN, PLAN, measure=False) == (found, [])


def test_a_cache_that_cannot_be_written(cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    found, notes = forecast_time(RUN, PLAN, measure=True)
    assert found is not None
    assert notes[-1].startswith(f"the measured times cannot be kept in {cache}")
    assert notes[-1].endswith("; they are used this once")
    assert all("\n" not in note for note in notes)


def test_the_text() -> None:
    assert str(TimeForecast(0.016, 64, 64, 1294)) == (
        "training time 16 ms a step, 340 ms an epoch of 1,294 samples\n"
        "  (as measured on this machine; 5% for data included, validation not)"
    )
    assert str(TimeForecast(2.0, 64, 8, None)) == (
        "training time 2 s a step, 32.8 s for 1,000 samples\n"
        "  (as measured on this machine; 5% for data included, validation not; scaled from a batch of 8)"
    )


@pytest.mark.parametrize(
    ("data", "samples"),
    [
        (DigitsData(type="digits"), 1294),
        (DigitsData(type="digits", limit=100), 100),
        (DigitsData(type="digits", test=0.33, validation=0.05), 1144),
        (SyntheticData(type="synthetic", samples=101, validation=0.5), 50),
        (SyntheticData(type="synthetic", samples=10, validation=0.0, limit=20), 10),
    ],
)
def test_samples_of_an_epoch_without_reading(data, samples: int) -> None:
    from cnnforge.data import load

    assert data.training_samples() == samples == len(load(data, (8, 8, 1), seed=0).train)


def test_samples_that_only_reading_tells() -> None:
    assert NpzData(type="npz", path="x.npz").training_samples() is None


def test_a_forecast_from_a_calibration_needs_no_numpy() -> None:
    """``check`` must feel instant, with a calibration and without."""
    code = (
        "import sys\nfrom cnnforge.cli.main import main\n"
        "assert main(['check', 'model=lenet']) == 0\nassert 'numpy' not in sys.modules"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
