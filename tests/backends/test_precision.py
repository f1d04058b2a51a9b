"""A loss scale over many updates, and at its ends, on every backend."""

from __future__ import annotations

import numpy as np
import pytest

from cnnforge.backends.constants import LEAST_SCALE, MOST_SCALE
from cnnforge.backends.cupy.cells import THREADS
from cnnforge.backends.cupy.optimizer import ELEMENTS, square_parts
from cnnforge.ir.graph import DEVICE_FIELDS
from tests import formulas, one_node
from tests.devices import EMULATED

BACKENDS = ["numpy", EMULATED, pytest.param("cupy", marks=pytest.mark.gpu)]


def guard(
    sums: np.ndarray, backend: str, scale: float, since: float = 0, stopped: float = 0
) -> tuple[np.ndarray, dict]:
    device = np.array([scale, since, 0, stopped, 0, 0])
    sums, device = one_node.run("guard", [sums, device], [0, 1], {}, backend)
    return sums, dict(zip(DEVICE_FIELDS, device, strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_scale_follows_pytorchs_rule_from_update_to_update(backend):
    expected = formulas.Scaling(2.0**16, 1997, False, 0)
    scale, since = expected.scale, expected.since
    for finite in (True, True, True, False, False, True, False):
        sums = np.array([1.0, 2.0 if finite else np.inf], np.float32) * scale
        expected = expected.after(finite)
        grads, device = guard(sums, backend, scale, since)
        assert (device["scale"], device["since"], device["skip"]) == (expected.scale, expected.since, not finite)
        assert grads[0] == 1
        scale, since = device["scale"], device["since"]
    assert scale == 2.0**14


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_number_that_is_not_finite_is_enough(backend, bad):
    for at in (0, 40_000, 70_000):
        sums = np.zeros(70_001, np.float32)
        sums[at] = bad
        assert guard(sums, backend, 4.0)[1]["skip"] == 1
    assert guard(np.full(70_001, 3e38, np.float32), backend, 4.0)[1]["skip"] == 0, "large, and their sum is infinite"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_scale_stays_where_it_and_its_inverse_are_numbers(backend):
    nan, fine = np.full(1, np.nan, np.float32), np.ones(1, np.float32)
    assert guard(nan, backend, LEAST_SCALE)[1]["scale"] == LEAST_SCALE
    assert guard(fine, backend, MOST_SCALE, 1999)[1]["scale"] == MOST_SCALE
    for scale in (LEAST_SCALE, MOST_SCALE):
        assert 0 < np.float32(scale) < np.inf
        assert guard(fine, backend, scale)[0] == np.float32(1 / scale) > 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_once_training_has_stopped_every_update_is_left_out_and_the_scale_stays(backend):
    for sums in (np.ones(3, np.float32), np.full(3, np.inf, np.float32)):
        _, device = guard(sums, backend, 8.0, 1999, stopped=17)
        assert device == {"scale": 8, "since": 1999, "skip": 1, "stopped": 17, "loss": 0, "hits": 0}


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_block_of_a_large_network_is_heard(backend):
    """More blocks than the one that judges has threads: the number is in the last one's share."""
    parts = 300
    sums = np.zeros(parts * THREADS * ELEMENTS, np.float32)
    assert square_parts(sums.size) == parts
    sums[(parts - 1) * THREADS] = np.inf
    assert guard(sums, backend, 4.0)[1]["skip"] == 1
