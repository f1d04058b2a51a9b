"""The values of one axis: how many, which, where a draw falls."""

from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnforge.spec.axis import Axis


def axis(value):
    return Axis.model_validate(value)


def values(value):
    made = axis(value)
    return None if made.count is None else [made.at(i) for i in range(made.count)]


def test_values_in_order():
    assert values([3, "a", None]) == [3, "a", None]
    assert values({"choices": [True]}) == [True]
    assert values({"low": 1, "high": 4}) == [1, 2, 3, 4]
    assert values({"low": 1, "high": 8, "step": 3}) == [1, 4, 7]
    assert values({"low": 1, "high": 3, "log": True}) == [1, 2, 3]
    assert values({"low": 0.0, "high": 0.5, "step": 0.1}) == [0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert values({"low": 0.1, "high": 0.35, "step": "1e-1"}) == [0.1, 0.2, 0.3]
    assert values({"low": 0, "high": 1.0}) is None
    assert values({"low": "1e-4", "high": 0.1, "log": True}) is None


def test_whole_numbers_stay_whole():
    assert all(type(value) is int for value in values({"low": 1, "high": 9, "step": 4}))
    assert all(type(value) is float for value in values({"low": 1, "high": 2.0, "step": 1}))
    assert type(axis({"low": 1, "high": 100, "log": True}).drawn(0.5)) is int


def test_ends():
    assert axis([5, 3, 4]).ends() == (5, 4)
    assert axis([5]).ends() == (5,)
    assert axis({"low": 1, "high": 8, "step": 3}).ends() == (1, 7)
    assert axis({"low": 1, "high": 2.5}).ends() == (1.0, 2.5)


AXES = [
    [1, 2, 3],
    {"low": 2, "high": 9},
    {"low": 2, "high": 9, "step": 2},
    {"low": 1, "high": 64, "log": True},
    {"low": 0.5, "high": 0.99},
    {"low": 1e-5, "high": 1e-1, "log": True},
    {"low": 0.0, "high": 1.0, "step": 0.25},
]


@given(st.sampled_from(AXES), st.floats(0, 1, exclude_max=True))
def test_a_draw_is_one_of_the_values(value, u):
    made = axis(value)
    drawn = made.drawn(u)
    if made.count is None:
        assert made.low <= drawn <= made.high
        assert drawn == float(f"{drawn:.6g}")
    else:
        assert drawn in [made.at(i) for i in range(made.count)]


def test_a_logarithmic_draw_has_as_many_in_each_decade():
    drawn = [axis({"low": 1e-4, "high": 1e-1, "log": True}).drawn(i / 300) for i in range(300)]
    assert [sum(1e-4 * 10**k <= x < 1e-3 * 10**k for x in drawn) for k in range(3)] == [100, 100, 100]
    whole = [axis({"low": 1, "high": 64, "log": True}).drawn(i / 1000) for i in range(1000)]
    expected = [1000 * (log(n + 0.5) - log(n - 0.5)) / (log(64.5) - log(0.5)) for n in (1, 2, 8)]
    assert [whole.count(n) for n in (1, 2, 8)] == pytest.approx(expected, abs=1)
