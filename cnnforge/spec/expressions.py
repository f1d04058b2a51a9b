"""``=4 * width``: arithmetic in templates, in a grammar of its own.

    sum     = product { ("+" | "-") product }
    product = unary { ("*" | "//" | "%") unary }
    unary   = "-" unary | number | name | "(" sum ")"

Numbers are whole or decimal; names are the template's parameters. There are no calls and no attributes, and results
are bounded, so a stranger's file can neither run code nor take memory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_TOKEN = re.compile(r"\s*(?:(\d+\.\d*|\.\d+|\d+)|([A-Za-z_][A-Za-z0-9_]*)|(//|[-+*%()]))")
MAX_LENGTH, MAX_DEPTH, MAX_RESULT = 200, 20, 10**12


class ExpressionError(Exception):
    """What is wrong with an expression, and what to do."""

    def __init__(self, why: str, fix: str = "") -> None:
        super().__init__(why)
        self.why, self.fix = why, fix


def is_expression(value: Any) -> bool:
    """Is it text that begins with ``=``?"""
    return isinstance(value, str) and value.startswith("=")


def names(text: str) -> list[str]:
    """The names that an expression uses, in order."""
    return [found[2] for found in _TOKEN.finditer(text[1:]) if found[2]]


def evaluate(text: str, values: Mapping[str, Any]) -> Any:
    """The value of ``text``, which begins with ``=``. A name alone gives its value, of whatever type; arithmetic is for
    numbers. Raises ExpressionError.
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"it is {len(text)} characters long; at most {MAX_LENGTH} are read", "a shorter one")
    parser = _Parser(_tokens(text[1:]), values)
    result = parser.sum(0)
    if parser.left():
        raise ExpressionError(f"'{parser.left()[0]}' does not belong there", "one expression: + - * // % and ( )")
    return result


def _tokens(text: str) -> list[str]:
    tokens, at = [], 0
    while text[at:].strip():
        found = _TOKEN.match(text, at)
        if found is None:
            sign = text[at:].strip()[0]
            fix = "'//' divides and rounds down" if sign == "/" else "numbers, names, + - * // % and ( )"
            raise ExpressionError(f"'{sign}' is not part of the grammar", fix)
        tokens.append(found[0].strip())
        at = found.end()
    return tokens


class _Parser:
    """Reads a list of tokens from the left."""

    def __init__(self, tokens: list[str], values: Mapping[str, Any]) -> None:
        self._tokens, self._values, self._at = tokens, values, 0

    def left(self) -> list[str]:
        return self._tokens[self._at :]

    def sum(self, depth: int) -> Any:
        result = self.product(depth)
        while self._next("+", "-"):
            sign = self._take()
            right = self.product(depth)
            result = _calculate(sign, result, right)
        return result

    def product(self, depth: int) -> Any:
        result = self.unary(depth)
        while self._next("*", "//", "%"):
            sign = self._take()
            right = self.unary(depth)
            result = _calculate(sign, result, right)
        return result

    def unary(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ExpressionError(f"it is more than {MAX_DEPTH} brackets deep", "a simpler one")
        if not self.left():
            raise ExpressionError("it ends too early", "a number or a name at the end")
        token = self._take()
        if token == "-":
            return _calculate("-", 0, self.unary(depth + 1))
        if token == "(":
            result = self.sum(depth + 1)
            if not self._next(")"):
                raise ExpressionError("a bracket is not closed", "a ')' for every '('")
            self._take()
            return result
        if token[0].isdigit() or token[0] == ".":
            return _bounded(float(token) if "." in token else int(token))
        if token in self._values:
            return self._values[token]
        if token[0].isalpha() or token[0] == "_":
            if self._next("("):
                raise ExpressionError(f"'{token}(…)': there are no functions", "numbers, names, + - * // % and ( )")
            known = ", ".join(self._values)
            raise ExpressionError(f"nothing is called '{token}' here" + (f"; names are {known}" if known else ""))
        raise ExpressionError(f"'{token}' does not belong there", "a number or a name before it")

    def _next(self, *signs: str) -> bool:
        return self._at < len(self._tokens) and self._tokens[self._at] in signs

    def _take(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1]


def _calculate(sign: str, a: Any, b: Any) -> Any:
    for value in (a, b):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ExpressionError(f"'{sign}' is for numbers, and {value!r} is none", "a number")
    if sign in ("//", "%"):
        if b == 0:
            raise ExpressionError(f"{a} {sign} 0 has no result", "a number other than 0")
        result = a // b if sign == "//" else a % b
    else:
        result = a + b if sign == "+" else a - b if sign == "-" else a * b
    return _bounded(result)


def _bounded(number: float) -> float:
    if abs(number) > MAX_RESULT:
        raise ExpressionError(f"there is a number beyond {MAX_RESULT:,} in it", "smaller numbers")
    return number
