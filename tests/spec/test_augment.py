"""What can be asked of augmentation."""

from __future__ import annotations

import json

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


@pytest.mark.parametrize(
    ("kinds", "path", "fix"),
    [
        ({"shift": {"share": 0.03}}, "shift.share", "share: 0.04"),
        ({"rotate": {"degrees": 181}}, "rotate.degrees", "degrees: 180"),
        ({"affine": {"rotate": 200}}, "affine.rotate", "rotate: 180"),
        ({"affine": {"shear": 45}}, "affine.shear", "shear: 20"),
        ({"affine": {"scale": [1.2, 0.8]}}, "affine.scale", "scale: [0.8, 1.2]"),
        ({"affine": {"scale": [0.01, 2]}}, "affine.scale", "scale: [0.9, 1.1]"),
        ({"affine": {"scale": [1, 11]}}, "affine.scale", "scale: [0.9, 1.1]"),
        ({"elastic": {"sigma": 129}}, "elastic.sigma", "sigma: 4"),
        ({"cutout": {"size": 28}}, "cutout.size", "size: 14"),
        ({"cutout": {"size": 8, "rate": 1.5}}, "cutout.rate", "rate: 1"),
        ({"erase": {"area": [0.2, 1.5]}}, "erase.area", "area: [0.02, 0.33]"),
        ({"erase": {"area": [0.2, 0.1]}}, "erase.area", "area: [0.1, 0.2]"),
        ({"erase": {"ratio": [3, 2]}}, "erase.ratio", "ratio: [2, 3]"),
        ({"colour": {"hue": 0.6}}, "colour.hue", "hue: 0.5"),
    ],
)
def test_mistakes_and_their_mending(kinds: dict[str, object], path: str, fix: str) -> None:
    """What the fix says is right."""
    (mistake,) = made(**kinds).mistakes(28, 32)
    assert (".".join(map(str, mistake.path)), mistake.fix) == (f"augment.{path}", fix)
    kind, field = path.split(".")
    value = yaml_value(fix.partition(": ")[2])
    mended = {kind: kinds[kind] | {field: value}}  # type: ignore[operator]
    assert not list(made(**mended).mistakes(28, 32))


def yaml_value(text: str) -> object:
    return json.loads(text)


@pytest.mark.parametrize(
    "kinds",
    [
        {"shift": {"share": 1}},
        {"erase": {"area": [0, 0.5]}},
        {"colour": {"brightness": 1}},
        {"affine": {"scale": 2}},
        {"rotate": {"degrees": 0}},
        {"elastic": {"sigma": -1}},
        {"cutout": {}},
        {"border": "wrap"},
    ],
)
def test_values_that_are_refused(kinds: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        made(**kinds)


def test_only_three_channels_have_colours() -> None:
    grey = made(colour={"hue": 0.1, "saturation": 0.2, "contrast": 0.1})
    assert [mistake.path[-1] for mistake in grey.mistakes(8, 8, 1)] == ["saturation", "hue"]
    assert not list(grey.mistakes(8, 8, 3))
    assert not list(made(colour={"contrast": 0.1}).mistakes(8, 8, 1))
