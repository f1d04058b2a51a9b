"""Points as plain values: listed, drawn, at the corners, with and without conditions."""

from itertools import islice, product

from cnnforge.spec import SweepSpec
from cnnforge.sweep.space import Space


def space(axes, **more):
    return Space.of(SweepSpec.model_validate({"space": axes, "budget": {"trials": 5}, **more}))


def test_a_grid_in_the_order_in_which_it_is_written():
    made = space({"a": [1, 2], "b": {"low": 5, "high": 7}, "c": ["x"]})
    assert list(made.enumerate()) == [{"a": a, "b": b, "c": "x"} for a, b in product((1, 2), (5, 6, 7))]
    assert made.size == 6


CONDITIONAL = {
    "lr": {"choices": [0.1, 0.2], "when": {"optimizer": ["sgd", "momentum"]}},
    "optimizer": ["adam", "sgd", "momentum"],
    "momentum": {"choices": [0.8, 0.9], "when": {"optimizer": "momentum", "lr": 0.2}},
}


def test_a_key_varies_only_where_its_condition_holds():
    found = [dict(values) for values in space(CONDITIONAL).enumerate()]
    assert found == [
        {"optimizer": "adam"},
        {"optimizer": "sgd", "lr": 0.1},
        {"optimizer": "sgd", "lr": 0.2},
        {"optimizer": "momentum", "lr": 0.1},
        {"optimizer": "momentum", "lr": 0.2, "momentum": 0.8},
        {"optimizer": "momentum", "lr": 0.2, "momentum": 0.9},
    ]
    assert space(CONDITIONAL).size == 6
    draws = [space(CONDITIONAL).sample(0, number) for number in range(60)]
    assert all(draw in found for draw in draws)
    assert all(point in draws for point in found)


def test_a_large_grid_is_counted_without_listing_it():
    made = space({f"a{i}": {"low": 0, "high": 999} for i in range(6)})
    assert made.size == 1000**6
    assert next(iter(made.enumerate())) == dict.fromkeys(made.axes, 0)


def test_no_end_of_points():
    assert space({"a": [1, 2], "b": {"low": 0, "high": 1.0}}).size is None


def test_a_draw_follows_from_seed_number_and_key_alone():
    axes = {"a": {"low": 0.0, "high": 1.0}, "b": {"low": 1, "high": 1000}}
    first = [space(axes).sample(3, n) for n in range(20)]
    assert first == [space(axes).sample(3, n) for n in range(20)]
    assert first != [space(axes).sample(4, n) for n in range(20)]
    other = [space({"c": [1, 2], **axes}).sample(3, n) for n in range(20)]
    assert [{key: draw[key] for key in axes} for draw in other] == first, "another axis changes nothing"
    assert len({draw["a"] for draw in first}) == 20
    assert 0.2 < sum(draw["a"] for draw in first) / 20 < 0.8


def test_corners():
    assert list(space({"a": [1, 2, 3], "b": {"low": 0.5, "high": 2.0}}).corners()) == [
        {"a": 1, "b": 0.5}, {"a": 1, "b": 2.0}, {"a": 3, "b": 0.5}, {"a": 3, "b": 2.0},
    ]  # fmt: skip
    assert space({"a": [1], "b": [2, 3]}).corners() == [{"a": 1, "b": 2}, {"a": 1, "b": 3}]
    ends = space(CONDITIONAL).corners()
    assert {"optimizer": "adam"} in ends
    assert {"optimizer": "momentum", "lr": 0.2, "momentum": 0.9} in ends


def test_corners_of_many_axes_are_few():
    keys = [f"a{i}" for i in range(10)]
    corners = space({key: {"low": 0, "high": 9} for key in keys}).corners()
    assert len(corners) == 22
    assert dict.fromkeys(keys, 0) in corners
    assert dict.fromkeys(keys, 9) in corners
    assert {**dict.fromkeys(keys, 0), "a3": 9} in corners
    assert {**dict.fromkeys(keys, 9), "a3": 0} in corners


def test_listing_is_lazy():
    made = space({"a": {"low": 0, "high": 10**12}, "b": [1, 2]})
    assert list(islice(made.enumerate(), 3)) == [{"a": 0, "b": 1}, {"a": 0, "b": 2}, {"a": 1, "b": 1}]
