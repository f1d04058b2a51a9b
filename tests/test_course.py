"""The numbers that courses on convolutional networks work out by hand."""

import numpy as np
import pytest

from cnnforge.spec import ModelSpec
from tests.building import build

CONV = {"type": "conv", "kernel": 5, "activation": "relu"}
POOL = {"type": "pool", "kernel": 2, "stride": 2}
LENET = {
    "conv1": CONV | {"filters": 6},
    "pool1": POOL,
    "conv2": CONV | {"filters": 16},
    "pool2": POOL,
    "fc3": {"type": "fc", "units": 120, "activation": "relu"},
    "fc4": {"type": "fc", "units": 84, "activation": "relu"},
    "output": {"type": "fc", "units": 10, "activation": "softmax"},
}


def model(layers, size) -> ModelSpec:
    return ModelSpec.model_validate({"name": "course", "input": list(size), "layers": layers})


class TestLenet:
    rows = model(LENET, (32, 32, 3)).table

    @pytest.mark.parametrize(
        ("name", "output", "activation_size", "params", "macs", "field"),
        [
            ("conv1", (28, 28, 6), 4704, 456, 28 * 28 * 6 * 75, 5),
            ("pool1", (14, 14, 6), 1176, 0, 0, 6),
            ("conv2", (10, 10, 16), 1600, 2416, 10 * 10 * 16 * 150, 14),
            ("pool2", (5, 5, 16), 400, 0, 0, 16),
            ("flatten", (400,), 400, 0, 0, 16),
            ("fc3", (120,), 120, 48_120, 48_000, 32),
            ("fc4", (84,), 84, 10_164, 10_080, 32),
            ("output", (10,), 10, 850, 840, 32),
        ],
    )
    def test_row(self, name, output, activation_size, params, macs, field):
        (row,) = [row for row in self.rows if row.name == name]
        assert (row.output, row.activation_size) == (output, activation_size)
        assert (row.param_count, row.trainable_count, row.macs) == (params, params, macs)
        assert row.field.size == (field, field)

    def test_totals(self):
        assert [row.name for row in self.rows] == [
            "conv1", "pool1", "conv2", "pool2", "flatten", "fc3", "fc4", "output",
        ]  # fmt: skip
        assert sum(row.param_count for row in self.rows) == 62_006
        assert sum(row.macs for row in self.rows) == 651_720


def test_simple_convnet():
    rows = model(
        {
            "conv1": {"type": "conv", "filters": 10, "kernel": 3},
            "conv2": {"type": "conv", "filters": 20, "kernel": 5, "stride": 2},
            "conv3": {"type": "conv", "filters": 40, "kernel": 5, "stride": 2},
            "output": {"type": "fc", "units": 1, "activation": "sigmoid"},
        },
        (39, 39, 3),
    ).table
    assert [row.output for row in rows] == [(37, 37, 10), (17, 17, 20), (7, 7, 40), (1960,), (1,)]
    assert rows[0].param_count == 280
    assert [row.field.size[0] for row in rows] == [3, 7, 15, 15, 39]


def convolved(image, **fields):
    """``image`` under one fixed 3x3 vertical edge filter."""
    block = {"type": "conv", "filters": 1, "kernel": 3, "bias": False, "init": {"filter": "vertical"}} | fields
    spec = model({"edges": block}, (*np.shape(image), 1))
    built = build(spec, batch=1, training=False)
    built.exe.weights.initialise(built.plan, seed=0)
    built.bound.x[...] = np.array(image, float)[None, :, :, None]
    built.run("forward", "output")
    return built.bound.outputs["output"][0, :, :, 0]


SIX = [
    [3, 0, 1, 2, 7, 4],
    [1, 5, 8, 9, 3, 1],
    [2, 7, 2, 5, 1, 3],
    [0, 1, 3, 1, 7, 8],
    [4, 2, 1, 6, 2, 8],
    [2, 4, 5, 2, 3, 9],
]
SIX_EDGES = [[-5, -4, 0, 8], [-10, -2, 2, 3], [0, -2, -4, -7], [-3, -2, -3, -16]]


def test_the_vertical_edge_detector():
    np.testing.assert_array_equal(convolved(SIX), SIX_EDGES)


def test_a_textbook_convolution_turns_the_filter_by_180_degrees():
    """The vertical filter turned is its negative."""
    np.testing.assert_array_equal(convolved(SIX, flip=True), -np.array(SIX_EDGES))


@pytest.mark.parametrize(("halves", "band"), [((10, 0), [0, 30, 30, 0]), ((0, 10), [0, -30, -30, 0])])
def test_a_bright_band_where_light_meets_dark(halves, band):
    image = np.repeat([list(np.repeat(halves, 3))], 6, axis=0)
    np.testing.assert_array_equal(convolved(image), [band] * 4)


def test_a_horizontal_filter_sees_the_same_edges_of_the_picture_on_its_side():
    turned = np.array(SIX).T
    np.testing.assert_array_equal(convolved(turned, init={"filter": "horizontal"}), np.array(SIX_EDGES).T)


@pytest.mark.parametrize(
    ("size", "stride", "padding", "out"),
    [(7, 2, "valid", 3), (6, 1, "valid", 4), (6, 1, "same", 6), (6, 2, "valid", 2), (8, 2, "valid", 3), (7, 3, 0, 2)],
)
def test_output_sizes_of_a_3x3_filter(size, stride, padding, out):
    image = np.arange(size * size).reshape(size, size)
    assert convolved(image, stride=stride, padding=padding).shape == (out, out)


def test_a_filter_over_a_volume_sums_over_its_channels():
    rows = model({"conv1": {"type": "conv", "filters": 2, "kernel": 3}}, (6, 6, 3)).table
    assert rows[0].output == (4, 4, 2)
    assert rows[0].param_count == 2 * (27 + 1)


def test_ten_3x3x3_filters_have_280_parameters_whatever_the_picture():
    for size in (5, 39, 1000):
        (row,) = model({"conv1": {"type": "conv", "filters": 10, "kernel": 3}}, (size, size, 3)).table
        assert row.param_count == 280


def test_max_and_average_pooling_of_a_4x4_picture():
    image = np.array([[1, 3, 2, 1], [2, 9, 1, 1], [1, 3, 2, 3], [5, 6, 1, 2]], float)
    for mode, expected in (("max", [[9, 2], [6, 3]]), ("average", [[3.75, 1.25], [3.75, 2]])):
        built = build(model({"pool": POOL | {"mode": mode}}, (4, 4, 1)), batch=1, training=False)
        built.bound.x[...] = image[None, :, :, None]
        built.run("forward", "output")
        np.testing.assert_array_equal(built.bound.outputs["output"][0, :, :, 0], expected)
