"""Kernels' parameters, and what may be given for them."""

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
    assert text.startswith("#define T double\n")
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


def test_what_a_device_keeps_may_be_missing():
    block = np.zeros(8)
    call = signature.call("optimizer", "average", (X, X, block, 3, None))
    assert call.arguments[3:] == (("int64", 3), ("uint64", 0)), "a null pointer"
    with pytest.raises(TypeError, match="average: step is an array"):
        signature.call("optimizer", "average", (X, X, None, 3, None))
