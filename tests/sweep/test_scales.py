"""Heights and labels of upright axes."""

import pytest

from cnnforge.spec.axis import Axis
from cnnforge.sweep.scales import ABSENT, LONGEST, of_axis, of_numbers


def axis(**about):
    return of_axis(Axis.model_validate(about))


def labels(scale):
    return [label for _, label in scale.ticks]


def test_choices():
    scale = axis(choices=["adam", "sgd", True, {"type": "he"}])
    assert labels(scale) == ["adam", "sgd", "true", "{type: he}"]
    assert [scale.height(value) for value in ("adam", True, {"type": "he"}, None)] == [
        0, pytest.approx(2 / 3), 1, ABSENT,
    ]  # fmt: skip
    assert axis(choices=[5]).height(5) == 0.5
    assert len(labels(axis(choices=list(range(100))))) <= 12
    assert len(labels(axis(choices=["a" * 40]))[0]) == LONGEST


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({"low": 1e-4, "high": 0.1, "log": True}, ["0.0001", "0.001", "0.01", "0.1"]),
        ({"low": 32, "high": 256, "log": True}, ["32", "54", "91", "152", "256"]),
        ({"low": 1e-9, "high": 1.0, "log": True}, ["1e-09", "1e-07", "1e-05", "0.001", "0.1", "1"]),
        ({"low": 0.5, "high": 0.99}, ["0.5", "0.6", "0.7", "0.8", "0.9", "0.99"]),
        ({"low": 4, "high": 6}, ["4", "5", "6"]),
        ({"low": 0, "high": 1000}, ["0", "200", "400", "600", "800", "1000"]),
    ],
)
def test_ranges(about, expected):
    scale = axis(**about)
    assert labels(scale) == expected
    assert (scale.height(about["low"]), scale.height(about["high"])) == (0, 1)


def test_in_the_middle_of_decades():
    assert axis(low=1e-4, high=1e-2, log=True).height(1e-3) == pytest.approx(0.5)


def test_numbers_that_were_reached():
    assert labels(of_numbers([0.9, 0.95], "val_accuracy"))[::5] == ["90.00%", "95.00%"]
    assert labels(of_numbers([1e5, 2.5e6], "macs"))[-1] == "2.5M"
    assert of_numbers([0.01, 1.0, 100.0], "val_loss").height(1.0) == pytest.approx(0.5)
    assert (labels(of_numbers([2.0, 2.0], "val_loss")), of_numbers([2.0], "val_loss").height(2.0)) == (["2"], 0.5)
