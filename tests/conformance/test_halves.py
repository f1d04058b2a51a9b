"""Every op that a mixed graph has in a half type, beside the numpy backend in float64."""

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cnnforge.backends.cupy.backend import CupyBackend
from cnnforge.backends.numpy.capabilities import HEADS, TAILS
from tests import one_node
from tests.conformance import halves
from tests.conformance.cases import CASES
from tests.devices import EMULATED

BACKENDS = [pytest.param(EMULATED, marks=pytest.mark.slow), pytest.param("cupy", marks=pytest.mark.gpu)]
half_types = pytest.mark.parametrize("half", halves.HALVES)
CHAINS = [(head, tail) for head in HEADS for tail in ("", *TAILS)]
few = settings(
    max_examples=10,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)


def test_every_op_is_tried_or_is_of_float32():
    ops = CupyBackend.capabilities.ops
    assert halves.WIDE.keys() <= set(halves.OPS)
    assert {*halves.OPS, *halves.FLOAT32, *halves.CASTS} >= ops


@half_types
@pytest.mark.parametrize("op", halves.OPS)
@pytest.mark.parametrize("backend", BACKENDS)
@few
@given(data=st.data())
def test_a_kernel_rounds_once(backend, op, half, data):
    case = data.draw(CASES[op]("float32"))
    ins, outs = halves.narrowed(op, case.ins, case.outs, half)
    if op == "batch_norm":  # with values that became nearly alike everything is divided by a rounding error
        assume((np.var(ins[0].reshape(-1, ins[0].shape[-1]).astype("float64"), axis=0) > 1e-2).all())
    expected = halves.exactly(op, ins, outs, case.attrs)
    assume(all((abs(e) < halves.MOST[half]).all() for e in expected if e.dtype == np.float64))
    halves.assert_near(op, case, half, backend)


@half_types
@pytest.mark.parametrize("backend", [EMULATED, BACKENDS[1]])
def test_casts_are_numpys_to_the_bit(backend, half):
    """A million floats, and every pattern back: on a card by its own arithmetic."""
    bits = np.random.default_rng(3).integers(0, 1 << 32, 1_000_000, np.uint32)
    wide = bits.view(np.float32)
    wide = wide[~np.isnan(wide)]
    with np.errstate(over="ignore"):
        expected = wide.astype(halves.HALVES[half])
    (narrow,) = one_node.run("cast", [wide], [(wide.shape, half)], {}, backend)
    np.testing.assert_array_equal(narrow.view(np.uint16), expected.view(np.uint16))
    patterns = np.arange(1 << 16, dtype=np.uint16).view(halves.HALVES[half])
    patterns = patterns[~np.isnan(patterns.astype(np.float32))]
    (widened,) = one_node.run("cast", [patterns], [(patterns.shape, "float32")], {}, backend)
    np.testing.assert_array_equal(widened.view(np.uint32), patterns.astype(np.float32).view(np.uint32))


@half_types
@pytest.mark.parametrize("backend", [EMULATED, BACKENDS[1]])
def test_casts_keep_what_is_not_finite(backend, half):
    wide = np.array([np.nan, -np.nan, np.inf, -np.inf, 3.4e38], np.float32)
    (narrow,) = one_node.run("cast", [wide], [(wide.shape, half)], {}, backend)
    infinite = int(np.array(np.inf, halves.HALVES[half]).view(np.uint16))
    assert narrow.view(np.uint16).tolist() == [0x7FFF, 0x7FFF, infinite, infinite | 0x8000, infinite]
    (back,) = one_node.run("cast", [narrow], [(wide.shape, "float32")], {}, backend)
    np.testing.assert_array_equal(back, [np.nan, np.nan, np.inf, -np.inf, np.inf])


@half_types
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("head", "tail"), CHAINS)
@few
@given(data=st.data())
def test_a_fused_chain_rounds_no_more_often_than_its_parts(backend, head, tail, half, data):
    case = data.draw(CASES[head]("float32"))
    ins, (out,) = halves.narrowed(head, case.ins, case.outs, half)
    b = np.linspace(-2, 2, out[0][-1]).astype(np.float32)
    tail_attrs = {"alpha": 0.3} if tail in ("leaky_relu", "elu") else {}
    parts = [(head, len(ins), case.attrs), ("bias", 1, {})] + ([(tail, 0, tail_attrs)] if tail else [])
    op = "+".join(name for name, _, _ in parts)
    (fused,) = one_node.run(op, [*ins, b], [out], {"parts": tuple(parts)}, backend)

    far, y = 0.0, None
    for name, extra, attrs in parts:
        values = ins if name == head else [y, *([b] * extra)]
        (y,) = halves.exactly(name, values, [(out[0], half)], attrs)
        far = far + abs(y) * halves.ROUNDOFF[half] + 2 * halves.WIDE_ERROR
    # No tail is steeper than 1.2, so what was rounded before grows by no more.
    assert (abs(fused.astype(np.float64) - y) <= 1.2 * far).all()


@half_types
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("op", sorted(CupyBackend.capabilities.inplace.keys() & set(halves.OPS)))
@few
@given(data=st.data())
def test_overwriting_its_input_changes_nothing(backend, op, half, data):
    index = CupyBackend.capabilities.inplace[op]
    case = data.draw(CASES[op]("float32"))
    ins, outs = halves.narrowed(op, case.ins, case.outs, half)
    beside = one_node.run(op, ins, outs, case.attrs, backend)
    over = one_node.run(op, ins, [index, *outs[1:]], case.attrs, backend)
    for a, b in zip(beside, over, strict=True):
        np.testing.assert_array_equal(a, b)
