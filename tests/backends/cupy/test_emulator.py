"""What stands for a GPU in tests: is it one?"""

import ctypes

import numpy as np
import pytest

from cnnforge.backends.cupy import signature
from tests.backends.cupy import emulator

KERNELS = """
extern "C" __global__ void sums(const T* x, T* y) {
    __shared__ T space[64];
    T sum = block_sum(x[threadIdx.x], space);
    if (threadIdx.x == 0) y[blockIdx.x] = sum;
}
extern "C" __global__ void warps(const T* x, T* y) {
    T sum = x[threadIdx.x];
    for (int by = 16; by > 0; by /= 2) sum += __shfl_down_sync(0xffffffffu, sum, by);
    y[threadIdx.x] = sum;
}
extern "C" __global__ void unwritten(const T* x, T* y) {
    __shared__ T space[64];
    if (blockIdx.x == 0) space[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[blockIdx.x * 64 + threadIdx.x] = space[threadIdx.x];
}
extern "C" __global__ void hasty(const T* x, T* y) {
    __shared__ T space[64];
    space[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = space[63 - threadIdx.x];
}
extern "C" __global__ void apart(const T* x, T* y) {
    if (threadIdx.x < 3) { __syncthreads(); }
    else {
        __syncthreads();
    }
}
extern "C" __global__ void absent(const T* x, T* y) {
    if (threadIdx.x < 3) return;
    y[threadIdx.x] = __shfl_down_sync(0xffffffffu, x[threadIdx.x], 1);
}
"""
NAMES = ("sums", "warps", "unwritten", "hasty", "apart", "absent")
X = np.arange(64, dtype=np.float32)


def run(name, blocks=1, backwards=False):
    library = emulator.compiled(signature.text("base", "float32") + KERNELS, NAMES)
    y = np.zeros(64 * blocks, np.float32)
    pointers = [np.array([a.ctypes.data], np.uint64) for a in (X, y)]
    args = (ctypes.c_void_p * 2)(*(p.ctypes.data for p in pointers))
    failed = getattr(library, f"launch_{name}")((ctypes.c_uint * 6)(blocks, 1, 1, 64, 1, 1), args, backwards)
    return library.why().decode() if failed else y


@pytest.mark.parametrize("backwards", [False, True])
def test_threads_wait_for_each_other(backwards):
    assert run("sums", 2, backwards)[:2].tolist() == [X.sum()] * 2
    y = run("warps", 1, backwards)
    assert (y[0], y[32]) == (X[:32].sum(), X[32:].sum())


def test_shared_memory_is_not_kept_from_block_to_block():
    y = run("unwritten", 2)
    assert y[:64].tolist() == X.tolist()
    assert np.isnan(y[64:]).all()


def test_a_barrier_that_is_missing_shows():
    """Whatever the order, some thread reads what another has not written yet; and the two orders differ."""
    there, back = run("hasty"), run("hasty", backwards=True)
    assert np.isnan(there).any()
    assert np.isnan(back).any()
    assert not np.array_equal(there, back, equal_nan=True)


def test_what_would_hang_or_is_undefined_is_said():
    assert run("apart") == "threads of a block wait for each other at different places"
    assert "lane 0 of the mask is not there" in run("absent")
    assert isinstance(run("sums"), np.ndarray), "it goes on working"


def test_floats_are_never_added_up_in_any_order():
    text = signature.text("base", "float32") + 'extern "C" __global__ void f(T* x) { atomicAdd(x, T(1)); }'
    with pytest.raises(AssertionError, match="no float atomics"):
        emulator.compiled(text, ("f",))
