"""Every op of every backend against naive loops, alone, in float32 and float64."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnnforge.backends.numpy.capabilities import HEADS, TAILS
from cnnforge.optim.sgd import Sgd
from cnnforge.shapes import window
from tests import one_node
from tests.building import build
from tests.conformance.cases import CASES
from tests.conformance.halves import CASTS
from tests.devices import EMULATED, capabilities_of, create
from tests.oracles import max_pool2d
from tests.strategies import models

#: A later backend joins here, by name.
BACKENDS = [
    "numpy", "numba", pytest.param(EMULATED, marks=pytest.mark.slow), pytest.param("cupy", marks=pytest.mark.gpu),
]  # fmt: skip

#: What rounding may do, relative to the size of what was added up: some hundred units in the last place.
TOLERANCE = {"float32": 2e-5, "float64": 4e-14}

few, some = (
    settings(
        max_examples=n,
        suppress_health_check=[
            HealthCheck.filter_too_much,
            HealthCheck.too_slow,
            HealthCheck.function_scoped_fixture,
        ],
    )
    for n in (10, 25)
)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_op_has_a_kernel_and_a_case(backend):
    ops = capabilities_of(backend).ops
    assert ops - CASTS == CASES.keys() - CASTS  # tests/conformance/test_halves.py has those
    for op in ops:
        assert callable(create(backend).kernel(op))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("op", sorted(CASES))
@pytest.mark.parametrize("backend", BACKENDS)
@some
@given(data=st.data())
def test_a_kernel_gives_what_loops_give(backend, op, dtype, data):
    case = data.draw(CASES[op](dtype))
    found = one_node.run(op, case.ins, case.outs, case.attrs, backend)
    for got, expected in zip(found, case.expected, strict=True):
        if case.exact:
            np.testing.assert_array_equal(got, expected)
        else:
            np.testing.assert_allclose(got, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * case.scale)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("op", sorted(capabilities_of("numpy").inplace))
@few
@given(data=st.data())
def test_overwriting_its_input_changes_nothing(backend, op, data):
    index = capabilities_of(backend).inplace.get(op)
    if index is None:
        pytest.skip(f"{backend} does not run {op} in place")
    case = data.draw(CASES[op]("float32"))
    beside = one_node.run(op, case.ins, case.outs, case.attrs, backend)
    over = one_node.run(op, case.ins, [index, *case.outs[1:]], case.attrs, backend)
    for a, b in zip(beside, over, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("op", ["conv2d", "conv2d_dx", "conv2d_dw"])
@few
@given(data=st.data())
def test_depthwise_goes_by_a_few_samples_at_a_time(op, monkeypatch, data):
    case = data.draw(CASES[op]("float32").filter(lambda c: c.attrs["groups"] > 1))
    with monkeypatch.context() as m:
        m.setattr("cnnforge.backends.numpy.capabilities.DEPTHWISE_CHUNK", 1)
        (found,) = one_node.run(op, case.ins, case.outs, case.attrs)
    np.testing.assert_array_equal(found, case.expected[0])


CHAINS = [(head, tail) for head in HEADS for tail in ("", *TAILS)]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("head", "tail"), CHAINS)
@pytest.mark.parametrize("backend", BACKENDS)
@few
@given(data=st.data())
def test_a_fused_chain_gives_what_its_parts_give(backend, head, tail, dtype, data):
    case = data.draw(CASES[head](dtype))
    (out,) = case.outs
    b = np.linspace(-2, 2, out[0][-1]).astype(dtype)
    tail_attrs = {"alpha": 0.3} if tail in ("leaky_relu", "elu") else {}
    parts = [(head, len(case.ins), case.attrs), ("bias", 1, {})] + ([(tail, 0, tail_attrs)] if tail else [])

    (y,) = one_node.run(head, case.ins, case.outs, case.attrs, backend)
    (y,) = one_node.run("bias", [y, b], [out], {}, backend)
    if tail:
        (y,) = one_node.run(tail, [y], [out], tail_attrs, backend)
    op = "+".join(name for name, _, _ in parts)
    (fused,) = one_node.run(op, [*case.ins, b], [out], {"parts": tuple(parts)}, backend)
    np.testing.assert_allclose(fused, y, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def trained(spec, capabilities, monkeypatch):
    """Everything that one training step leaves behind."""
    with monkeypatch.context() as m:
        m.setattr("cnnforge.backends.numpy.backend.NumpyBackend.capabilities", capabilities)
        built = build(spec, optimizer=OPTIMIZER, dtype="float32")
    built.run("forward", "loss", "backward", "update")
    exe = built.exe
    return {**built.bound.outputs, **exe.weights.params, **exe.weights.state, **exe.grads, **exe.slots}


OPTIMIZER = Sgd(type="sgd", momentum=0.9, weight_decay=0.1)
WITHOUT = {
    "fusion": {"chains": frozenset()},
    "overwriting": {"inplace": {}},
}


@pytest.mark.parametrize("feature", WITHOUT)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spec=models())
def test_a_plan_gives_the_same_without(feature, monkeypatch, spec):
    full = capabilities_of("numpy")
    plain, usual = (trained(spec, c, monkeypatch) for c in (replace(full, **WITHOUT[feature]), full))
    assert plain.keys() == usual.keys()
    for name in usual.keys() - {"output", "prediction"}:  # these two are of another phase
        np.testing.assert_array_equal(plain[name], usual[name], err_msg=name)


class TestTies:
    """Integer inputs tie, continuous ones never do: bugs in max pooling hide there."""

    @pytest.mark.parametrize("backend", BACKENDS)
    @pytest.mark.parametrize("stride", [1, 2, 3])
    def test_of_equal_values_the_first_wins_and_takes_the_whole_gradient(self, backend, stride):
        x = np.ones((1, 6, 6, 2), np.float32)
        win = window((6, 6), (3, 3), (stride, stride), "valid")
        y, winner = one_node.run(
            "max_pool2d", [x], [((1, *win.out, 2), "float32"), ((1, *win.out, 2), "uint8")], {"window": win}, backend
        )
        assert (y == 1).all()
        assert (winner == 0).all()
        (dx,) = one_node.run(
            "max_pool2d_dx", [winner, np.ones_like(y)], [(x.shape, "float32")], {"window": win}, backend
        )
        expected = np.zeros_like(x)
        expected[:, : stride * win.out[0] : stride, : stride * win.out[1] : stride] = 1
        np.testing.assert_array_equal(dx, expected)

    @pytest.mark.parametrize("backend", BACKENDS)
    def test_padding_never_wins_even_against_negative_values(self, backend):
        x = np.full((2, 3, 3, 1), -5, np.float32)
        win = window((3, 3), (3, 3), (2, 2), (1, 1, 2, 2))
        y, winner = one_node.run(
            "max_pool2d", [x], [((2, *win.out, 1), "float32"), ((2, *win.out, 1), "uint8")], {"window": win}, backend
        )
        assert (y == -5).all()
        np.testing.assert_array_equal(winner, max_pool2d(x, win)[1])

    @pytest.mark.parametrize("backend", BACKENDS)
    @pytest.mark.parametrize(("side", "dtype"), [(16, "uint8"), (17, "int32")])
    def test_the_last_of_many_positions_can_win(self, backend, side, dtype):
        x = np.zeros((1, side, side, 1), np.float32)
        x[0, -1, -1] = 1
        win = window((side, side), (side, side), (1, 1), "valid")
        outs = [((1, 1, 1, 1), "float32"), ((1, 1, 1, 1), dtype)]
        y, winner = one_node.run("max_pool2d", [x], outs, {"window": win}, backend)
        assert (y.item(), winner.item()) == (1, side * side - 1)
