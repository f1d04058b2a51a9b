"""Plain scalars: numbers that were meant are numbers, what readers disagree about is refused by name."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnforge.config.scalars import read


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 1e5),
        (".5", 0.5),
        ("5.", 5.0),
        ("-2", -2),
        ("+3", 3),
        ("1_000", 1000),
        ("0", 0),
        ("0.10", 0.1),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("lenet", "lenet"),
        ("y", "y"),
        ("1a", "1a"),
        ("2024-01-01", "2024-01-01"),
        ("1:75", "1:75"),
        ("=", "="),
    ],
)
def test_value(text: str, value: object) -> None:
    found, complaint = read(text)
    assert (found, type(found)) == (value, type(value))
    assert complaint is None


@pytest.mark.parametrize(
    ("text", "value", "why", "fix"),
    [
        ("yes", True, "YAML 1.1 reads yes as true, YAML 1.2 as text", "true, or in quotes where text is meant: 'yes'"),
        (
            "Off",
            False,
            "YAML 1.1 reads Off as false, YAML 1.2 as text",
            "false, or in quotes where text is meant: 'Off'",
        ),
        (
            "012",
            "012",
            "YAML 1.1 reads 012 as an octal number, YAML 1.2 as 12",
            "12, or in quotes where text is meant: '012'",
        ),
        (
            "-08",
            "-08",
            "YAML 1.1 reads -08 as an octal number, YAML 1.2 as 8",
            "-8, or in quotes where text is meant: '-08'",
        ),
        ("0x1F", "0x1F", "numbers are written in decimal, 0x1F is not", "31, or in quotes where text is meant: '0x1F'"),
        (
            "1:30",
            "1:30",
            "YAML 1.1 reads 1:30 as a number of base 60, YAML 1.2 as text",
            "a decimal number, or in quotes where text is meant: '1:30'",
        ),
        ("1234567890123456789", 1, "a number of 19 digits", "at most 18 digits"),
    ],
)
def test_refused(text: str, value: object, why: str, fix: str) -> None:
    found, complaint = read(text)
    assert found == value
    assert complaint is not None
    assert (complaint.why, complaint.fix) == (why, fix)


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    read(text)


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**17), 10**17))
def test_a_number_printed_by_python_is_that_number(number: float) -> None:
    assert read(repr(number)) == (number, None)
