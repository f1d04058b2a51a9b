"""Validation: the data against the model, and every mistake at once."""

from __future__ import annotations

import pytest

from cnnforge.config import compose, validate, validate_model
from cnnforge.errors import ConfigErrors


def message(*overrides: str, match_data: bool = True) -> str:
    with pytest.raises(ConfigErrors) as caught:
        validate(compose(overrides), match_data=match_data)
    return str(caught.value)


def test_units_against_classes() -> None:
    assert message("model.layers.output.units=7") == (
        "output: 7 units for 10 classes\n"
        "  where: <override 'model.layers.output.units=7'> (model.layers.output.units)\n"
        "  why:   data 'digits' has 10 classes, one output for each\n  fix:   units: 10"
    )
    assert validate(compose(["model.layers.output.units=7"]), match_data=False).model.output == (7,)


def test_one_sigmoid_unit_for_ten_classes() -> None:
    assert message("model=cat_detector").startswith(
        "output: 1 sigmoid unit for 10 classes\n  where: configs/model/cat_"
    )


def test_an_unknown_number_of_classes() -> None:
    assert message("data=npz", "data.path=a.npz") == (
        "the number of classes is not known\n"
        "  where: configs/data/npz.yaml with <override 'data.path=a.npz'> (data)\n"
        "  why:   the loss is softmax_cross_entropy, and data 'npz' does not say how many classes it has\n"
        "  fix:   data.classes: 10"
    )
    assert validate(compose(["data=npz", "data.path=a.npz", "data.classes=10"])).data.class_count() == 10


def test_a_border_as_wide_as_the_picture() -> None:
    assert message("augment=flip_crop", "augment.crop.padding=32", match_data=False) == (
        "augment: a border of 32 pixels around pictures of 32x32\n"
        "  where: <override 'augment.crop.padding=32'> (augment.crop.padding)\n"
        "  why:   32 is not below 32: a crop might hold nothing of the picture\n  fix:   padding: 4"
    )
    assert validate(compose(["augment.crop.padding=31"])).augment.crop is not None


def test_the_same_mistake_is_said_once() -> None:
    """A key that the scan refused is not reported again by pydantic, nor a layer by both pydantic and the shape "
    "walk."""
    text = message("model.layers.conv1.kernel=0", "model.layers.fc3.units=0")
    assert text.count("cannot be") == len(text.split("\n\n")) == 2


def test_a_model_by_itself() -> None:
    assert validate_model(compose(["model=edge_detector"])).output == (4, 4, 1)
