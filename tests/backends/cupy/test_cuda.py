"""What is said where a GPU cannot be used, and what cuBLAS is asked for. Nothing here needs a GPU."""

import ctypes
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import cnnforge.backends as backends
from cnnforge.backends.cupy import cuda, failures
from cnnforge.backends.cupy.cublas import Cublas, arguments
from cnnforge.backends.together import SINGLE
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
    error = failures.no_device(driver, 12090, visible)
    assert (error.what, error.where) == ("backend cupy is not available", "trainer.backend")
    assert (error.why, error.fix) == (why, f"{fix}, {ELSE}")


class Runtime:
    """As much of CuPy's as is asked before there is a device."""

    class CUDARuntimeError(RuntimeError):
        def __init__(self, status, text):
            super().__init__(text)
            self.status = status

    def __init__(self, count=0, error=None):
        self.count, self.error = count, error

    def getDeviceCount(self):  # noqa: N802
        if self.error is not None:
            raise self.CUDARuntimeError(*self.error)
        return self.count

    def driverGetVersion(self):  # noqa: N802
        return 12020

    def runtimeGetVersion(self):  # noqa: N802
        return 12090


@pytest.fixture
def opened(monkeypatch):
    """What ``open_device`` makes of a number on a machine; what it opens is its number."""

    def opened(number=None, together=SINGLE, visible=None, **machine):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        module = SimpleNamespace(cuda=SimpleNamespace(runtime=Runtime(**machine)))
        monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
        monkeypatch.setitem(sys.modules, "cupy", module)
        monkeypatch.setattr(cuda, "CudaDevice", lambda cupy, number, together: number)
        return cuda.open_device(number, together)

    return opened


def test_the_device_that_is_asked_for(opened):
    assert opened(count=2) == 0
    assert opened(1, count=2) == 1


@pytest.mark.parametrize(
    ("number", "count", "visible", "why", "fix"),
    [
        (3, 2, None, "there are 2, 0 and 1", "0|1"),
        (1, 1, None, "there is one, 0", "0"),
        (
            4, 3, "7,5,6",
            "there are 3, 0, 1 and 2; CUDA_VISIBLE_DEVICES=7,5,6 hides others, and numbers those that it names from 0",
            "0|1|2",
        ),
    ],
)  # fmt: skip
def test_a_device_that_is_not_there(opened, number, count, visible, why, fix):
    with pytest.raises(BackendError) as caught:
        opened(number, count=count, visible=visible)
    assert str(caught.value) == (
        f"there is no GPU {number}\n  where: trainer.device\n  why:   {why}\n"
        f"  fix:   trainer.device={fix}, or leave it out; cnnforge doctor lists them"
    )


@pytest.mark.parametrize(("count", "devices"), [(4, [0, 1, 2, 3]), (1, [0, 0, 0, 0]), (2, [0, 1, 0, 1])])
def test_each_process_of_a_host_takes_its_own(opened, count, devices):
    """Where there are fewer, a launcher may have given each its own; ``join`` compares them."""
    places = [SimpleNamespace(host=(number, 4)) for number in range(4)]
    assert [opened(together=place, count=count) for place in places] == devices


def test_a_machine_without_a_device_is_asked_why(opened):
    with pytest.raises(BackendError, match="backend cupy is not available") as caught:
        opened(error=(100, "cudaErrorNoDevice: no CUDA-capable device is detected"))
    assert caught.value.why == "there is no NVIDIA GPU"
    with pytest.raises(BackendError, match="backend cupy is not available") as caught:
        opened(error=(802, "cudaErrorSystemNotReady: system not yet initialized"))
    assert caught.value.why == "CUDA does not start: cudaErrorSystemNotReady: system not yet initialized"
    assert caught.value.fix == f"nvidia-smi says more, {ELSE}"


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_a_processor_is_no_device(backend):
    with pytest.raises(BackendError) as caught:
        backends.create(backend, device=1)
    assert str(caught.value) == (
        f"device 1 is asked for, and backend {backend} computes on the CPU\n  where: trainer.device\n"
        "  why:   it is the number of a GPU\n  fix:   trainer.backend=cupy, or leave trainer.device out"
    )


class CompileException(Exception):
    pass


class OutOfMemoryError(MemoryError):
    pass


@pytest.mark.parametrize(
    ("error", "what", "fix"),
    [
        (
            RuntimeError("cudaErrorLaunchFailure: unspecified launch failure"),
            "the GPU stopped in the middle of its work",
            "CNNFORGE_CUDA_GRAPHS=0 compute-sanitizer cnnforge … names the kernel, if one is at fault: "
            "please report it",
        ),
        (
            RuntimeError("cudaErrorECCUncorrectable: uncorrectable ECC error encountered"),
            "the GPU does not work any more",
            "nvidia-smi and the system's log (Xid) say more; another card, or this one after a reset",
        ),
        (
            OutOfMemoryError("Out of memory allocating 1,024 bytes (allocated so far: 0 bytes)."), "out of GPU memory",
            "a smaller trainer.batch_size, or nobody else on the card: nvidia-smi says who is there",
        ),
        (
            failures.LibraryError("cuBLAS: 3 (allocation failed)"), "out of GPU memory",
            "a smaller trainer.batch_size, or nobody else on the card: nvidia-smi says who is there",
        ),
        (
            failures.LibraryError("NCCL: 6 (remote process exited or there was a network error)"),
            "the GPUs of several processes cannot talk to each other", "NCCL_DEBUG=INFO says more",
        ),
        (
            CompileException("kernels.cu(3): error: this is no C++"), "a kernel cannot be compiled for the GPU",
            "pip install --force-reinstall 'cnnforge[gpu]'; where that does not help, it is a bug: please report it",
        ),
    ],
)  # fmt: skip
def test_what_fails_at_work_is_said_in_one_line(error, what, fix):
    first = str(error)
    error = type(error)(f"{first}\nmore")
    assert str(failures.failed("NVIDIA H100 (device 1)", error)) == (
        f"{what}\n  where: NVIDIA H100 (device 1)\n  why:   {first}\n  fix:   {fix}"
    )


def test_a_status_of_cublas_is_named():
    with pytest.raises(failures.LibraryError, match=r"^cuBLAS: 13 \(execution failed\)$"):
        Cublas._checked(13)
    Cublas._checked(0)


def test_out_of_memory_says_how_much_there_was():
    assert str(failures.out_of_memory("NVIDIA H100", 90 << 30, 78 << 30)) == (
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


@pytest.mark.parametrize("name", ["numpy", "numba", "auto"])
def test_other_backends_ask_no_driver(name, monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", None)
    assert backends.facts_of(name) == {}
