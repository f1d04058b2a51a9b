"""Errors say what, where, why and fix, and their exit codes are those that the docstring promises."""

import re

import pytest

from cnnforge import errors
from cnnforge.errors import CnnforgeError, ConfigError, ConfigErrors, ConfigWarning, ShapeError, dotted, suggest

CLASSES = {name: cls for name, cls in vars(errors).items() if isinstance(cls, type) and issubclass(cls, CnnforgeError)}


def test_the_tree_in_the_docstring_is_the_tree():
    shown = dict(re.findall(r"[├│└─ ]+(\w+) +(\d+) ", errors.__doc__))
    assert shown == {
        name: str(cls.exit_code) for name, cls in CLASSES.items() if name not in ("CnnforgeError", "TerminatedRun")
    }
    assert f"{errors.TerminatedRun.exit_code} for SIGTERM" in errors.__doc__


@pytest.mark.parametrize("cls", CLASSES.values())
def test_none_is_a_value_error_that_pydantic_would_swallow(cls):
    assert not issubclass(cls, ValueError | AssertionError)


def test_every_part_has_its_line():
    error = ShapeError(
        "it does not fit", where="a.yaml:7:3 (model.layers.a)", why="4 < 5", fix="5", context="input (4)"
    )
    assert str(error).splitlines() == [
        "it does not fit",
        "  where: a.yaml:7:3 (model.layers.a), input (4)",
        "  why:   4 < 5",
        "  fix:   5",
    ]
    assert error.to_dict() == {
        "what": "it does not fit",
        "where": "a.yaml:7:3 (model.layers.a), input (4)",
        "why": "4 < 5",
        "fix": "5",
    }


def test_parts_that_are_empty_have_none():
    assert str(ConfigError("wrong")) == "wrong"
    assert str(ConfigError("wrong", fix="right")) == "wrong\n  fix:   right"


def test_a_path_stands_in_for_a_place_until_it_is_known():
    error = ShapeError("wrong", path=("model", "layers", "a"), why="w", fix="f", context="input (4)")
    assert "where: model.layers.a, input (4)" in str(error)
    placed = error.located("a.yaml:7:3")
    assert type(placed) is ShapeError
    assert "where: a.yaml:7:3, input (4)" in str(placed)
    assert (placed.path, placed.why, placed.fix) == (error.path, error.why, error.fix)


def test_a_warning_names_its_rule():
    warning = ConfigWarning("odd", rule="some-rule", path=("model", "layers", "a"), why="w", fix="f").located(
        "a.yaml:7:3"
    )
    assert str(warning) == "odd [some-rule]\n  where: a.yaml:7:3\n  why:   w\n  fix:   f"
    assert warning.to_dict() == {"what": "odd", "where": "a.yaml:7:3", "why": "w", "fix": "f", "rule": "some-rule"}


def test_several_errors_are_shown_one_after_another():
    both = ConfigErrors([ConfigError("one", fix="1"), ShapeError("two")])
    assert str(both) == "one\n  fix:   1\n\ntwo"
    assert both.what == "2 mistakes"
    assert ConfigErrors([ConfigError("one")]).what == "one"


@pytest.mark.parametrize(
    ("path", "text"),
    [((), ""), (("model",), "model"), (("model", "layers", "a"), "model.layers.a"), (("input", 0), "input[0]")],
)
def test_dotted(path, text):
    assert dotted(path) == text


def test_suggest_names_one_that_is_close_or_none():
    assert suggest("filter", ["filters", "kernel"]) == "did you mean 'filters'?"
    assert suggest("colour", ["filters", "kernel"]) == ""
    assert suggest("x", []) == ""
