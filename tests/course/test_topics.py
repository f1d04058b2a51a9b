"""What the pages claim, and what they compute it with."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnforge.config import compose, validate
from cnnforge.course import TOPICS, lesson_on, page
from cnnforge.course.computing import built, convolved
from cnnforge.course.markdown import written
from cnnforge.course.parts import Array, Code, Exercise, Grid, Page, Strip, Table, Text
from cnnforge.course.topics.backprop import PICTURE, ROUNDING, slope
from cnnforge.course.topics.edges import direction_error
from cnnforge.course.topics.field import paths
from cnnforge.course.topics.learned import likeness
from cnnforge.course.topics.padding import uses
from cnnforge.course.topics.why import as_matrix
from cnnforge.errors import ConfigErrors
from cnnforge.init import FILTERS
from cnnforge.shapes import window
from cnnforge.spec import ModelSpec


def words(made: Page) -> str:
    return "\n".join(part.text for part in made.parts if isinstance(part, Text | Code))


def grid(made: Page, strip: str, title: str) -> Array:
    """The numbers of a grid on the page."""
    (found,) = (part for part in made.parts if isinstance(part, Strip) and part.name == strip)
    (values,) = (item.values for item in found.items if isinstance(item, Grid) and item.title == title)
    return values


def table(made: Page, column: str) -> Table:
    (found,) = (part for part in made.parts if isinstance(part, Table) and column in part.head)
    return found


class TestClaims:
    def test_the_edge_of_the_half_bright_picture(self):
        made = page(lesson_on("edges"))
        assert grid(made, "first", "result").tolist() == [[0, 30, 30, 0]] * 4
        assert "**0 30 30 0**" in words(made)
        assert "**0 -30 -30 0**" in words(made)
        assert grid(made, "squares", "result")[1].tolist() == [30, 10, -10, -30]

    def test_fourteen_million_against_456(self):
        made = words(page(lesson_on("why")))
        assert "3,072 · 4,704 + 4,704 = 14,455,392 parameters" in made
        assert "(5·5·3 + 1) · 6 = 456 parameters" in made
        assert "About 14 million against 456" in made

    def test_sobels_numbers_are_found(self):
        made = page(lesson_on("learned"))
        assert "the distance is below 1e-6" in words(made)
        assert np.abs(grid(made, "filters", "40 epochs") - np.array(FILTERS["sobel_vertical"])).max() < 0.01
        assert table(made, "passes over the digits").rows[0][0] == "0"

    def test_pooling_by_hand(self):
        made = page(lesson_on("pooling"))
        assert grid(made, "modes", "max").tolist() == [[9, 2], [6, 3]]
        assert grid(made, "modes", "average").tolist() == [[3.75, 1.25], [3.75, 2]]
        assert grid(made, "overlap", "max").tolist() == [[9, 9, 5], [9, 9, 5], [8, 6, 9]]

    def test_lenet_has_62006_parameters(self):
        assert table(page(lesson_on("lenet")), "how").rows[-1] == ("total", "", "", "", "", "", "62,006", "651,720", "")

    def test_scharr_tells_directions_best(self):
        errors = [direction_error(f"{kind}vertical", f"{kind}horizontal") for kind in ("", "sobel_", "scharr_")]
        assert errors == sorted(errors, reverse=True)
        assert errors[2] < 0.3

    def test_the_gradients_of_the_page(self):
        """As the course works them out: dw is the picture under dy as a filter, dx is dy spread through the filter."""
        made = page(lesson_on("backprop"))
        dy, kernel = grid(made, "dy", "dy"), grid(made, "forward", "w")
        assert kernel.tolist() == [[1, 0, -1]] * 3
        assert grid(made, "dw", "dw")[0, 0] == (PICTURE[:2, :2] * dy).sum()
        dx = np.zeros((4, 4))
        for (r, c), share in np.ndenumerate(dy):
            dx[r : r + 3, c : c + 3] += share * kernel
        np.testing.assert_allclose(grid(made, "dx", "dx"), dx)
        assert f"They differ by less than {ROUNDING:.7f}" in words(made)

    def test_a_filter_is_like_itself(self):
        turned = np.array(FILTERS["sobel_vertical"]) + 2.0 * np.array(FILTERS["sobel_horizontal"])
        spot = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]])
        np.testing.assert_allclose(likeness(np.stack([turned, spot], -1)[:, :, None]), [1, 0], atol=1e-12)


@given(st.integers(3, 9), st.integers(3, 9), st.integers(1, 4), st.integers(1, 3), st.integers(0, 2))
@settings(max_examples=40)
def test_uses_counts_the_windows_over_each_pixel(rows, columns, f, s, p):
    w = window((rows, columns), (min(f, rows), min(f, columns)), (s, s), p)
    counted = np.zeros((rows + 2 * p, columns + 2 * p))
    for r in range(w.out[0]):
        for c in range(w.out[1]):
            counted[r * s : r * s + w.kernel[0], c * s : c * s + w.kernel[1]] += 1
    np.testing.assert_array_equal(uses((rows, columns), w), counted[p : p + rows, p : p + columns])


@given(st.integers(2, 5), st.integers(1, 3), st.data())
@settings(max_examples=20)
def test_a_convolution_is_a_matrix(size, f, data):
    numbers = st.integers(-9, 9)
    f = min(f, size)
    kernel = np.array(data.draw(st.lists(numbers, min_size=f * f, max_size=f * f)), float).reshape(f, f)
    picture = np.array(data.draw(st.lists(numbers, min_size=size**2, max_size=size**2)), float).reshape(size, size)
    np.testing.assert_allclose(as_matrix(size, kernel) @ picture.ravel(), convolved(picture, kernel).ravel())


LAYERS = st.lists(
    st.fixed_dictionaries({"kernel": st.integers(1, 3), "stride": st.integers(1, 2), "padding": st.integers(0, 1)}),
    min_size=1, max_size=3,
)  # fmt: skip


@given(LAYERS)
@settings(max_examples=25)
def test_what_is_tried_out_is_the_receptive_field(layers):
    """In size and place; padding and windows that leave gaps may take something away."""
    named = {f"conv{i}": {"type": "conv", "filters": 1, **layer} for i, layer in enumerate(layers)}
    model = ModelSpec.model_validate({"input": [21, 21, 1], "layers": named})
    for row, found in zip(model.table, paths(model, list(model.table)), strict=True):
        reached = np.flatnonzero(found.any(axis=1))
        assert len(reached) <= row.field.size[0]
        if not any(layer["padding"] or layer["stride"] > layer["kernel"] for layer in layers):
            assert len(reached) == row.field.size[0]
            middle = row.field.offset[0] + 2 * row.field.spacing[0] * (row.output[0] // 2)
            assert reached[0] + reached[-1] + 1 == middle, "in half pixels"


def test_slopes_leave_the_network_as_it_was():
    net = built(lesson_on("backprop").model)
    before = net.params["conv1.w"].copy()
    assert abs(slope(net, PICTURE, np.zeros((2, 2, 1)), "conv1.w", (0, 0, 0, 0))) > 0.1
    assert (net.params["conv1.w"] == before).all()


def shown(made: Page) -> str:
    return "\n".join(repr(part) for part in made.parts if not isinstance(part, Exercise))


@pytest.mark.parametrize("topic", [topic for topic in TOPICS if topic != "learned"])
def test_the_commands_of_the_exercises_show_other_pages(topic):
    made = page(lesson_on(topic))
    pages = [shown(made), *(shown(page(lesson_on(topic, exercise.overrides))) for exercise in made.exercises)]
    assert len(set(pages)) == len(pages) > 3


def test_a_readers_own_file_comes_first(tmp_path, monkeypatch):
    (tmp_path / "configs" / "model" / "course").mkdir(parents=True)
    (tmp_path / "configs" / "model" / "course" / "edges.yaml").write_text(
        "name: mine\ninput: [6, 6, 1]\nlayers:\n  edges: {type: conv, filters: 1, kernel: 3, bias: false, "
        "init: {filter: sobel_vertical}}\n"
    )
    monkeypatch.chdir(tmp_path)
    assert "**0 40 40 0**" in words(page(lesson_on("edges")))


def test_the_models_of_the_course_are_not_in_the_zoo_but_beside_it():
    assert validate(compose(["model=course/why"]), match_data=False).model.table[0].param_count == 456


NO_CONV = [f"~model.layers.conv{i}" for i in (1, 2, 3)]


@pytest.mark.parametrize(
    ("topic", "overrides", "why"),
    [
        ("padding", ["model=lenet"], "its pictures are shown number by number, and the input has 32x32 of them"),
        ("stride", ["model=course/pooling"], "pool1 is a pool"),
        ("edges", ["model.layers.edges.stride=2"], "padding and stride have pages of their own"),
        ("pooling", ["model=course/why"], "conv1 is a conv"),
        ("volumes", ["model.input=[6,6,7]"], "7 channels are too many to show one by one"),
        ("backprop", ["model.loss=null", "model=course/digits"], "its loss is softmax_cross_entropy"),
        ("backprop", ["model.layers.conv1.trainable=false"], "none of its layers learns"),
        ("lenet", ["model=course/pooling"], "no layer of it has weights"),
        ("learned", ["data=digits"], "it learns an edge filter back, and the data are digits"),
        ("learned", ["model=course/why"], "it has more than nine numbers to find"),
        ("field", [*NO_CONV, "+model.layers.a={type: fc, units: 2}"], "no layer of it has height and width"),
    ],
)
def test_a_page_says_what_it_cannot_speak_of(topic, overrides, why):
    with pytest.raises(ConfigErrors) as raised:
        page(lesson_on(topic, overrides))
    (error,) = raised.value.errors
    assert error.what == f"the page '{topic}' cannot speak of this model"
    assert (error.where, error.why) == (f"cnnforge explain {topic}", why)
    assert error.fix


@pytest.mark.slow
def test_the_answers_of_learned_filters():
    text, _ = written("learned")
    answers = text.partition("## Answers")[2]
    assert answers.count("the distance is below 1e-6") == 2
