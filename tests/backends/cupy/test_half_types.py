"""The half types of ``source/base.cuh``: every pattern, and how floats are rounded to them."""

import ctypes

import ml_dtypes
import numpy as np
import pytest

from cnnforge.backends.cupy import signature
from tests.backends.cupy import emulator

KERNELS = """
extern "C" __global__ void widened(const T* x, P* y, i64 n) { EACH(i, n) y[i] = x[i]; }
extern "C" __global__ void rounded(const P* x, T* y, i64 n) { EACH(i, n) y[i] = x[i]; }
"""
HALVES = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
#: Every pattern there is.
PATTERNS = np.arange(1 << 16, dtype=np.uint16)
half = pytest.mark.parametrize("dtype", HALVES)


def run(name, dtype, x, out):
    library = emulator.compiled(signature.text("base", dtype) + KERNELS, ("widened", "rounded"))
    x, y, n = np.ascontiguousarray(x), np.zeros(x.shape, out), np.array([x.size], np.int64)
    pointers = [np.array([a.ctypes.data], np.uint64) for a in (x, y)]
    args = (ctypes.c_void_p * 3)(*(p.ctypes.data for p in (*pointers, n)))
    assert not getattr(library, f"launch_{name}")((ctypes.c_uint * 6)(4, 1, 1, 64, 1, 1), args, 0)
    return y


def assert_rounded(x, dtype):
    with np.errstate(over="ignore", invalid="ignore"):
        expected = x.astype(HALVES[dtype])
    got = run("rounded", dtype, x, HALVES[dtype])
    nan = np.isnan(x)
    np.testing.assert_array_equal(got.view(np.uint16)[~nan], expected.view(np.uint16)[~nan])
    assert (got.view(np.uint16)[nan] == 0x7FFF).all(), "what NVIDIA's instructions make of a nan"


@half
def test_every_pattern_is_the_float_it_means(dtype):
    x = PATTERNS.view(HALVES[dtype])
    got, expected = run("widened", dtype, x, np.float32), x.astype(np.float32)
    nan = np.isnan(expected)
    assert nan.sum() == {"bfloat16": 2 * 127, "float16": 2 * 1023}[dtype]
    np.testing.assert_array_equal(np.isnan(got), nan)
    np.testing.assert_array_equal(got.view(np.uint32)[~nan], expected.view(np.uint32)[~nan])


@half
def test_every_pattern_comes_back(dtype):
    x = PATTERNS.view(HALVES[dtype])
    assert_rounded(x.astype(np.float32), dtype)


@half
def test_halfway_between_neighbours_and_next_to_it(dtype):
    """Every tie there is, subnormal ones and the one to infinity among them, and the floats on both its sides."""
    infinite = int(np.array(np.inf, HALVES[dtype]).view(np.uint16))
    finite = PATTERNS[:infinite].view(HALVES[dtype]).astype(np.float64)
    largest = finite[-1] + (finite[-1] - finite[-2])  # the next, were there one
    ties = ((finite + np.append(finite[1:], largest)) / 2).astype(np.float32)
    for x in (ties, np.nextafter(ties, np.float32(0)), np.nextafter(ties, np.float32(np.inf))):
        assert_rounded(x, dtype)
        assert_rounded(-x, dtype)


@half
@pytest.mark.parametrize(
    "x",
    [0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 65504, 65519.996, 65520, 1e-45, 3.4028235e38, 2.0**-25, 2.0**-133],
)
def test_at_the_edges(dtype, x):
    assert_rounded(np.array([x, np.nextafter(np.float32(x), np.float32(1))], np.float32), dtype)


@half
def test_a_million_floats_of_any_bits(dtype):
    bits = np.random.default_rng(8).integers(0, 1 << 32, 1_000_000, np.uint32)
    assert_rounded(bits.view(np.float32), dtype)
