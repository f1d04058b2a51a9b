"""Schedules: the learning rate's factor at each step."""

from math import cos, pi

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from cnnforge.schedules import SCHEDULES, AnySchedule


def make(**fields):
    return TypeAdapter(AnySchedule).validate_python(fields)


@pytest.mark.parametrize("kind", SCHEDULES)
@given(steps=st.integers(1, 10_000))
def test_every_schedule_begins_at_one_and_stays_a_share(kind, steps):
    schedule = make(type=kind)
    assert schedule.factor(0, steps) == 1
    for step in {steps // 3, steps // 2, steps - 1}:
        assert 0 <= schedule.factor(step, steps) <= 1
        assert schedule.factor(step, steps) == schedule.factor(step, steps)


def test_constant():
    assert {make(type="constant").factor(step, 10) for step in range(10)} == {1.0}


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_cosine(floor):
    schedule = make(type="cosine", floor=floor)
    factors = [schedule.factor(step, 100) for step in range(101)]
    assert factors == sorted(factors, reverse=True)
    assert factors[50] == pytest.approx((1 + floor) / 2)
    assert factors[100] == pytest.approx(floor)
    assert factors[25] == pytest.approx(floor + (1 - floor) * (1 + cos(pi / 4)) / 2)


@pytest.mark.parametrize(
    "fields", [{"type": "cosine", "floor": 1.0}, {"type": "cosine", "floor": -0.1}, {"type": "step"}]
)
def test_what_makes_no_sense_is_refused(fields):
    with pytest.raises(ValidationError):
        make(**fields)
