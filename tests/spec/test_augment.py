"""What can be asked of augmentation."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from cnnforge.spec import AugmentSpec


def made(**kinds: object) -> AugmentSpec:
    return AugmentSpec.model_validate(kinds)


def test_nothing_is_asked_where_nothing_is_said() -> None:
    assert made() == AugmentSpec(crop=None, flip=None)
    assert made(flip={}).flip is not None
    assert made(crop={"padding": 4}).crop == made(crop={"padding": 4, "border": "reflect"}).crop


@pytest.mark.parametrize("kinds", [{"crop": {}}, {"crop": {"padding": 0}}, {"flip": {"rate": 1}}, {"shift": {}}])
def test_what_is_refused(kinds: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        made(**kinds)


@pytest.mark.parametrize(("size", "padding", "fix"), [((8, 40), 8, "padding: 1"), ((1, 9), 1, "augment.crop: null")])
def test_a_border_that_the_picture_does_not_fill(size: tuple[int, int], padding: int, fix: str) -> None:
    (mistake,) = made(crop={"padding": padding}).mistakes(*size)
    assert (mistake.path, mistake.fix) == (("augment", "crop", "padding"), fix)
    if padding > 1:
        assert not list(made(crop={"padding": padding - 1}).mistakes(*size))
    assert not list(made(flip={}).mistakes(*size))
