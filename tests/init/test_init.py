"""How weights begin: their spread, their limits, and what they depend on."""

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from cnnforge.errors import ShapeError
from cnnforge.init import FILTERS, AnyInit
from cnnforge.init.filter import FilterName
from cnnforge.rng import stream

KEY = stream(0, "init", "conv1.w")


def make(value):
    return TypeAdapter(AnyInit).validate_python(value)


def fill(value, shape=(5, 5, 16, 64), fan=(400, 1600), key=KEY):
    init = make(value)
    init.check(shape)
    return init.fill(shape, fan, key)


@pytest.mark.parametrize(
    ("name", "variance", "limit"),
    [
        ("he", 2 / 400, None),
        ("he_uniform", 2 / 400, (6 / 400) ** 0.5),
        ("pytorch", 1 / 1200, (1 / 400) ** 0.5),
        ("glorot", 2 / 2000, (6 / 2000) ** 0.5),
        ("glorot_normal", 2 / 2000, None),
    ],
)
def test_the_spread_keeps_the_size_of_activations(name, variance, limit):
    w = fill(name)
    assert w.shape == (5, 5, 16, 64)
    error = 5 * variance * (2 / w.size) ** 0.5
    assert abs(w.var() - variance) < error
    assert abs(w.mean()) < 5 * (variance / w.size) ** 0.5
    if limit:
        assert abs(w).max() <= limit
        assert abs(w).max() > 0.99 * limit
    else:
        kurtosis = ((w / w.std()) ** 4).mean()
        assert abs(kurtosis - 3) < 0.2


@pytest.mark.parametrize("name", ["he", "he_uniform", "glorot", "glorot_normal", "pytorch"])
def test_a_draw_depends_on_its_key_alone(name):
    np.testing.assert_array_equal(fill(name), fill(name))
    for other in (stream(1, "init", "conv1.w"), stream(0, "init", "conv2.w")):
        assert (fill(name) != fill(name, key=other)).mean() > 0.99


def test_a_wider_layer_begins_with_the_same_first_numbers():
    np.testing.assert_array_equal(fill("he", (6,), (6, 6)), fill("he", (9,), (6, 6))[:6])


def test_constants():
    assert (fill("zeros") == 0).all()
    assert (fill("ones") == 1).all()
    assert (fill({"constant": -0.5}) == -0.5).all()
    assert (fill({"constant": "1e-2"}) == 0.01).all()


class TestFilters:
    def test_they_are_the_textbooks(self):
        assert FILTERS["vertical"] == ((1, 0, -1),) * 3
        assert FILTERS["sobel_vertical"] == ((1, 0, -1), (2, 0, -2), (1, 0, -1))
        assert FILTERS["scharr_vertical"] == ((3, 0, -3), (10, 0, -10), (3, 0, -3))
        assert set(FILTERS) == set(FilterName.__args__)

    @pytest.mark.parametrize("name", [name for name in FILTERS if "vertical" in name])
    def test_a_horizontal_one_is_a_vertical_one_on_its_side(self, name):
        other = np.array(FILTERS[name.replace("vertical", "horizontal")])
        np.testing.assert_array_equal(other, np.array(FILTERS[name]).T)

    def test_every_channel_of_every_filter(self):
        w = fill({"filter": "sobel_vertical"}, (3, 3, 2, 4), (18, 36))
        for c, f in np.ndindex(2, 4):
            np.testing.assert_array_equal(w[:, :, c, f], FILTERS["sobel_vertical"])

    def test_one_name_for_each_filter(self):
        w = fill({"filter": ["vertical", "horizontal"]}, (3, 3, 1, 2), (9, 18))
        np.testing.assert_array_equal(w[:, :, 0, 0], FILTERS["vertical"])
        np.testing.assert_array_equal(w[:, :, 0, 1], FILTERS["horizontal"])

    @pytest.mark.parametrize("shape", [(5, 5, 1, 2), (3, 2, 1, 2), (400, 10), (3, 3), (3,)])
    def test_a_weight_that_is_no_3x3_filter(self, shape):
        with pytest.raises(ShapeError) as caught:
            fill({"filter": "vertical"}, shape)
        assert caught.value.what == "init filter: an image filter is 3x3"
        assert caught.value.fix == "kernel: 3, on a conv layer"

    def test_a_list_of_another_length(self):
        with pytest.raises(ShapeError) as caught:
            fill({"filter": ["vertical"]}, (3, 3, 1, 2))
        assert caught.value.what == "init filter: 1 filter names for 2 filters"
        assert caught.value.fix == "filters: 1, or one name for all of them"


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("he", {"type": "he"}),
        ({"constant": 0.1}, {"type": "constant", "value": 0.1}),
        ({"filter": "vertical"}, {"type": "filter", "name": "vertical"}),
    ],
)
def test_short_forms(short, long):
    assert make(short) == make(long)
    assert make(long) == make(make(long))


@pytest.mark.parametrize(
    "value", ["hee", {"he": 5}, {"constant": None}, {"filter": "diagonal"}, {"type": "he", "x": 1}, {}]
)
def test_what_is_no_initialiser(value):
    with pytest.raises(ValidationError):
        make(value)
