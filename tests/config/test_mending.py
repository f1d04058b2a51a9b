"""Going on after a mistake: what is still known is still checked, and what is not known says nothing."""

from __future__ import annotations

import pytest

from cnnforge.config import read_model, validate_model
from cnnforge.errors import ConfigErrors


def said(*layers: str, head: str = "") -> list[str]:
    """The first line of every error of a model with these layers."""
    text = f"name: net\ninput: [16, 16, 4]\n{head}layers:\n" + "".join(f"  {layer}\n" for layer in layers)
    try:
        validate_model(read_model(text))
    except ConfigErrors as found:
        return [error.what for error in found.errors]
    return []


GROUPS = "g: {type: conv, filters: 6, kernel: 1, groups: 4}"
WIDE = "w: {type: conv, filters: 4, kernel: 15}"


def test_a_typing_error_is_read_as_what_was_meant() -> None:
    assert said("a: {type: pool, kernal: 2}", WIDE) == [
        "a: unknown key 'kernal'",
        "w: a 15x15 window does not fit a 8x8 input",
    ]


def test_a_key_that_nobody_knows_may_have_been_about_sizes() -> None:
    assert said("a: {type: conv, filters: 4, kernel: 3, margin: 1}", WIDE) == ["a: unknown key 'margin'"]
    assert said("a: {type: conv, filters: 6, kernel: 3, margin: 1}", GROUPS) == [
        "a: unknown key 'margin'",
        "g: 6 input channels cannot be divided into 4 groups",
    ]


def test_a_wrong_size_leaves_the_channels_known() -> None:
    assert said("a: {type: conv, filters: 6, kernel: 0}", WIDE, GROUPS.replace("filters: 6", "filters: 8")) == [
        "a: kernel cannot be 0"
    ]
    assert said("a: {type: conv, filters: 6, kernel: 0}", GROUPS) == [
        "a: kernel cannot be 0",
        "g: 6 input channels cannot be divided into 4 groups",
    ]


def test_a_harmless_value_hides_nothing() -> None:
    assert said("a: {type: pool, kernel: 2, mode: most}", WIDE) == [
        "a: mode cannot be 'most'",
        "w: a 15x15 window does not fit a 8x8 input",
    ]


@pytest.mark.parametrize("layer", ["{type: conw, filters: 6}", "{filters: 6}", "conv", "null", "[conv]"])
def test_of_a_layer_without_a_type_nothing_is_known(layer: str) -> None:
    assert len(said(f"a: {layer}", "b: {type: conv, filters: 8, kernel: 30, groups: 8}")) == 1


def test_a_wrong_composite_block_still_has_its_layers() -> None:
    body = "{c: {type: conv, filters: 4, kernel: 99}}"
    assert said(f"a: {{type: residual, shortcut: direct, layers: {body}}}") == [
        "a: shortcut cannot be 'direct'",
        "a.c: a 99x99 window does not fit a 16x16 input",
    ]
    assert said(f"a: {{type: branches, merge: join, branches: {{one: {body}, two: {{}}}}}}") == [
        "a: merge cannot be 'join'",
        "a.one.c: a 99x99 window does not fit a 16x16 input",
    ]


@pytest.mark.parametrize(
    "layer",
    [
        "{type: residual, shortcut: direct, layers: {c: {type: conv, filters: 4, kernel: 1}}}",
        "{type: t}",
        "{type: tt}",
        "{type: repeat, times: many, block: {type: flatten}}",
        "{type: repeat, times: 2, frist: {}, block: {type: flatten}}",
    ],
)
def test_what_lies_within_a_wrong_layer_may_be_read(layer: str) -> None:
    head = "templates:\n  t: {parameters: {n: int}, layers: {c: {type: conv, filters: =n, kernel: 1}}}\n"
    assert len(said(f"a: {layer}", "b: {type: conv, filters: 4, kernel: 1, input: a.c}", head=head)) == 1


def test_a_wrong_input_says_nothing_of_the_layers() -> None:
    text = f"name: net\ninput: [16, 16]\nlayers:\n  {WIDE}\n  {GROUPS}\n"
    with pytest.raises(ConfigErrors) as caught:
        validate_model(read_model(text))
    assert [error.what for error in caught.value.errors] == [
        "model: input cannot be [16, 16]",
        "g: 6 filters cannot be divided into 4 groups",
    ]


def test_one_yaml_mistake_in_a_templates_argument_is_said_once() -> None:
    head = "templates:\n  t: {parameters: {n: int}, block: {type: conv, filters: =n, kernel: 1}}\n"
    assert said("a: {type: t, n: yes}", head=head) == ["a.n cannot be yes"]
