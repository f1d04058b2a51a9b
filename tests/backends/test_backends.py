"""Backends by name, the NumPy one's memory, and planning without NumPy."""

import subprocess
import sys

import numpy as np
import pytest

from cnnforge.backends import NAMES, capabilities_of, create, resolve
from cnnforge.backends.numpy.backend import KERNELS, NumpyBackend
from cnnforge.backends.numpy.capabilities import CAPABILITIES, TAIL_SCRATCH, TAILS, scratch
from cnnforge.errors import BackendError
from cnnforge.ir.graph import Value
from tests import one_node


def test_auto_is_one_of_them():
    assert resolve("auto") in NAMES
    assert create("auto").name == resolve("auto")
    assert capabilities_of("auto").name == resolve("auto")


def test_a_backend_that_is_not_here():
    name = "abacus"
    for ask in (resolve, create, capabilities_of):
        with pytest.raises(BackendError) as caught:
            ask(name)
    assert caught.value.what == f"backend {name} is not available"
    assert caught.value.fix == "trainer.backend=auto; cnnforge doctor says what this machine has"


def test_numba_is_there_where_it_is_installed(monkeypatch):
    assert create("numba", threads=1).name == capabilities_of("numba").name == "numba"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BackendError) as caught:
        resolve("numba")
    assert str(caught.value) == (
        "backend numba is not available\n  where: trainer.backend\n  why:   numba is not installed\n"
        "  fix:   pip install numba, or trainer.backend=auto; cnnforge doctor says what this machine has"
    )


class TestMemory:
    backend = NumpyBackend()

    @pytest.mark.parametrize("nbytes", [1, 63, 64, 1000])
    def test_a_buffer_is_zeroed_and_begins_on_a_cache_line(self, nbytes):
        buffer = self.backend.buffer(nbytes)
        assert len(buffer) == nbytes
        assert not buffer.any()
        assert buffer.ctypes.data % 64 == 0

    def test_views_share_memory(self):
        buffer = self.backend.buffer(64)
        view = self.backend.view(buffer, 16, (2, 3), "float32")
        view[...] = 1
        assert buffer[16:40].view("float32").tolist() == [1] * 6
        assert not buffer[:16].any()
        assert not buffer[40:].any()

    @pytest.mark.parametrize(("offset", "shape"), [(-8, (1,)), (64, (1,)), (0, (9,)), (60, (1,)), (8, (2, 4))])
    def test_a_view_past_the_end_is_refused(self, offset, shape):
        with pytest.raises(IndexError, match="does not fit 64 bytes"):
            self.backend.view(self.backend.buffer(64), offset, shape, "float64")

    def test_a_scalar_and_an_empty_view(self):
        assert self.backend.view(self.backend.buffer(8), 0, (), "float64").shape == ()
        assert self.backend.view(self.backend.buffer(0), 0, (0, 3), "float64").shape == (0, 3)

    def test_get_is_a_copy_and_put_takes_numbers(self):
        view = self.backend.view(self.backend.buffer(64), 0, (8,), "float64")
        self.backend.put(3, view)
        copy = self.backend.get(view)
        self.backend.put(np.arange(8), view)
        assert copy.tolist() == [3] * 8
        assert view.tolist() == list(range(8))


def test_numbers_that_overflow_become_infinite_without_a_word():
    x = np.array([[1e300, 1e300]])
    (y,) = one_node.run("mse", [x, -x], [((1,), "float64"), ((1,), "float64")], {})[:1]
    assert np.isinf(y).all()


class TestCapabilities:
    def test_every_kernel_is_declared_and_every_declaration_has_a_kernel(self):
        assert KERNELS.keys() == CAPABILITIES.ops

    def test_what_can_be_fused_or_overwritten_exists(self):
        assert {op for chain in CAPABILITIES.chains for op in chain.split("+")} <= CAPABILITIES.ops
        assert CAPABILITIES.inplace.keys() <= CAPABILITIES.ops

    def test_a_tail_can_overwrite_its_input(self):
        assert all(CAPABILITIES.inplace.get(op) == 0 for op in (*TAILS, "bias"))

    def test_a_fused_chain_shares_its_workspace_out_as_declared(self):
        v = Value(0, "", (2, 4, 4, 3), "act", "float32", True)
        for op in ("bias", *TAILS):
            attrs = {"alpha": 1.0} if op in ("leaky_relu", "elu") else {}
            assert len(scratch(op, (v, v), (v,), attrs)) == TAIL_SCRATCH.get(op, 0), op


def test_planning_needs_no_numpy():
    """``cnnforge check`` answers in a fraction of the time that importing NumPy takes."""
    code = """
import sys
from cnnforge.backends import capabilities_of
from cnnforge.lower import eval_graph, train_graph
from cnnforge.optim.adam import Adam
from cnnforge.plan import make_plan
from cnnforge.plan.forecast import memory
from cnnforge.spec import ModelSpec
spec = ModelSpec.model_validate({"name": "m", "input": [8, 8, 1], "layers": {
    "a": {"type": "conv", "filters": 2, "kernel": 3, "init": {"filter": "vertical"}},
    "d": {"type": "dropout"}, "n": {"type": "batch_norm"}, "b": {"type": "fc", "units": 2, "activation": "softmax"}}})
can = capabilities_of("auto")
graphs = train_graph(spec, 4, "float32", 0, Adam(type="adam")), eval_graph(spec, 4, "float32")
assert memory(*(make_plan(g, can) for g in graphs))["total"] > 0
heavy = {"numpy", "scipy", "mlflow", "numba", "torch"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
