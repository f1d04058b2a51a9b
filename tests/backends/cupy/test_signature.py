"""Kernels' parameters, and what may be given for them."""

import ml_dtypes  # noqa: F401 - NumPy knows "bfloat16" by it
import numpy as np
import pytest

from cnnforge.backends.cupy import signature

X = np.zeros(3, np.float32)


def test_parameters_are_read_from_the_source():
    expected = [("T", True, "x"), ("T", True, "y"), ("i64", False, "n")]
    assert signature.kernels("activation")["relu"] == tuple(signature.Parameter(*e) for e in expected)
    names = [p.name for p in signature.kernels("conv")["conv2d"]]
    assert names[:7] == ["x", "w", "y", "rows", "H", "W", "C"]
    assert names[-2:] == ["groups", "flip"]


def test_files_that_are_only_included_hold_no_kernels():
    assert {"base", "gemm", "window"}.isdisjoint(signature.sources())
    assert {"activation", "conv", "depthwise", "linear"} <= set(signature.sources())


def test_text_is_complete_and_nothing_is_there_twice():
    text = signature.text("conv", "float64")
    assert text.startswith("#define T double\n#define P double\n")
    assert "#include" not in text
    assert text.count("struct Window {") == text.count("#define EACH") == text.count("#define TILE 64") == 1


def test_kernels_names_are_their_own():
    """All of them lie in one name space on some day: a profiler's, a reader's."""
    names = [name for source in signature.sources() for name in signature.kernels(source)]
    assert len(names) == len(set(names))


def test_t_is_what_the_arrays_are():
    assert signature.call("activation", "relu", (X, X, 3)).dtype == "float32"
    call = signature.call("activation", "relu", (X.astype("float64"), X.astype("float64"), 3))
    assert (call.dtype, call.arguments[2]) == ("float64", ("int64", 3))


@pytest.mark.parametrize("half", signature.HALVES)
def test_halves_are_computed_in_floats(half):
    assert signature.text("channels", half).startswith(f"#define T {signature.REAL[half]}\n#define P float\n")
    assert (signature.wide(half), signature.wide("float32"), signature.wide("float64")) == (
        "float32",
        "float32",
        "float64",
    )
    x = np.zeros(3, half)
    call = signature.call("channels", "bias", (x, X, x, 1, 3))
    assert (call.dtype, call.arguments[3]) == (half, ("int32", 1))
    assert signature.call("channels", "scale", (x, x, 3, 0.5)).arguments[3] == ("float32", 0.5)
    with pytest.raises(TypeError, match=f"bias: b is {half}, not float32"):
        signature.call("channels", "bias", (x, x, x, 1, 3))
    assert signature.call("sums", "add_parts", (X, X, 1, 3)).dtype == "float32"
    with pytest.raises(TypeError, match=f"sgd: decay is a number, which {half} is not computed in: P in place of T"):
        signature.call("optimizer", "sgd", (x, x, np.zeros(8), 3, 0.0, 1.0))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((X, X), "relu takes x, y, n, got 2 arguments"),
        ((X, X.astype("float64"), 3), "relu: y is float64, not float32"),
        ((X, X, X), "relu: n is a number"),
        ((X, 3, 3), "relu: y is an array"),
    ],
)
def test_arguments_that_do_not_fit(args, said):
    with pytest.raises(TypeError) as error:
        signature.call("activation", "relu", args)
    assert str(error.value) == said
