"""Kernels' parameters, and what may be given for them."""

import re

import ml_dtypes  # noqa: F401 - NumPy knows "bfloat16" by it
import numpy as np
import pytest

from cnnforge.backends.cupy import conv, signature
from cnnforge.backends.cupy.tail import Function, Tail

X = np.zeros(3, np.float32)


def test_parameters_are_read_from_the_source():
    expected = [("T", True, "x"), ("T", True, "y"), ("i64", False, "n")]
    assert signature.kernels("activation")["apply"] == tuple(signature.Parameter(*e) for e in expected)
    names = [p.name for p in signature.kernels("conv")["conv2d"]]
    assert names[:7] == ["x", "w", "y", "rows", "H", "W", "C"]
    assert names[-2:] == ["groups", "flip"]


def test_files_that_are_only_included_hold_no_kernels():
    assert {"base", "functions", "gemm", "window"}.isdisjoint(signature.sources())
    assert {"activation", "conv", "depthwise", "linear"} <= set(signature.sources())


def test_text_is_complete_and_nothing_is_there_twice():
    text = signature.text("conv", "float64")
    assert text.startswith("#define T double\n#define P double\n")
    assert "#include" not in text
    assert text.count("struct Window {") == text.count("#define EACH") == text.count("#define DEPTH 16") == 1


def test_kernels_names_are_their_own():
    """All of them lie in one name space on some day: a profiler's, a reader's."""
    shapes = {tile.source for tile in (*conv.NARROW, conv.LARGE)}  # the same kernels, in other tiles
    names = [name for source in signature.sources() if source not in shapes for name in signature.kernels(source)]
    assert len(names) == len(set(names))


def test_t_is_what_the_arrays_are():
    assert signature.call("activation", "apply", (X, X, 3)).dtype == "float32"
    call = signature.call("activation", "apply", (X.astype("float64"), X.astype("float64"), 3))
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
        signature.call("optimizer", "sgd", (x, x, np.zeros(8), 3, 0.0, 1.0, None))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((X, X), "apply takes x, y, n, got 2 arguments"),
        ((X, X.astype("float64"), 3), "apply: y is float64, not float32"),
        ((X, X, X), "apply: n is a number"),
        ((X, 3, 3), "apply: y is an array"),
    ],
)
def test_arguments_that_do_not_fit(args, said):
    with pytest.raises(TypeError) as error:
        signature.call("activation", "apply", args)
    assert str(error.value) == said


#: x + what lies beside it, then elu, then + one number for each channel.
FUNCTIONS = (Function("plus", "cell"), Function("elu", numbers=2), Function("plus", "channel"))


def test_a_tail_has_parameters_behind_the_kernels_own():
    names = [(p.type, p.array, p.name) for p in signature.kernels("channels", FUNCTIONS)["bias"]]
    assert names[-4:] == [
        ("T", True, "tail_0"), ("P", False, "tail_1"), ("P", False, "tail_2"), ("P", True, "tail_3"),
    ]  # fmt: skip
    assert len(names) == len(signature.kernels("channels")["bias"]) + 4


def test_a_tails_functions_run_in_their_order():
    text = signature.text("conv", "bfloat16", FUNCTIONS)
    said = ["v = plus(v, tail_0[i]);", "v = elu(v, tail_1, tail_2);", "v = plus(v, tail_3[c]);"]
    assert [text.count(line) for line in said] == [1, 1, 1]
    assert sorted(said, key=text.index) == said
    assert text.index("P elu(P v") < text.index(said[0]) < text.index("struct Slice")
    assert "elu" not in signature.text("conv", "bfloat16")


@pytest.mark.parametrize("half", signature.HALVES)
def test_what_a_tail_reads_by_cell_is_half_and_all_else_is_not(half):
    x = np.zeros(3, half)
    call = signature.call("activation", "apply", (x, x, 3), Tail(FUNCTIONS, (x, 1.0, 0.5, X)))
    assert (call.dtype, call.arguments[-3]) == (half, ("float32", 1.0))
    with pytest.raises(TypeError, match=f"apply: tail_0 is float32, not {half}"):
        signature.call("activation", "apply", (x, x, 3), Tail(FUNCTIONS, (X, 1.0, 0.5, X)))


def test_a_kernel_that_has_none_is_given_no_tail():
    with pytest.raises(TypeError, match="prelu takes x, alpha, y, rows, columns, got 6 arguments"):
        signature.call("channels", "prelu", (X, X, X, 1, 3), Tail((Function("plus", "cell"),), (X,)))


@pytest.mark.parametrize("source", signature.sources())
def test_what_is_given_a_tail_stores_by_it(source):
    """In its own body, or in that of a macro that it is made of."""
    text = (signature.FOLDER / f"{source}.cuh").read_text()
    made = {name for name, body in re.findall(r"#define (\w+)[^\\\n]*((?:\\\n[^\\\n]*)+)", text) if "TAIL(" in body}
    kernel = r"__global__ void (?:__launch_bounds__\(\w+\) )?(\w+)\(([^)]*)\) \{(.*?)\n\}?\n"
    for name, given, body in re.findall(kernel, text, re.DOTALL):
        used = "TAIL" in body or any(macro in body for macro in made)
        assert used == ("AND_TAIL" in given), name


def test_what_a_device_keeps_may_be_missing():
    block = np.zeros(8)
    call = signature.call("optimizer", "average", (X, X, block, 3, None))
    assert call.arguments[3:] == (("int64", 3), ("uint64", 0)), "a null pointer"
    with pytest.raises(TypeError, match="average: step is an array"):
        signature.call("optimizer", "average", (X, X, None, 3, None))
