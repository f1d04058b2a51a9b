"""Where a number stopped being finite."""

import numpy as np
import pytest

from cnnforge.spec import ModelSpec
from cnnforge.train.diagnosis import locate
from tests.building import build
from tests.devices import EMULATED

SPEC = ModelSpec.model_validate(
    {
        "name": "t",
        "input": [6, 6, 1],
        "layers": {
            "first": {"type": "conv", "filters": 3, "kernel": 3, "activation": "relu"},
            "second": {"type": "conv", "filters": 3, "kernel": 3},
            "o": {"type": "fc", "units": 2, "activation": "softmax"},
        },
    }
)
ROWS = np.array([40, 41, 42, 43])


@pytest.fixture(params=["numpy", "numba"])
def made(request):
    made = build(SPEC, batch=4, dtype="float32", backend=request.param)
    made.bound.x[...] = np.random.default_rng(0).normal(size=(4, 6, 6, 1))
    made.bound.labels[...] = [0, 1, 1, 0]
    return made


def find(made):
    with np.errstate(all="ignore"):
        return locate(made.exe, made.bound, ROWS, {row.path: row.name for row in SPEC.table})


def test_nothing_is_wrong(made):
    assert find(made) is None


def test_a_sample_that_is_no_number(made):
    made.bound.x[2, 1, 1, 0] = np.nan
    found = find(made)
    assert (found.layer, found.samples, found.intact) == ("data", (42,), True)


def test_a_weight_that_is_no_number(made):
    made.exe.weights.params["second.w"][0, 0, 0, 0] = np.inf
    found = find(made)
    assert (found.layer, found.intact) == ("second.w", False)
    assert "second.w is not finite" in str(found)


def test_the_layer_that_overflows_first_and_for_whom(made):
    made.exe.weights.params["second.w"][...] = 3e38
    made.bound.x[1] = 1e-30  # too small for its sums to overflow
    made.exe.weights.params["first.b"][...] = 0
    found = find(made)
    assert (found.layer, found.intact) == ("second", True)
    assert set(found.samples) <= {40, 42, 43}
    assert found.samples
    assert "second is the first layer whose output is not finite" in str(found)
    assert found.numbers["largest |second.w|"] == pytest.approx(3e38)


@pytest.mark.parametrize(("half", "weight"), [("float16", 6e4), ("bfloat16", 3e38)])
def test_a_layer_that_overflows_in_a_half_type(half, weight):
    made = build(SPEC, batch=4, dtype=half, backend=EMULATED)
    made.bound.labels[...] = 0
    made.exe.weights.params["first.b"][...] = 2
    made.exe.weights.params["second.w"][...] = weight
    found = find(made)
    assert (found.layer, found.samples, found.intact) == ("second", (40, 41, 42, 43), True)
    assert f"second.w.{half}" in str(found)
    assert found.numbers[f"largest |second.w.{half}|"] == pytest.approx(weight, rel=0.01)
