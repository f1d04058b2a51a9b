"""Functions of vectors against float64, over everything that float32 can hold."""

import numpy as np
import pytest
from scipy import special

from cnnforge.backends.numba import functions
from cnnforge.backends.numba.driver import bound
from cnnforge.backends.numba.signature import Kernel, longs
from cnnforge.backends.numba.vectors import LANES, WIDTH, lanes, put

#: Half the distance between neighbours around 1.
ULP = 2.0**-24


def _applied(name, x):
    """float32 -> float32, by a loop over vectors. ``x``: whole vectors."""
    function, two = getattr(functions, name), name == "normal_share"

    @Kernel
    def loop(block: int, lo: int, hi: int, thread: int) -> None:
        a = longs(block)
        for i in range(lo, hi):
            v = function(lanes(a[0] + WIDTH * i))
            put(a[1] + WIDTH * i, v[0] if two else v)

    y = np.empty_like(x)
    bound(loop, x.size // LANES, 1, x, y)()
    return y


def _numbers(low, high):
    """Evenly by value, and evenly by magnitude down to the smallest, of both signs where the range has both."""
    even = np.linspace(low, high, 1 << 16)
    powers = np.exp2(np.linspace(-149, np.log2(max(abs(low), high)), 1 << 16))
    x = np.concatenate([even, powers, -powers]).astype(np.float32)
    x = x[(x >= low) & (x <= high)]
    return x[: x.size // LANES * LANES].copy()


#: The range that is used, the true function in float64, and the largest error in units of ULP of the result.
FUNCTIONS = {
    "exp": (-87, 88.7, np.exp, 2),
    "expm1_below": (-100, 0, np.expm1, 2),
    "log1p_of_share": (0, 1, np.log1p, 3.5),
    "softplus": (-80, 1e6, lambda x: np.logaddexp(0, x), 3.5),
    "sigmoid": (-80, 1e6, special.expit, 3),
    "tanh": (-1e6, 1e6, np.tanh, 3.5),
    "normal_share": (-5, 1e6, special.ndtr, 12),
}
LIMITS = {  # at -inf, inf
    "exp": (0, np.inf),
    "expm1_below": (-1, None),
    "log1p_of_share": (None, None),
    "softplus": (0, np.inf),
    "sigmoid": (0, 1),
    "tanh": (-1, 1),
    "normal_share": (0, 1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_is_as_near_as_float32_can_be(name):
    low, high, true, most = FUNCTIONS[name]
    x = _numbers(low, high)
    with np.errstate(over="ignore"):
        expected = true(x.astype(np.float64))
    found = _applied(name, x).astype(np.float64)
    normal = abs(expected) > 2.0**-126
    worst = (abs(found - expected)[normal] / abs(expected)[normal]).max() / ULP
    assert worst < most
    np.testing.assert_allclose(found[~normal], expected[~normal], rtol=0, atol=2.0**-126)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_not_finite_stays_or_goes_to_its_limit(name):
    x = np.full(LANES, np.nan, np.float32)
    x[1:3] = -np.inf, np.inf
    found = _applied(name, x)
    assert np.isnan(found[0])
    assert np.isnan(found[3:]).all()
    for got, expected in zip(found[1:3], LIMITS[name], strict=True):
        assert expected is None or got == expected


@pytest.mark.parametrize(("x", "expected"), [(89.0, np.inf), (1e30, np.inf), (-104.0, 0.0), (-1e30, 0.0), (0.0, 1.0)])
def test_exp_beyond_what_float32_can_hold(x, expected):
    assert (_applied("exp", np.full(LANES, x, np.float32)) == np.float32(expected)).all()
