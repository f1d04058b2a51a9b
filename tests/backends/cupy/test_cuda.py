"""What is said where a GPU cannot be used, and what cuBLAS is asked for. Nothing here needs a GPU."""

import sys

import numpy as np
import pytest

import cnnforge.backends as backends
from cnnforge.backends.cupy import cuda
from cnnforge.backends.cupy.cublas import arguments
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
