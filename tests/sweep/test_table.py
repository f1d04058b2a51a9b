"""Headings and values of the table; the table itself is tested through the command."""

import pytest

from cnnforge.sweep.table import short_names, text


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        (["optimizer.lr", "seed", "model"], ["lr", "seed", "model"]),
        (["model.layers.conv1.filters"], ["conv1.filters"]),
        (["model.layers.conv1.kernel", "model.layers.conv2.kernel"], ["conv1.kernel", "conv2.kernel"]),
        (["data.path", "init_from.path"], ["data.path", "init_from.path"]),
        (["model.layers.a.block.kernel", "model.layers.b.block.kernel"], ["a.block.kernel", "b.block.kernel"]),
        (["+model.layers.drop1", "name", "run.name"], ["layers.drop1", "name", "run.name"]),
    ],
)
def test_keys_are_as_short_as_they_can_be(keys, names):
    assert short_names(keys) == names


def test_values_as_they_are_typed():
    assert [text(value) for value in (True, None, 1e-3, [1, "a"], {"type": "he"})] == [
        "true", "null", "0.001", "[1, a]", "{type: he}",
    ]  # fmt: skip
