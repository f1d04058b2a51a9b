"""Arithmetic in templates: Python's own results, and nothing but ExpressionError for anything else."""

from __future__ import annotations

import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnforge.spec.expressions import MAX_DEPTH, MAX_LENGTH, MAX_RESULT, ExpressionError, evaluate, is_expression, names

NAMES = {"a": 7, "width": 12, "half": 0.5}
WORD = {"word": "relu"}
OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "//": operator.floordiv, "%": operator.mod}


@st.composite
def sums(draw, depth: int = 3) -> tuple[str, int]:
    """An expression in brackets as written, and what Python makes of it."""
    if depth == 0 or draw(st.booleans()):
        name = draw(st.sampled_from(["a", "width", ""]))
        number = draw(st.integers(0, 30))
        return (name, int(NAMES[name])) if name else (str(number), number)
    sign = draw(st.sampled_from(sorted(OPERATORS)))
    (left, a), (right, b) = draw(sums(depth - 1)), draw(sums(depth - 1))
    if sign in ("//", "%") and b == 0:
        right, b = "3", 3
    return f"({left} {sign} {right})", OPERATORS[sign](a, b)


@given(sums())
def test_whole_numbers_as_python_reckons(pair: tuple[str, int]) -> None:
    text, value = pair
    if len(text) >= MAX_LENGTH:
        return
    assert evaluate(f"={text}", NAMES) == value
    assert type(evaluate(f"={text}", NAMES)) is int


@pytest.mark.parametrize(
    "text", ["1 + 2 * 3", "2 - 3 - 4", "-7 // 2", "-7 % 3", "7 // -2", "2 * -3", "- - 3", "100 // 7 // 3", "7 % 4 * 2"]
)
def test_the_order_of_operations_is_pythons(text: str) -> None:
    assert evaluate(f"={text}", {}) == {
        "1 + 2 * 3": 7, "2 - 3 - 4": -5, "-7 // 2": -7 // 2, "-7 % 3": -7 % 3, "7 // -2": 7 // -2, "2 * -3": -6,
        "- - 3": 3, "100 // 7 // 3": 100 // 7 // 3, "7 % 4 * 2": 7 % 4 * 2,
    }[text]  # fmt: skip


def test_a_name_alone_is_its_value_of_whatever_type() -> None:
    for value in (3, 0.5, "relu", True, [3, 5]):
        assert evaluate("= x ", {"x": value}) == value
    assert evaluate("=half * 4", NAMES) == 2.0
    assert evaluate("=.5 + 1.", {}) == 1.5


def test_what_is_an_expression() -> None:
    assert is_expression("=3")
    assert not any(is_expression(value) for value in ("3", " =3", 3, None, ["=3"]))
    assert names("=4 * width // (a + width)") == ["width", "a", "width"]


@pytest.mark.parametrize(
    ("text", "why", "fix"),
    [
        ("=a / 2", "'/' is not part of the grammar", "'//' divides and rounds down"),
        ("=a ^ 2", "'^' is not part of the grammar", "numbers, names, + - * // % and ( )"),
        ("=a.real", "'.' is not part of the grammar", "numbers, names, + - * // % and ( )"),
        ("=a ** 2", "'*' does not belong there", "a number or a name before it"),
        ("=", "it ends too early", "a number or a name at the end"),
        ("=a +", "it ends too early", "a number or a name at the end"),
        ("=(a", "a bracket is not closed", "a ')' for every '('"),
        ("=a)", "')' does not belong there", "one expression: + - * // % and ( )"),
        ("=a a", "'a' does not belong there", "one expression: + - * // % and ( )"),
        ("=a // 0", "7 // 0 has no result", "a number other than 0"),
        ("=a % (a - 7)", "7 % 0 has no result", "a number other than 0"),
        ("=a * 999999999999", "there is a number beyond 1,000,000,000,000 in it", "smaller numbers"),
        ("=" + "9" * 100, "there is a number beyond 1,000,000,000,000 in it", "smaller numbers"),
        ("=word + 1", "'+' is for numbers, and 'relu' is none", "a number"),
        ("=b", "nothing is called 'b' here; names are a, width, half, word", ""),
        ("=min(a)", "'min(…)': there are no functions", "numbers, names, + - * // % and ( )"),
        ("=" + "(" * 30 + "1" + ")" * 30, f"it is more than {MAX_DEPTH} brackets deep", "a simpler one"),
        ("=" + "1 + " * 100 + "1", "it is 402 characters long; at most 200 are read", "a shorter one"),
    ],
)
def test_what_is_wrong_and_what_to_do(text: str, why: str, fix: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        evaluate(text, NAMES | WORD)
    assert (caught.value.why, caught.value.fix) == (why, fix)


def test_no_names_where_there_are_none() -> None:
    with pytest.raises(ExpressionError, match=r"^nothing is called 'n' here$"):
        evaluate("=n", {})


@given(st.text() | st.text("a0123456789.+-*/%() ", max_size=40))
def test_any_text_is_a_bounded_value_or_an_expression_error(text: str) -> None:
    try:
        value = evaluate(f"={text}", NAMES)
    except ExpressionError:
        return
    assert abs(value) <= MAX_RESULT


def test_what_looks_like_code_is_not_run() -> None:
    for text in (
        "=__import__('os')",
        "=a.__class__",
        "=[].append(1)",
        "=lambda: 1",
        "=a if a else 0",
        "=a[0]",
        "=f'{a}'",
    ):
        with pytest.raises(ExpressionError):
            evaluate(text, NAMES)
