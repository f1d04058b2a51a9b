"""LAMB and Muon on tensors of several pieces and odd sizes, on any number of threads; mistakes when they are bound."""

import numpy as np
import pytest

from cnnforge.backends.numba.backend import NumbaBackend
from cnnforge.backends.numba.rules.elementwise import PIECE
from cnnforge.backends.numba.tensorwise import _rows
from tests import one_node

MATRICES = ((27, 16), (144, 40), (5, 1), (1, 7), (96, 130), (130, 96), (PIECE // 32, 64), (3, 33))
_LAMB = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-6, "weight_decay": 0.01}
_MUON = {
    "momentum": 0.95, "nesterov": True, "coefficients": (3.4445, -4.775, 2.0315), "steps": 5, "epsilon": 1e-7,
    "weight_decay": 0.1, "factors": tuple(1 + i / 8 for i in range(len(MATRICES))),
}  # fmt: skip


def node(op, scale=1e-3):
    """Small weights, so that their own rounding hides no step's."""
    sizes = tuple(h * w for h, w in MATRICES)
    rng = np.random.default_rng(0)
    params, grads, mean, square = (rng.normal(size=sum(sizes)).astype(np.float32) for _ in range(4))
    block = np.array([7, 0, 0, 1e-2, 1 / 64, 1 - 0.9**7, 1 - 0.999**7])
    params *= np.float32(scale)
    if op == "lamb":
        return [params, grads, block, mean, abs(square)], [0, 3, 4], _LAMB | {"sizes": sizes}
    return [params, grads, block, mean], [0, 3], _MUON | {"matrices": MATRICES}


@pytest.mark.parametrize("rate", [{}, {"rate": 0.5}])
@pytest.mark.parametrize("op", ["lamb", "muon"])
def test_an_update_is_numpys(op, rate):
    ins, outs, attrs = node(op)
    found = one_node.run(op, ins, outs, attrs | rate, "numba")
    exact = [a.astype(np.float64) for a in ins]
    for got, expected in zip(found, one_node.run(op, exact, outs, attrs | rate), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-5 * abs(expected).max())


@pytest.mark.parametrize("op", ["lamb", "muon"])
def test_the_number_of_threads_changes_no_bit(op, monkeypatch):
    ins, outs, attrs = node(op)
    found = []
    for threads in (1, 2):
        monkeypatch.setattr(one_node, "_device", lambda name, threads=threads: NumbaBackend(threads))
        found.append(one_node.run(op, ins, outs, attrs, "numba"))
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("op", ["lamb", "muon"])
def test_the_step_block_is_read_when_it_runs(op):
    (params, grads, block, *slots), _, attrs = node(op)
    backend = NumbaBackend(1)
    values = [one_node._value(a) for a in (params, grads, block, *slots)]
    outs = (values[0], *values[3:])
    space = backend.capabilities.scratch(op, tuple(values), outs, attrs | {"way": "compiled"})
    scratch = tuple(np.empty(s.shape, s.dtype) for s in space)
    step = backend.kernel(op)((params, grads, block, *slots), (params, *slots), scratch, **attrs)
    before = params.copy()
    for lr, moves in ((0.0, False), (0.5, True)):
        block[3] = lr
        backend.run([step])
        assert (params != before).any() == moves


def test_lambs_pieces_end_where_tensors_do():
    assert _rows((3, PIECE, PIECE + 1)) == [
        (0, 3, 0, 1),
        (3, PIECE + 3, 1, 2),
        (PIECE + 3, 2 * PIECE + 3, 2, 4),
        (2 * PIECE + 3, 2 * PIECE + 4, 2, 4),
    ]


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("op", ["lamb", "muon"])
def test_tensors_that_do_not_fill_their_range_are_not_bound(op, backend):
    ins, outs, attrs = node(op)
    longer = [a if len(a) == 7 else np.append(a, np.float32(0)) for a in ins]
    with pytest.raises(ValueError, match="do not fill"):
        one_node.run(op, longer, outs, attrs, backend)
