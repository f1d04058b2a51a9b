"""What is said where a GPU cannot be used, and what cuBLAS is asked for. Nothing here needs a GPU."""

import ctypes
import sys
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest

import cnnforge.backends as backends
from cnnforge.backends.cupy import cuda, facts
from cnnforge.backends.cupy.cublas import Cublas, arguments
from cnnforge.errors import BackendError

ELSE = "or trainer.backend=auto; cnnforge doctor says what this machine has"


def test_check_needs_no_gpu():
    assert backends.resolve("cupy") == "cupy"
    assert backends.capabilities_of("cupy").name == "cupy"


def test_auto_is_never_the_gpu():
    assert backends.resolve("auto") != "cupy"


def test_without_cupy(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BackendError) as caught:
        backends.create("cupy")
    assert str(caught.value) == (
        "backend cupy is not available\n  where: trainer.backend\n  why:   CuPy is not installed\n"
        f"  fix:   pip install 'cnnforge[gpu]', {ELSE}"
    )
    assert caught.value.exit_code == 2


def test_a_cupy_that_cannot_be_imported(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(BackendError) as caught:
        cuda.open_device()
    assert caught.value.why.startswith("CuPy cannot be imported: ModuleNotFoundError: ")
    assert caught.value.fix == f"pip install --force-reinstall 'cnnforge[gpu]', {ELSE}"


@pytest.mark.parametrize(
    ("driver", "visible", "why", "fix"),
    [
        (0, None, "there is no NVIDIA driver", "install it, on a machine with an NVIDIA GPU"),
        (0, "7", "there is no NVIDIA driver", "install it, on a machine with an NVIDIA GPU"),
        (
            11040, None, "the NVIDIA driver is too old: it knows CUDA 11.4, CuPy needs 12.9",
            "a newer driver, or a CuPy for CUDA 11",
        ),
        (12020, "7", "there is no such device: CUDA_VISIBLE_DEVICES=7 leaves none", "another CUDA_VISIBLE_DEVICES"),
        (12020, "", "there is no such device: CUDA_VISIBLE_DEVICES= leaves none", "another CUDA_VISIBLE_DEVICES"),
        (13000, None, "there is no NVIDIA GPU", "another machine"),
    ],
)  # fmt: skip
def test_why_there_is_no_device(driver, visible, why, fix):
    error = cuda.no_device(driver, 12090, visible)
    assert (error.what, error.where) == ("backend cupy is not available", "trainer.backend")
    assert (error.why, error.fix) == (why, f"{fix}, {ELSE}")


def test_out_of_memory_says_how_much_there_was():
    assert str(cuda.out_of_memory("NVIDIA H100", 90 << 30, 78 << 30)) == (
        "out of GPU memory\n  where: trainer.batch_size\n"
        "  why:   92,160 MiB are wanted, 79,872 MiB of NVIDIA H100 are free\n"
        "  fix:   a smaller batch; cnnforge check says what a batch takes"
    )


def test_graphs_can_be_turned_off(monkeypatch):
    assert cuda.captures()
    monkeypatch.setenv("CNNFORGE_CUDA_GRAPHS", "0")
    assert not cuda.captures()


def column_major(array, rows, columns, step, turned):
    """What cuBLAS sees of memory: (rows, columns) with ``step`` numbers from one column to the next, then turned."""
    inner = columns if turned else rows
    assert step >= inner
    seen = array.reshape(-1)[: step * (rows if turned else columns)].reshape(-1, step).T
    seen = seen.T if turned else seen
    assert seen.shape == (rows, columns)
    return seen


@pytest.mark.parametrize("turn_a", [False, True])
@pytest.mark.parametrize("turn_b", [False, True])
def test_cublas_is_asked_for_the_right_product(turn_a, turn_b):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 5)), rng.normal(size=(5, 4))
    stored_a, stored_b = (np.ascontiguousarray(m.T if t else m) for m, t in ((a, turn_a), (b, turn_b)))
    how = arguments(stored_a.shape, stored_b.shape, (3, 4), turn_a, turn_b)
    first = column_major(stored_b, how.m, how.k, how.b_step, how.first)
    second = column_major(stored_a, how.k, how.n, how.a_step, how.second)
    out = np.zeros(12)
    column_major(out, how.m, how.n, how.out_step, False)[...] = first @ second
    np.testing.assert_allclose(out.reshape(3, 4), a @ b, rtol=1e-12)


class Library:
    """A cuBLAS that writes down what it is asked."""

    def __init__(self):
        self.asked = []

    def __getattr__(self, name):
        def call(*args):
            self.asked.append((name, args))
            return 0

        return call


@pytest.mark.parametrize(
    ("dtype", "tf32", "kind", "computed", "one"),
    [
        ("float32", False, 0, 68, ctypes.c_float), ("float32", True, 0, 77, ctypes.c_float),
        ("float64", False, 1, 70, ctypes.c_double), ("float64", True, 1, 70, ctypes.c_double),
        ("float16", False, 2, 68, ctypes.c_float), ("bfloat16", True, 14, 68, ctypes.c_float),
    ],
)  # fmt: skip
def test_cublas_computes_in_what_was_asked_for(dtype, tf32, kind, computed, one, monkeypatch):
    """CUDA_R_32F 0, _64F 1, _16F 2, _16BF 14; CUBLAS_COMPUTE_32F 68, _64F 70, _32F_FAST_TF32 77."""
    library = Library()
    monkeypatch.setattr(ctypes, "CDLL", lambda path: library)
    cublas = Cublas("libcublas.so", 17, 4096)
    assert ("cublasSetMathMode", (cublas._handle, 16)) in library.asked, "no sums in half precision"
    how = arguments((3, 5), (5, 4), (3, 4), False, False)
    cublas.gemm(dtype, tf32, how, 10, 20, 30)()
    name, args = library.asked[-1]
    assert name == "cublasGemmEx"
    _, first, second, m, n, k, alpha, b, b_kind, b_step, a, a_kind, a_step, beta, out, out_kind, out_step, *end = args
    assert (first, second, m, n, k, b_step, a_step, out_step) == (0, 0, 4, 3, 5, 4, 5, 4)
    assert (a.value, b.value, out.value) == (10, 20, 30)
    assert {a_kind, b_kind, out_kind} == {kind}
    assert end == [computed, -1]
    assert (type(alpha._obj), alpha._obj.value, beta._obj.value) == (one, 1, 0)


class Driver:
    """A CUDA driver of which facts are asked."""

    def __init__(self, fails=0):
        self.fails = fails

    def cuInit(self, flags):  # noqa: N802
        return self.fails

    def cuDeviceGet(self, device, number):  # noqa: N802
        assert number == 0, "the first that CUDA shows"
        return 0

    def cuDriverGetVersion(self, release):  # noqa: N802
        release._obj.value = 12080

    def cuDeviceGetName(self, name, length, device):  # noqa: N802
        name.value = b"A card"


def test_ways_are_measured_for_a_card_and_its_libraries(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda path: Driver())
    versions = {"cupy-cuda12x": "14.1", "nvidia-cudnn-cu12": "9.28", "nvidia-cudnn-frontend": "1.32"}

    def version(name):
        if name not in versions:
            raise PackageNotFoundError
        return versions[name]

    monkeypatch.setattr(facts, "version", version)
    assert backends.facts_of("cupy") == {
        "card": "A card, CUDA 12.8", "cupy": "14.1", "cudnn": "9.28", "cudnn frontend": "1.32", "cublas": "",
    }  # fmt: skip


def test_facts_of_a_machine_without_a_card(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda path: Driver(fails=100))
    assert facts.card() == ""

    def missing(path):
        raise OSError

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert facts.card() == ""


@pytest.mark.parametrize("name", ["numpy", "numba", "auto"])
def test_other_backends_ask_no_driver(name, monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", None)
    assert backends.facts_of(name) == {}
