"""Stand-ins for Numba's names."""

import numpy as np
import pytest
from llvmlite import ir

from cnnforge.backends.numba.driver import bound
from cnnforge.backends.numba.language import Later, carray, int64, intrinsic, resolved, types
from cnnforge.backends.numba.signature import Kernel, longs, part


@intrinsic
def add(typing_context, a, b):
    """Has the name of what it uses of LLVM's builder."""

    def generate(context, builder, signature, arguments):
        return builder.add(*arguments)

    return types.intp(types.intp, types.intp), generate


def _times(factor):
    @part
    def times(x):
        return add(x * factor, int64(0))

    return times


_thrice = _times(3)


@Kernel
def _triple(block: int, lo: int, hi: int, thread: int) -> None:
    a = carray(longs(block), (1,))
    x = carray(longs(a[0]), (4,))
    for i in range(lo, hi):
        x[i] = add(_thrice(x[i]), 1)


def test_kernels_are_written_with_stand_ins():
    x = np.arange(4)
    bound(_triple, 4, 1, x)()
    np.testing.assert_array_equal(x, [1, 4, 7, 10])


def test_what_is_behind_is_asked_for_once_and_late():
    asked = []
    stand_in = Later(lambda: asked.append(1) or range(3))
    assert not asked
    assert (stand_in.stop, stand_in.stop, asked) == (3, 3, [1])
    with pytest.raises(AttributeError):
        stand_in.__wrapped__  # noqa: B018
    assert Later(lambda: len)("ab") == 2


def test_globals_and_closure_are_resolved_and_the_rest_stays():
    stand_in, other = Later(lambda: "found"), Later(lambda: 1 / 0)

    def function(x=2):
        return stand_in, x, other.stop, ir

    with pytest.raises(ZeroDivisionError):
        resolved(function)

    def function(x=2):
        return stand_in, x, ir

    assert resolved(function)() == ("found", 2, ir)
