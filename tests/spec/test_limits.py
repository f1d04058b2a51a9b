"""Limits and times as text: the grammar, and that nothing else passes it."""

from operator import ge, gt, le, lt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cnnforge.fields import BYTE_UNITS, COUNT_UNITS, TIME_UNITS
from cnnforge.spec.limits import Constraints, limits, seconds
from cnnforge.spec.sweep import Budget

HOLDS = {"<=": le, "<": lt, ">=": ge, ">": gt}
FIELDS = {"params": COUNT_UNITS, "macs": COUNT_UNITS, "memory": BYTE_UNITS, "time": TIME_UNITS}
SPACES = st.sampled_from(["", " ", "  "])


def broken(value, **fields):
    known = dict.fromkeys(FIELDS, value)
    return [(name, limit.text) for name, limit in Constraints.model_validate(fields).broken(known)]


def test_limits():
    assert broken(100_000, params="<= 100_000") == []
    assert broken(100_001, params="<= 100_000") == [("params", "<= 100_000")]
    assert broken(2048, memory=">= 1 KiB, < 2 KiB") == [("memory", "< 2 KiB")]
    assert broken(7200, time="<2h") == [("time", "<2h")]
    assert broken(1.5e6, macs="> 1.5 M", params="< 1.5M") == [("params", "< 1.5M"), ("macs", "> 1.5 M")]
    assert broken(None, time="< 1 s") == []
    assert [limit.number for limit in limits("<= 1_000.5, > 1e3 k", COUNT_UNITS)] == [1000.5, 1e6]


@given(st.sampled_from([*FIELDS]), st.data())
def test_every_text_of_the_grammar_means_what_it_says(name, data):
    sign = data.draw(st.sampled_from([*HOLDS]))
    number = data.draw(st.integers(0, 10**12) | st.floats(0, 1e9).map(lambda x: round(x, 3)))
    unit = data.draw(st.sampled_from(["", *FIELDS[name]]))
    form = data.draw(st.sampled_from(["{}", "{:_}"])) if isinstance(number, int) else "{}"
    a, b, c, d = (data.draw(SPACES) for _ in range(4))
    text = f"{a}{sign}{b}{form.format(number)}{c}{unit}{d}"
    edge = float(number) * FIELDS[name].get(unit, 1)
    for value in (edge, edge + 1, edge - 1, 0.0):
        assert (broken(value, **{name: text}) == []) == HOLDS[sign](value, edge), text


@given(st.sampled_from([*FIELDS]), st.text(alphabet="<>= 0123456789_.,eE+-kMGiBsmhd()x'", max_size=20))
def test_any_other_text_is_refused_and_none_crashes(name, text):
    try:
        made = Constraints.model_validate({name: text})
    except ValidationError:
        return
    assert list(made.broken(dict.fromkeys(FIELDS, 1.0))) is not None
    assert all(part.strip()[0] in "<>" for part in text.split(","))


@pytest.mark.parametrize(
    "text",
    ["", "100", "== 3", "<= ", "<= 3 MiB", "< 3 < 4", "<= 3,", "<= -1", "< x", "<= 3; import os", "<= 0x10", "<= 1 m"],
)
def test_refused(text):
    with pytest.raises(ValidationError):
        Constraints.model_validate({"params": text})


def test_times():
    assert [seconds(text) for text in ("90 s", "1h30min", "1.5 h", "2 d 1 ms")] == [90, 5400, 5400, 172800.001]
    assert [Budget.model_validate({"time": time}).seconds for time in (90, "90", "1e3", "2h")] == [90, 90, 1000, 7200]
    assert Budget().seconds is None
    for wrong in ("soon", "1:30", "h", "-1 h", "1 hour", 0):
        with pytest.raises(ValidationError):
            Budget.model_validate({"time": wrong})
